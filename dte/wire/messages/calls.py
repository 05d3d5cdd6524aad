"""Messages for calls of handlers.

A worker receives calls by ``POST /compute`` from the master, or claims them by ``POST /claim``.
In both cases it extends its leases by ``POST /extend`` and reports outcomes by ``POST /result``.

A worker that announced no batches receives one `Call` per request. It may answer that request with
200 and a `CallResult`, or with an error status and a `Refusal`. The status 202 promises a report.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dte.wire.messages.batches import Batch, BatchResult
from dte.wire.messages.handlers import Handlers


class Call(msgspec.Struct):
    """One call of a handler, under a lease of its own.

    Attributes:
        lease: the number of the lease; the report carries it too.
        node: the name of the call in its job.
        args: a list of positional arguments, or an object of named ones.
        kwargs: named arguments beside positional ones, for workers that announce `kwargs`.
        timeout: seconds after which the worker stops the call; null for never.
        attempt: the number of this attempt, from 1.
        lease_s: the duration of the lease in seconds; an extension renews it.
    """

    lease: int
    job_id: int
    node: str
    handler: str
    args: msgspec.Raw
    timeout: float | None
    attempt: int
    lease_s: float
    kwargs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Calls(msgspec.Struct):
    """The body of ``POST /compute`` with several calls; the answer is 202."""

    calls: list[Call]


class CallResult(msgspec.Struct):
    """The reply of a worker that answers a call at once."""

    result: msgspec.Raw


class Stop(msgspec.Struct):
    """The body of ``POST /stop`` to a worker, which stops the calls and reports them cancelled."""

    leases: list[int]


class Stopped(msgspec.Struct):
    """The reply to `Stop`: the leases whose calls are being stopped. The worker has no others."""

    leases: list[int]


State = Literal["succeeded", "failed", "timed_out", "cancelled", "returned", "lost"]


class Progress(msgspec.Struct):
    """The progress of a call: a fraction from 0 to 1, and a text for people."""

    fraction: float
    text: str = ""


class Report(msgspec.Struct, omit_defaults=True):
    """The outcome of one call.

    Attributes:
        result: any JSON, for a call that succeeded.
        error: the reason, for a call that did not succeed.
        state: by default ``succeeded`` without an error and ``failed`` with one. Also
            ``timed_out``; ``cancelled``; ``returned`` for a call that did not run or was stopped
            through no fault of its own, because its worker left; and ``lost`` if its process ended
            and any of several calls may have ended it.
        retry: a retry may help; false after bad arguments, for example.
        begun: a `returned` or `cancelled` call had begun and was stopped.
        trace: the stack trace of the error, from the first frame of the handler on.
        progress: the last progress, if the worker has not sent it with an extension.
    """

    lease: int
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    state: State | None = None
    retry: bool = True
    begun: bool = False
    trace: str | None = None
    progress: Progress | None = None


class Reports(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /result``: outcomes of calls and results of batches."""

    worker: str
    results: list[Report] = []
    batches: list[BatchResult] = []


class ReportsReply(msgspec.Struct):
    """The reply to `Reports`, sent once the accepted results are in the journal.

    Attributes:
        accepted: the leases whose results count.
        stale: the leases that had ended before; their results change nothing.
    """

    accepted: list[int]
    stale: list[int]


class Extend(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /extend``: the leases that a worker still works on."""

    worker: str
    leases: list[int] = []
    progress: dict[int, Progress] = {}


class ExtendReply(msgspec.Struct):
    """The reply to `Extend`.

    Attributes:
        extended: the leases that are extended, by `lease_s` seconds from now.
        lost: the leases that have ended; the worker stops their calls and reports nothing.
        stop: extended leases whose calls the worker stops and reports as cancelled.
        lease_s: the duration of an extended lease in seconds.
    """

    extended: list[int]
    lost: list[int]
    stop: list[int]
    lease_s: float


class Claim(msgspec.Struct, omit_defaults=True):
    """The body of ``POST /claim``: a worker that the master cannot call asks for work.

    Attributes:
        worker: its name, unique among the workers that claim.
        slots: the number of calls that it takes now.
        wait: the longest time to wait for work, in seconds.
        batch_max: the number of arithmetic operations that it takes; 0 for none.
        incarnation: a text that differs for each start of the worker.
        draining: the worker leaves and claims nothing; it still reports the calls that it has.
        failing: the reason why it cannot start processes for handlers, and gets no calls.
        replaced, kwargs: as in `Announce`.
        sessions: it has a session, and shows it.
    """

    worker: str
    handlers: Handlers = {}
    slots: int = 1
    wait: float = 0.0
    batch_max: int = 0
    incarnation: str = ""
    draining: bool = False
    failing: str | None = None
    replaced: Handlers = {}
    kwargs: bool = False
    sessions: bool = False


class Claimed(msgspec.Struct):
    """The reply to `Claim`: both lists are empty if there was no work in time.

    Attributes:
        session: the worker's, which its further requests must show; absent if it has none.
    """

    calls: list[Call]
    batches: list[Batch]
    session: str | msgspec.UnsetType = msgspec.UNSET
