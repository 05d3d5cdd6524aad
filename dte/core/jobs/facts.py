"""Facts: what must be recorded before anybody sees its effect.

Jobs were accepted; a call was handed out, came back or ended; a job is to be cancelled; a job
ended. `JobTable.facts` gives the facts that are not recorded yet, each once. They take effect when
`Scheduler.recorded` is called with them.

Their times are those of the wall clock, in seconds since 1970, as it stood then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job, JobState

JOB_ENDED = "its job has ended"
"""The error of a call whose job ended without it."""


@dataclass(slots=True, eq=False)
class End:
    """A job ended.

    Attributes:
        at: when, by the wall clock.
        answer: the formula's value, or the JSON of another answer; None if there is none.
        error: the reason why there is none.
        events: further events that become visible with it.
        trace: the stack trace of the failure.
    """

    job: Job
    at: float
    answer: Number | bytes | None = None
    error: str | None = None
    state: JobState = JobState.SUCCEEDED
    events: Sequence[Event] = ()
    trace: str | None = None


@dataclass(slots=True, eq=False)
class Step:
    """A call was handed out, came back, or ended.

    Attributes:
        record: the call's record now. If it has a lease, that lease begins once this is recorded;
            if it has a state, the call ends then.
    """

    call: Call
    record: CallRecord


@dataclass(slots=True, eq=False)
class Cancel:
    """A job is to be cancelled whose calls workers have."""

    job: Job
    at: float


@dataclass(slots=True, eq=False)
class Submission:
    """Jobs were accepted: all of them or none.

    Attributes:
        jobs: in the order of their numbers, which follow each other.
        texts: the whole formulas, of which jobs may keep a part, or the plans.
        ends: the ends of jobs for which nothing is to be done.
        key: the client's key for this submission, by which a repeat is recognised; "" for none.
        digest: identifies its body.
    """

    jobs: list[Job]
    texts: Sequence[str]
    ends: list[End] = field(default_factory=list)
    key: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class KnownSubmission:
    """The record of a submission with a key.

    Attributes:
        digest: identifies its body.
        first: the number of its first job.
        count: the number of its jobs.
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

    def __len__(self) -> int:
        """The number of facts, with each job of a submission."""
        jobs = sum([len(each.jobs) for each in self.submissions])
        return jobs + len(self.cancels) + len(self.steps) + len(self.ends)

    def parts(self, most: int) -> Iterator[Facts]:
        """The facts in the order in which they take effect, those of `most` jobs and calls a part.

        A submission is in one part, however many jobs it has.
        """
        if len(self) <= most:
            yield self
            return
        part, left = Facts([], []), most
        for kind in ("submissions", "cancels", "steps", "ends"):
            for fact in getattr(self, kind):
                getattr(part, kind).append(fact)
                left -= len(fact.jobs) if kind == "submissions" else 1
                if left <= 0:
                    yield part
                    part, left = Facts([], []), most
        if part:
            yield part


class Event(NamedTuple):
    """A change for clients that watch.

    Attributes:
        at: when, by the wall clock.
        job: the number of the job.
        node: the name of a call of it; "" for the job itself.
        state: the new state; ``progress`` for a handler's report.
        text: the reason, or the text of the report.
        fraction: the progress, from 0 to 1.
        by: the owner who submitted or cancelled the job.
    """

    at: float
    job: int
    node: str
    state: str
    text: str | None = None
    fraction: float | None = None
    by: str = ""


def call_event(wall_s: float, call: Call, text: str | None = None) -> Event:
    """The state of a call; its error is the reason, unless a text is."""
    return Event(wall_s, call.job, call.name, call.state.value, text or call.record.error)


def end_at_once(wall_s: float, job: Job, value: Number | None, failure: str | None) -> End:
    """The end of a job for which nothing is to be done."""
    state = JobState.SUCCEEDED if failure is None else JobState.FAILED
    end = End(job, wall_s, value, failure, state)
    calls = [call for call in job.each_call() if not call.is_terminal]
    for call in calls:
        call.end(wall_s, CallState.CANCELLED, JOB_ENDED)
    end.events = [call_event(wall_s, call) for call in calls]
    return end
