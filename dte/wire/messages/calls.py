"""What master and workers say to each other about calls of handlers.

A worker gets calls by `POST /compute` from the master, or fetches them itself by `POST /claim`.
Either way it reports what became of them by `POST /result`, and keeps its leases meanwhile by
`POST /extend`. A worker that announced no batches is handed one `Call` a request, and may as well
answer that request with 200 and a `CallResult`, or with an error status and a `Refusal`; 202 says
that the result will be reported.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dte.wire.messages.batches import Batch, BatchResult
from dte.wire.messages.handlers import Handlers


class Call(msgspec.Struct):
    """One call of a handler, under a lease of its own.

    Attributes:
        lease: the lease's number, given back with the result.
        job_id: the job that it is part of.
        node: its name in the job.
        handler: what to call.
        args: the JSON of a list of arguments, or of an object of named ones.
        timeout: seconds after which the worker is to stop it; None for never.
        attempt: how often it has been handed out, this time included.
        lease_s: the lease ends after so many seconds, unless it is extended.
    """

    lease: int
    job_id: int
    node: str
    handler: str
    args: msgspec.Raw
    timeout: float | None
    attempt: int
    lease_s: float


class Calls(msgspec.Struct):
    """Several calls for one worker: the body of ``POST /compute``, answered with 202."""

    calls: list[Call]


class CallResult(msgspec.Struct):
    """The reply of a worker that answers at once."""

    result: msgspec.Raw


class Stop(msgspec.Struct):
    """``POST /stop`` to a worker: it is to stop calls, and to report them as cancelled."""

    leases: list[int]


class Stopped(msgspec.Struct):
    """The reply to `Stop`: these are being stopped; the others are not known."""

    leases: list[int]


State = Literal["succeeded", "failed", "timed_out", "cancelled", "returned", "lost"]


class Report(msgspec.Struct, omit_defaults=True):
    """What became of one call.

    Attributes:
        lease: the lease's number.
        result: any JSON, of a call that succeeded.
        error: why there is none.
        state: ``succeeded`` if there is no error, else ``failed``; ``timed_out``, ``cancelled``,
            ``returned``: it was not begun, or was stopped though it had done nothing wrong, as its
            worker left; or ``lost``: its process ended, and nobody knows by which of its calls.
        retry: whether trying again can make sense; not after bad arguments, say.
        begun: of a `returned` call: it had begun, and was stopped.
    """

    lease: int
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    state: State | None = None
    retry: bool = True
    begun: bool = False


class Reports(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /result``: reports of calls, and results of batches."""

    worker: str
    results: list[Report] = []
    batches: list[BatchResult] = []


class ReportsReply(msgspec.Struct):
    """The reply to `Reports`, when what was accepted is recorded.

    Attributes:
        accepted: the leases whose results count.
        stale: those that had ended before, so that their results change nothing.
    """

    accepted: list[int]
    stale: list[int]


class Progress(msgspec.Struct):
    """How far a call is: from 0 to 1, and a text for people."""

    fraction: float
    text: str = ""


class Extend(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /extend``: a worker is at work on these leases."""

    worker: str
    leases: list[int] = []
    progress: dict[int, Progress] = {}


class ExtendReply(msgspec.Struct):
    """The reply to `Extend`.

    Attributes:
        extended: the leases that go on, for `lease_s` more seconds from now.
        lost: those that have ended: to be stopped, as nobody wants their results.
        stop: those that go on and are to be stopped and reported as cancelled.
    """

    extended: list[int]
    lost: list[int]
    stop: list[int]
    lease_s: float


class Claim(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /claim``: a worker that cannot be called asks for work.

    Attributes:
        worker: its name, which no other worker that claims has.
        handlers: what it can do.
        slots: how many calls it takes now.
        wait: seconds to wait for work, if there is none.
        batch_max: how many arithmetic operations it takes; 0 for none.
        incarnation: differs for each start of the worker.
        draining: it claims nothing and leaves; what it has it still reports.
    """

    worker: str
    handlers: Handlers = {}
    slots: int = 1
    wait: float = 0.0
    batch_max: int = 0
    incarnation: str = ""
    draining: bool = False


class Claimed(msgspec.Struct):
    """The reply to `Claim`: both lists are empty when there was nothing to do in time."""

    calls: list[Call]
    batches: list[Batch]
