"""Facts: what must be recorded before anybody hears of it.

Jobs were accepted; a call was handed out, or something became of it; a job is to be cancelled; a
job ended. `JobTable.facts` gives those that nobody has been told of yet; `JobTable.recorded` says
that they are safe, and only then do they come into effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from dte.core.graph.call import Call, CallState
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job, JobState

if TYPE_CHECKING:
    from dte.core.calls.lease import CallLease


@dataclass(slots=True, eq=False)
class End:
    """A job ended.

    Attributes:
        at: when, on the core's clock.
        answer: the formula's value, or the JSON of another answer; None if there is none.
        error: why there is none.
        state: how.
        events: what those who watch are told with it.
    """

    job: Job
    at: float
    answer: Number | bytes | None = None
    error: str | None = None
    state: JobState = JobState.SUCCEEDED
    events: Sequence[Event] = ()


@dataclass(slots=True)
class CallRecord:
    """All that is remembered of a call whose attempts are recorded. It never changes.

    Attributes:
        state: how it ended; None if it has not.
        lease: the number of the lease under which a worker has it; 0 for none.
        lease_s: see `CallLease`.
        The others: see `Call`.
    """

    name: str
    state: CallState | None
    attempts: int
    failures: int
    lost: int
    lease: int
    lease_s: float
    worker: str
    started_at: float | None
    ended_at: float | None
    resumes_at: float | None
    value: bytes | None
    error: str | None


@dataclass(slots=True, eq=False)
class Step:
    """A call was handed out, or something became of that.

    Attributes:
        lease: the hand-over that begins when this is recorded; None for none.
        ends: how the call ends when this is recorded; None if it does not.
        record: what is to be remembered of the call.
    """

    call: Call
    record: CallRecord
    lease: CallLease | None = None
    ends: CallState | None = None


@dataclass(slots=True, eq=False)
class Cancel:
    """A job is to be cancelled of which workers have calls."""

    job: Job
    at: float


@dataclass(slots=True, eq=False)
class Submission:
    """Jobs were accepted: all of them or none.

    Attributes:
        jobs: in the order of their numbers, which follow each other.
        texts: the whole formulas, of which the jobs may keep a part; of other jobs their plans.
        ends: how those of the jobs ended that have nothing to be done for them.
        key: what the client calls this submission, so that a repeat is recognised; "" for nothing.
        digest: what tells its body from others.
    """

    jobs: list[Job]
    texts: Sequence[str]
    ends: list[End] = field(default_factory=list)
    key: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class KnownSubmission:
    """What is remembered of a submission by its key.

    Attributes:
        digest: of its body.
        first: the number of its first job.
        count: how many jobs it has.
    """

    digest: str
    first: int
    count: int


@dataclass(slots=True, eq=False)
class Facts:
    """Facts to be recorded together: all of them or none."""

    submissions: list[Submission]
    ends: list[End]
    steps: list[Step] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.submissions or self.ends or self.steps or self.cancels)

    def all_ends(self) -> list[End]:
        """The ends, also those of jobs that are accepted here."""
        ends = [end for submission in self.submissions for end in submission.ends]
        return ends + self.ends


class Event(NamedTuple):
    """Something that people who watch want to hear of.

    Attributes:
        at: when, on the core's clock.
        job: the number of the job.
        node: the name of a call of it; "" for the job itself.
        state: the new state; ``progress`` where a handler says how far it is.
        text: why, or how far.
        fraction: how far, from 0 to 1.
    """

    at: float
    job: int
    node: str
    state: str
    text: str | None = None
    fraction: float | None = None


def record_of(call: Call, ends: CallState | None = None) -> CallRecord:
    """What is to be remembered of a call now, and how it ends by that."""
    lease = call.lease
    return CallRecord(
        call.name,
        ends,
        call.attempts,
        call.failures,
        call.lost,
        lease.number if lease is not None else 0,
        lease.lease_s if lease is not None else 0.0,
        call.worker,
        call.started_at,
        call.ended_at,
        call.resumes_at,
        call.value,
        call.error,
    )


def end_record(call: Call) -> CallRecord:
    """What is to be remembered of a call whose job has ended."""
    if call.is_terminal:
        return record_of(call, call.state)
    # Its job ended without it; that it is told so may come a moment later.
    record = record_of(call, CallState.CANCELLED)
    return replace(record, lease=0, value=None, error="its job has ended")
