"""The job table: every job from its acceptance until it is forgotten, and the facts about it.

accept ──▶ facts ──▶ admit … end ──▶ facts ──▶ close ──▶ forgotten, when newer ones have ended
             └─▶ withdraw, if the submission is void
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.graph.arithmetic import Graph
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.core.jobs.facts import Cancel, End, Event, Facts, Step, Submission, end_at_once
from dte.core.jobs.job import Job, JobState, forget_large_plan, kept_task
from dte.core.jobs.outbox import Outbox
from dte.core.jobs.owned import OwnedWork
from dte.core.jobs.ready import ReadySet
from dte.core.jobs.ring import JobRing
from dte.core.limits import SchedulerLimits
from dte.core.shares import OWN_USER

ENDED_IN_TICK = 500
"""Most ended jobs of which a tick tells those who wait for them."""
SWEEP_OPERATIONS = 20_000
"""Operations of an ended graph that are freed in a tick: about a millisecond's work."""


class NewJob(NamedTuple):
    """A job to be accepted, or to go on after a restart.

    Attributes:
        task: its formula, or a description of its plan for people.
        work: its operations.
        plan: its whole text where it is more than a formula; a restart reads it again.
        priority: higher is sooner.
        notify: a URL to be told of its end; "" for none.
        awaited: jobs that must end before any of its calls begins.
        run_on_failure: it begins even if one of these failed.
        expects: names of jobs that must end before, too, and that are not there yet.
        retry_of: the number of the job whose failed part it repeats.
    """

    task: str
    work: Work
    plan: str | None = None
    priority: int = 0
    notify: str = ""
    awaited: Sequence[Job] = ()
    run_on_failure: bool = False
    expects: Collection[str] = ()
    retry_of: int | None = None


class JobTable:
    """Every job in memory, and the operations that are ready.

    Attributes:
        ready: the ready operations of all jobs.
        waiting: jobs that have not ended, or whose end is not recorded.
        operations_waiting: operations of these that have not ended.
        operations_done: operations that have got a result, in all.
        bytes_waiting: about how many bytes texts, arguments and results of these jobs take.
        wall_offset_s: turns a moment of the core's clock into one of the wall clock, as that stands
            now. Times that people see are stamped with it, and not changed when it changes.
        owned: the unfinished work of each owner.
        events: those that `take_events` gives next.
        keeps_plans: the recorder gives plans of ended jobs, so the table forgets large ones.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._answer_limit: int = 10**limits.digits_max
        self._ring = JobRing(limits.jobs_kept, limits.jobs_kept_bytes)
        self._sweep: deque[Graph | CallGraph] = deque()
        self._outbox = Outbox()
        self.owned = OwnedWork(limits)
        self._ended: list[Job] = []
        self._last = 0
        self.ready = ReadySet()
        self.waiting = 0
        self.operations_waiting = 0
        self.operations_done = 0
        self.bytes_waiting = 0
        self.wall_offset_s = 0.0
        self.events: list[Event] = []
        self.keeps_plans = False

    # Looking up

    @property
    def last(self) -> int:
        """The number of the last job that was accepted."""
        return self._last

    def job(self, number: int) -> Job:
        """The job of that number.

        Raises:
            NotFound: there is none, or it ended long ago and is not in memory.
        """
        job = self._ring.get(number)
        if job is None or job.state is JobState.ACCEPTING:
            raise NotFound("Job not found")
        return job

    def unfinished(self, number: int) -> Job | None:
        """The job of that number, if it has operations to do; None if it ends or has ended."""
        job = self._ring.get(number)
        return job if job is not None and job.graph is not None else None

    def is_past(self, number: int) -> bool:
        """True if a job may have had that number and is not in memory any more."""
        return 0 < number <= self._last and self._ring.get(number) is None

    def newest(self, count: int) -> Iterator[Job]:
        """Up to `count` jobs, ended or not, the newest first."""
        jobs = self._ring.newest(len(self._ring))
        return islice((job for job in jobs if job.state is not JobState.ACCEPTING), count)

    # Accepting

    def ensure_room(
        self, jobs: int, operations: int = 0, size: int = 0, owner: str = OWN_USER
    ) -> None:
        """Check that more work may wait.

        Args:
            size: bytes of texts and arguments.
            owner: whose work it is.

        Raises:
            Busy: it may not now; the message names the bound.
            TooLarge: it never may.
        """
        limits = self._limits
        if operations > limits.operations_waiting_max:
            raise TooLarge(
                f"too many operations: {operations} > {limits.operations_waiting_max} "
                "(operations_waiting_max)"
            )
        for name, waiting, more, most in (
            ("jobs", self.waiting, jobs, limits.jobs_waiting_max),
            ("operations", self.operations_waiting, operations, limits.operations_waiting_max),
            ("bytes", self.bytes_waiting, size, limits.bytes_waiting_max),
        ):
            if waiting + more > most:
                raise Busy(
                    f"too many unfinished {name}: {waiting} + {more} > {most} ({name}_waiting_max)"
                )
        if owner:
            self.owned.ensure_room(owner, jobs, operations, size)

    def accept(
        self,
        now: float,
        new_jobs: Sequence[NewJob],
        key: str = "",
        digest: str = "",
        owner: str = OWN_USER,
    ) -> Submission:
        """Accept jobs: all of them or none.

        Nothing is done for them, and nobody sees them, until they are recorded.

        Args:
            key: see `Submission`.
            digest: see `Submission`.
            owner: whose jobs they are.

        Raises:
            Busy: too much work waits.
        """
        jobs: list[Job] = []
        texts: list[str] = []
        ends: list[End] = []
        wall_s = now + self.wall_offset_s
        waiting = operations = size = 0
        for number, new in enumerate(new_jobs, self._last + 1):
            job = Job(number, kept_task(new.task), wall_s, 0, None)
            operations += _fill(job, new)
            size += job.size
            jobs.append(job)
            texts.append(new.task if new.plan is None else new.plan)
            value, failure = new.work.value, new.work.graph.failure
            waiting += value is None
            # What fails beside many calls fails in slices when it begins.
            is_long = job.calls is not None and job.calls.is_long
            if value is not None or (failure is not None and not is_long):
                ends.append(end_at_once(wall_s, job, value, failure))
        self.ensure_room(waiting, operations, size, owner)
        for job in jobs:
            self._ring.add(job)
            if owner:
                job.owner = owner
                self.owned.add(job)
        self._last += len(jobs)
        self.waiting += len(jobs)
        self.operations_waiting += operations
        self.bytes_waiting += size
        submission = Submission(jobs, texts, ends, key, digest)
        self._outbox.submissions.append(submission)
        return submission

    # Recording

    def facts(self, most: int | None = None) -> Facts | None:
        """The facts to be recorded next, if there are any; each is given once."""
        return self._outbox.take(most)

    def admit(self, submission: Submission) -> None:
        """Let the jobs of a recorded submission begin; those with nothing to do end."""
        for job in submission.jobs:
            job.enter(JobState.WAITING)
            self.events.append(Event(job.submitted_at, job.number, "", "waiting", by=job.owner))
        for end in submission.ends:
            self._stop(end.job)
            self.close(end)
        for job in submission.jobs:
            if job.graph is not None:
                self.ready.add(job, len(job.graph.ready))

    def withdraw(self, submission: Submission) -> None:
        """Drop the jobs of a void submission."""
        for job in submission.jobs:
            self._ring.remove(job)
            self.waiting -= 1
            self.operations_waiting -= job.left
            self.bytes_waiting -= job.size
            self.owned.remove(job)
            job.calls = None
            self._let_go(job)

    def close(self, end: End) -> None:
        """A job's end is recorded: the job has ended for everybody."""
        job = end.job
        job.ended_at, job.answer, job.error = end.at, end.answer, end.error
        job.trace = end.trace
        job.enter(end.state)
        self.waiting -= 1
        self.bytes_waiting -= job.size
        if job.owner:
            self.owned.remove(job)
        if (unneeded := forget_large_plan(job, self.keeps_plans)) is not None:
            self._sweep.append(unneeded)
        self._ring.ended(job)
        self._ended.append(job)
        self.events += end.events
        by = job.cancelled_by
        self.events.append(Event(end.at, job.number, "", end.state.value, end.error, by=by))

    def take_ended(self) -> list[Job]:
        """Some jobs whose end has been recorded; each is given once."""
        ended, self._ended = self._ended[:ENDED_IN_TICK], self._ended[ENDED_IN_TICK:]
        return ended

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events

    def unrecorded(self, facts: Facts) -> None:
        """Take back facts that could not be recorded: submissions are void, ends come again."""
        for submission in facts.submissions:
            self.withdraw(submission)
        self._outbox.put_back(facts)

    # After a restart

    def restore(self, last: int, waiting: Iterable[Job], ended: Iterable[Job]) -> None:
        """Take over the jobs of a journal, before anything else.

        Args:
            last: the highest number that a job has had.
            waiting: unfinished ones, without graphs; `resume` gives them theirs.
            ended: those to be kept in memory, in the order in which they ended.
        """
        self._last = last
        ended, waiting = list(ended), list(waiting)
        for job in sorted(ended + waiting, key=lambda job: job.number):
            self._ring.add(job)
        for job in ended:
            self._ring.ended(job)
        self.waiting = len(waiting)
        for job in waiting:
            job.size, job.cancel_accepted = len(job.task), job.cancelled
            self.operations_waiting += job.operations
            self.bytes_waiting += job.size
            self.owned.add(job)

    def resume(self, job: Job, new: NewJob) -> None:
        """Give a restored job its operations, read again from its text."""
        self.operations_waiting -= job.operations
        self.bytes_waiting -= job.size
        self.owned.remove(job)
        self.operations_waiting += _fill(job, new)
        self.bytes_waiting += job.size
        self.owned.add(job)

    # The life of a job

    def answer(self, now: float, job: Job, answer: Number) -> End:
        """End a job with a number, unless that is too long."""
        if isinstance(answer, int) and not -self._answer_limit < answer < self._answer_limit:
            digits_max = self._limits.digits_max
            error = f"the answer has more than {digits_max} digits (digits_max)"
            return self.end(now, job, error=error)
        return self.end(now, job, answer=answer)

    def end(
        self,
        now: float,
        job: Job,
        *,
        answer: Number | bytes | None = None,
        error: str | None = None,
        trace: str | None = None,
        state: JobState = JobState.SUCCEEDED,
    ) -> End:
        """End a job: a fact to be recorded. Its calls are for `CallJobs.end_calls`.

        After an accepted cancel it ends as cancelled, whatever came in meanwhile.
        """
        self._stop(job)
        if job.cancel_accepted:
            answer, error, trace, state = None, "cancelled", None, JobState.CANCELLED
        elif error is not None and state is JobState.SUCCEEDED:
            state = JobState.FAILED
        # The clock may have been set back meanwhile: no job takes less than no time.
        at = max(now + self.wall_offset_s, job.started_at or job.submitted_at)
        end = End(job, at, answer, error, state, trace=trace)
        self._outbox.ends.append(end)
        return end

    def step(self, step: Step) -> None:
        """Have a step of a call recorded."""
        self._outbox.steps.append(step)

    def cancel(self, now: float, job: Job) -> Cancel:
        """Have the cancel of a job recorded. From now on the job can only end as cancelled."""
        job.cancel_accepted = True
        cancel = Cancel(job, now + self.wall_offset_s)
        self._outbox.cancels.append(cancel)
        return cancel

    def start(self, now: float, job: Job) -> None:
        """A worker has something of a job: the job runs."""
        wall_s = now + self.wall_offset_s
        if job.started_at is None:
            job.started_at = max(wall_s, job.submitted_at)
        if job.state is JobState.WAITING:
            job.enter(JobState.RUNNING)
            self.events.append(Event(wall_s, job.number, "", "running"))

    def calls_ended(self, job: Job, count: int, succeeded: int = 0, size: int = 0) -> None:
        """Count calls of a job that have ended, those with a result, and the bytes of these."""
        self.operations_done += succeeded
        self.operations_waiting -= count
        self.bytes_waiting += size
        job.size += size
        if job.owner:
            self.owned.grow(job, size)

    def _stop(self, job: Job) -> None:
        assert job.graph is not None, "a job ends once"
        self.ready.drop(job)
        self.operations_waiting -= job.left
        job.operations_done = job.progress
        job.enter(JobState.ENDING)
        self._let_go(job)

    def _let_go(self, job: Job) -> None:
        """Free the graph of a job, in slices if it is large."""
        if job.graph is not None and job.operations > SWEEP_OPERATIONS:
            self._sweep.append(job.graph)
        job.graph, job.awaited, job.expects = None, (), ()

    def sweep(self) -> None:
        """Free some of the memory of jobs that have ended."""
        if self._sweep and not self._sweep[0].free(SWEEP_OPERATIONS):
            self._sweep.popleft()

    @property
    def sweeping(self) -> bool:
        """There is more to free."""
        return bool(self._sweep)

    @property
    def more_ended(self) -> bool:
        """`take_ended` gives more."""
        return bool(self._ended)

    def check(self) -> list[Job]:
        """Assert every invariant, for tests; the jobs that have operations to do."""
        self._ring.check()
        self.ready.check()
        jobs = list(self._ring.newest(len(self._ring)))
        open_jobs = [job for job in jobs if not job.is_terminal]
        assert self.waiting == len(open_jobs)
        assert self.operations_waiting == sum(
            job.left for job in open_jobs if job.state is not JobState.ENDING
        )
        ending = {end.job.number for end in self._outbox.ends}
        assert len(ending) == len(self._outbox.ends), "a job ends twice"
        assert self.bytes_waiting == sum(job.size for job in open_jobs)
        self.owned.check(open_jobs)
        for job in jobs:
            assert (job.answer is None and job.error is None) or job.is_terminal
            assert not job.cancelled or job.cancel_accepted
            if job.cancel_accepted and job.is_terminal:
                assert job.state is JobState.CANCELLED
            if job.graph is not None:
                assert job.state is not JobState.ENDING
                assert not job.is_terminal
                job.graph.check()
                if job.calls is not None:
                    job.calls.check()
            if job.number in ending:
                assert job.state is JobState.ENDING
        return [job for job in open_jobs if job.graph is not None]


def _fill(job: Job, new: NewJob) -> int:
    """Give a job its operations; how many of them are not done."""
    graph, calls = new.work.graph, new.work.calls
    left = job.operations = graph.remaining
    job.graph, job.size = graph, len(job.task)
    if new.plan is not None:
        job.plan, job.priority, job.notify = new.plan, new.priority, new.notify
        job.awaited, job.run_on_failure = new.awaited, new.run_on_failure
        job.expects, job.retry_of = set(new.expects), new.retry_of or job.retry_of
        job.size += len(new.plan)
    if calls is not None:
        job.calls = calls
        job.size += calls.size
        job.operations += len(calls.calls)
        left += calls.remaining
        number, priority = job.number, job.priority
        for call in calls.calls.values():
            call.job = number
        for call in calls.calls.values() if priority else ():
            call.priority = priority if call.terms.priority is None else call.terms.priority
    return left
