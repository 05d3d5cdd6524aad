"""Replies of a master, besides jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from dte.client.job import Job


class Progress(msgspec.Struct, frozen=True):
    """The progress that a handler reports: a fraction from 0 to 1, and a text."""

    fraction: float
    text: str = ""


class NodeInfo(msgspec.Struct, frozen=True, rename={"name": "node"}):
    """A call of a job.

    Attributes:
        name: the name of the call in the job.
        state: ``waiting``, ``paused``, ``ready``, ``running``, ``cancelling``, ``succeeded``,
            ``failed``, ``timed_out``, ``cancelled``, or ``skipped`` if what it waited for failed.
        attempts: the number of attempts so far.
        failures: the number of failed attempts.
        worker: the name of the worker of the last attempt.
        result: any JSON.
        started_at, ended_at: times by the master's clock.
        progress: the last progress that the handler reported.
        trace: the stack trace of the last attempt, if its handler raised an exception.
    """

    name: str
    handler: str
    state: str
    attempts: int = 0
    failures: int = 0
    worker: str = ""
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    trace: str | None = None


class Reason(msgspec.Struct, frozen=True):
    """The reason why an operation waits.

    Attributes:
        node: the name of a call; "" for the job itself or its arithmetic.
        state: the state of the call or of the job.
        waits_for: the kind of reason: ``operands``, ``worker``, ``slot``, ``delay``, ``retry`` or
            another word.
        text: the reason in a sentence.
        names: the first of the names for which it waits.
        place: the number of calls ahead, if it waits for a slot.
        until: the time at which it continues, if it waits for a time.
    """

    node: str
    state: str
    waits_for: str = ""
    text: str = ""
    names: list[str] = []
    place: int | None = None
    until: datetime | None = None


class Why(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """The reasons why the unfinished operations of a job wait; `more` others are left out."""

    id: int
    state: str
    reasons: list[Reason] = []
    more: int = 0


class Retried(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """The reply to a retry: the new job, and the job whose failed part it repeats."""

    id: int
    retry_of: int


class LoginLink(msgspec.Struct, frozen=True):
    """A link that logs a browser in once, relative to the master's URL."""

    path: str


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker as the master knows it.

    Attributes:
        worker_name: the worker's name; it need not be unique.
        address: host and port; they are unique.
        state: ``free``, ``busy``, ``pausing``, ``failing``, ``unreachable``, ``draining``
            or ``gone``.
        slots: the number of requests for arithmetic that it takes at once.
        leases: the number of such requests under way.
        batch: the largest number of operations in one request.
        operations_done: the number of operations with a result since the master first saw it.
        failures: the number of failures in a row.
        heard_at: the time of its last announcement or answer.
        handler_slots: the number of calls that it takes at once.
        calls: the number of calls that it has now.
        calls_done: the number of calls with a result since the master first saw it.
        failing: the reason why it cannot start processes for handlers, if it is ``failing``.
    """

    worker_name: str
    address: str
    state: str
    slots: int
    leases: int
    batch: int
    operations_done: int
    failures: int
    last_failure: str | None
    heard_at: datetime | None
    handler_slots: int = 0
    calls: int = 0
    calls_done: int = 0
    failing: str | None = None


class BatchAccepted(msgspec.Struct, frozen=True):
    """The reply to a batch of formulas: their ids in order, and their jobs if requested."""

    job_ids: list[int]
    jobs: list[Job] = []


class ErrorReply(msgspec.Struct, frozen=True):
    """A reply with an error status."""

    error: str
    code: str = ""
    reason: str = ""
    column: int = 0
    caret: str = ""
    index: int | None = None
    wait_max_s: float = 0.0
