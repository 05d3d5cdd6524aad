"""What a master's replies are read into."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from dte.client.job import Job


class Progress(msgspec.Struct, frozen=True):
    """How far a handler says that it is: from 0 to 1, and a text."""

    fraction: float
    text: str = ""


class NodeInfo(msgspec.Struct, frozen=True, rename={"name": "node"}):
    """A call of a job.

    Attributes:
        name: its name in the job.
        handler: what is called.
        state: ``waiting``, ``paused``, ``ready``, ``running``, ``cancelling``, ``succeeded``,
            ``failed``, ``timed_out`` or ``cancelled``.
        attempts: how often it has been handed to a worker.
        failures: how many of these failed.
        worker: the name of the worker that had it last.
        result: what it gave, whatever JSON has.
        error: why there is none.
        started_at, ended_at: by the master's clock.
        progress: what its handler said last.
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


class Reason(msgspec.Struct, frozen=True):
    """What an operation waits for.

    Attributes:
        node: a call's name; "" for the job itself, or its arithmetic.
        state: the call's, or the job's.
        waits_for: a word, such as ``operands``, ``worker``, ``slot``, ``delay`` or ``retry``.
        text: the same for people.
        names: of what it waits for, the first of them.
        place: how many calls come before it, if it waits for a slot.
        until: when it goes on, if it waits for a moment.
    """

    node: str
    state: str
    waits_for: str = ""
    text: str = ""
    names: list[str] = []
    place: int | None = None
    until: datetime | None = None


class Why(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """What the unfinished operations of a job wait for; `more` of them are not told."""

    id: int
    state: str
    reasons: list[Reason] = []
    more: int = 0


class Retried(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """The reply to a retry: the job that does the failed part of another again."""

    id: int
    retry_of: int


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker as the master knows it.

    Attributes:
        worker_name: need not be unique; the `address` is.
        state: ``free``, ``busy``, ``pausing``, ``draining`` or ``gone``.
        slots: how many requests it takes at a time.
        leases: how many it has now.
        handler_slots: how many calls it takes at a time.
        calls: how many it has now.
        batch: how many operations it is handed in one at most.
        operations_done: since it was first known.
        calls_done: since it was first known.
        failures: in a row, and the last of them.
        heard_at: when it last announced itself or answered.
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


class BatchAccepted(msgspec.Struct, frozen=True):
    """The reply to many formulas: their ids in order, and how they stand if that was asked for."""

    job_ids: list[int]
    jobs: list[Job] = []


class ErrorReply(msgspec.Struct, frozen=True):
    """A master's reply with an error status."""

    error: str
    code: str = ""
    reason: str = ""
    column: int = 0
    caret: str = ""
    index: int | None = None
    wait_max_s: float = 0.0
