"""The book of jobs: accepted, recorded, under way, ended, and what of them must be recorded.

submit ──▶ facts ──▶ recorded ──▶ ready … finish ──▶ end ──▶ facts ──▶ recorded ──▶ ended
             └─────▶ unrecorded: the submission is void, an end is tried again

The course of calls is the affair of `dte.core.calls`; what is recorded of it goes
through here.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, CallState
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.core.jobs.facts import CallRecord, Cancel, End, Event, Facts, Step, Submission
from dte.core.jobs.job import Job, JobState, kept_task
from dte.core.jobs.outbox import Outbox
from dte.core.jobs.ready import ReadySet
from dte.core.jobs.ring import JobRing
from dte.core.limits import SchedulerLimits

SWEEP_OPERATIONS = 20_000
"""How many operations of an ended graph are freed at a time: about a millisecond's work."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that is more than a formula.

    Attributes:
        task: what it is, for people; the formula's text if there is one.
        text: the whole of it, from which a restart reads it again.
        work: what is to be done for it.
        priority: higher is sooner.
        notify: a URL that is told of its end; "" for none.
        records: ends of calls that need not be done, as another job has done them.
    """

    task: str
    text: str
    work: Work
    priority: int = 0
    notify: str = ""
    records: Sequence[CallRecord] = ()


class JobTable:
    """Every job from its submission until it is forgotten, and the operations that are ready.

    Attributes:
        ready: the ready operations of all jobs.
        waiting: how many jobs have not ended, or their end is not recorded.
        operations_waiting: how many operations of theirs are not done.
        operations_done: how many have been done in all.
        bytes_waiting: about how many bytes their texts, arguments and results take.
        begun: jobs with calls that may begin now, for `dte.core.calls` to take.
        steps: steps that have been recorded, likewise.
        void_steps: steps that could not be recorded, likewise.
        stopping: jobs whose cancelling has been recorded, likewise.
        closed: jobs with calls that have ended, or that are `awaited`, likewise.
        awaited: the numbers of jobs whose ends others wait for.
        orphans: calls that workers have of jobs that have ended, likewise.
        events: what happened, for those who watch.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._answer_limit: int = 10**limits.digits_max
        self._ring = JobRing(limits.jobs_kept, limits.jobs_kept_bytes)
        self._sweep: deque[Graph] = deque()
        self._outbox = Outbox()
        self._ended: list[Job] = []
        self._last = 0
        self.ready = ReadySet()
        self.waiting = 0
        self.operations_waiting = 0
        self.operations_done = 0
        self.bytes_waiting = 0
        self.begun: list[Job] = []
        self.steps: list[Step] = []
        self.void_steps: list[Step] = []
        self.stopping: list[Job] = []
        self.closed: list[Job] = []
        self.awaited: set[int] = set()
        self.orphans: list[Call] = []
        self.events: list[Event] = []

    # Asking

    def job(self, number: int) -> Job:
        """The job of that number.

        Raises:
            NotFound: there is none, or it ended long ago and is not in memory.
        """
        job = self._ring.get(number)
        if job is None or job.state is JobState.ACCEPTING:
            raise NotFound("Job not found")
        return job

    def is_past(self, number: int) -> bool:
        """Whether a job of that number may have been, and is not in memory any more."""
        return 0 < number <= self._last and self._ring.get(number) is None

    def newest(self, count: int) -> Iterator[Job]:
        """Up to `count` jobs, ended or not, the newest first."""
        jobs = self._ring.newest(len(self._ring))
        return islice((job for job in jobs if job.state is not JobState.ACCEPTING), count)

    # Accepting

    def ensure_room(self, jobs: int, operations: int = 0, size: int = 0) -> None:
        """Check that this much more work may wait.

        Args:
            size: bytes of texts and arguments.

        Raises:
            Busy: it may not now; the message names the bound.
            TooLarge: it never may.
        """
        limits = self._limits
        if operations > limits.operations_waiting_max:
            raise TooLarge(
                f"{operations} operations; no more than {limits.operations_waiting_max} may wait "
                "(operations_waiting_max)"
            )
        if self.waiting + jobs > limits.jobs_waiting_max:
            raise Busy(
                f"{self.waiting} jobs wait; with {jobs} more there would be more than "
                f"{limits.jobs_waiting_max} (jobs_waiting_max)"
            )
        if self.operations_waiting + operations > limits.operations_waiting_max:
            raise Busy(
                f"{self.operations_waiting} operations wait; with {operations} more there would be "
                f"more than {limits.operations_waiting_max} (operations_waiting_max)"
            )
        if self.bytes_waiting + size > limits.bytes_waiting_max:
            raise Busy(
                f"the jobs that wait take {self.bytes_waiting} bytes; with {size} more that would "
                f"be more than {limits.bytes_waiting_max} (bytes_waiting_max)"
            )

    def submit(
        self, now: float, formulas: Sequence[tuple[str, Work]], key: str = "", digest: str = ""
    ) -> Submission:
        """Accept formulas, each as a job of its own: all of them or none.

        Nothing is done for them, and nobody sees them, until that is `recorded`.

        Args:
            formulas: texts with what was parsed from them.
            key: see `Submission`.
            digest: see `Submission`.

        Raises:
            Busy: too much work waits.
        """
        jobs = []
        for number, (text, work) in enumerate(formulas, self._last + 1):
            jobs.append(_new_job(number, now, text, work))
        texts = [text for text, _ in formulas]
        return self._accept(now, jobs, [work for _, work in formulas], texts, key, digest)

    def submit_plans(
        self, now: float, planned: Sequence[PlannedJob], key: str = "", digest: str = ""
    ) -> Submission:
        """Accept jobs that are more than formulas: all of them or none. Else as `submit`."""
        jobs = []
        for number, plan in enumerate(planned, self._last + 1):
            job = _new_job(number, now, plan.task, plan.work)
            job.plan, job.priority, job.notify = plan.text, plan.priority, plan.notify
            job.records = plan.records or None
            job.size += len(plan.text)
            jobs.append(job)
        texts = [plan.text for plan in planned]
        return self._accept(now, jobs, [plan.work for plan in planned], texts, key, digest)

    def _accept(
        self,
        now: float,
        jobs: list[Job],
        works: Sequence[Work],
        texts: Sequence[str],
        key: str,
        digest: str,
    ) -> Submission:
        ends = []
        waiting = operations = size = 0
        for job, work in zip(jobs, works, strict=True):
            waiting += work.value is None
            operations += job.operations
            size += job.size
            if work.value is not None or work.graph.failure is not None:
                ends.append(_end_at_once(now, job, work))
        self.ensure_room(waiting, operations, size)
        for job in jobs:
            self._ring.add(job)
        self._last += len(jobs)
        self.waiting += len(jobs)
        self.operations_waiting += operations
        self.bytes_waiting += size
        submission = Submission(jobs, texts, ends, key, digest)
        self._outbox.submissions.append(submission)
        return submission

    # Recording

    def facts(self) -> Facts | None:
        """What is to be recorded next, if anything is; it is given once."""
        return self._outbox.take()

    def recorded(self, facts: Facts, void: Collection[Submission] = ()) -> None:
        """Say that facts have been recorded, except for some of the submissions: they are void."""
        for submission in facts.submissions:
            if submission in void:
                self._withdraw(submission)
                continue
            for job in submission.jobs:
                job.enter(JobState.WAITING)
                self.events.append(Event(job.submitted_at, job.number, "", "waiting"))
            for end in submission.ends:
                self._stop(end.job)
                self._close(end)
            for job in submission.jobs:
                if job.graph is not None:
                    self._begin(job)
        self.steps += facts.steps
        for end in facts.ends:
            self._close(end)
        for cancel in facts.cancels:
            cancel.job.cancelled = True
            self.stopping.append(cancel.job)

    def _begin(self, job: Job) -> None:
        assert job.graph is not None
        if job.calls is not None:
            self.begun.append(job)
        self.ready.add(job, len(job.graph.ready))

    def unrecorded(self, facts: Facts) -> None:
        """Say that facts could not be recorded: submissions are void, ends come up again."""
        for submission in facts.submissions:
            self._withdraw(submission)
        self.void_steps += [step for step in facts.steps if step.lease is not None]
        self._outbox.put_back(facts)

    def _withdraw(self, submission: Submission) -> None:
        for job in submission.jobs:
            self._ring.remove(job)
            self.waiting -= 1
            self.operations_waiting -= job.operations
            self.bytes_waiting -= job.size
            job.calls = None
            self._let_go(job)

    def _close(self, end: End) -> None:
        job = end.job
        job.ended_at, job.answer, job.error = end.at, end.answer, end.error
        job.enter(end.state)
        self.waiting -= 1
        self.bytes_waiting -= job.size
        self._ring.ended(job)
        self._ended.append(job)
        if job.calls is not None or job.number in self.awaited:
            self.closed.append(job)
        if end.events:
            self.events += end.events
        self.events.append(Event(end.at, job.number, "", end.state.value, end.error))

    def take_ended(self) -> list[Job]:
        """The jobs whose end has been recorded since the last time."""
        ended, self._ended = self._ended, []
        return ended

    # Going on after a restart

    def restore(self, last: int, waiting: Iterable[Job], ended: Iterable[Job]) -> None:
        """Take over the jobs of a record, before anything else.

        Args:
            last: the highest number that a job has had.
            waiting: those that have not ended, without graphs: `resume` gives them theirs.
            ended: those to be kept in memory, in the order in which they ended.
        """
        self._last = last
        ended, waiting = list(ended), list(waiting)
        for job in sorted(ended + waiting, key=lambda job: job.number):
            self._ring.add(job)
        for job in ended:
            self._ring.ended(job)
        self.waiting = len(waiting)
        self.operations_waiting = sum(job.operations for job in waiting)
        for job in waiting:
            job.size = len(job.task)
            self.bytes_waiting += job.size

    def resume(self, now: float, job: Job, work: Work) -> None:
        """Begin a restored job again, with what was parsed from its text."""
        graph = work.graph
        self.operations_waiting += work.operations - job.operations
        self.bytes_waiting -= job.size
        _give(job, work)
        job.size += len(job.plan or "")
        self.bytes_waiting += job.size
        if job.cancelled and job.calls is None:
            self.end(now, job, error="cancelled", state=JobState.CANCELLED)
        elif graph.failure is not None or work.value is not None:
            self.end(now, job, answer=work.value, error=graph.failure)
        else:
            self._begin(job)

    # The course of a job

    def finish(
        self, now: float, parts: Iterable[tuple[Job, array[int]]], results: Sequence[Number]
    ) -> list[Call]:
        """Take in the results of operations; jobs may end by that. Those that have ended stay.

        Args:
            parts: the operations, by job.
            results: of all of them, in their order.

        Returns:
            The calls that wait for nothing any more.
        """
        calls: list[Call] = []
        start = 0
        for job, nodes in parts:
            given = results[start : start + len(nodes)]
            start += len(nodes)
            graph = job.graph
            if graph is None:
                continue
            ready_before = len(graph.ready)
            answer = graph.done(nodes, given)
            self.operations_done += len(nodes)
            self.operations_waiting -= len(nodes)
            if job.suspicions:
                for node in nodes:
                    job.suspicions.pop(node, None)
            if job.state is JobState.CANCELLING:
                del graph.ready[:]
                continue
            if job.calls is not None:
                begun, answer = job.calls.arithmetic_done(nodes, given)
                calls += begun
            if answer is None:
                self.ready.add(job, len(graph.ready) - ready_before)
            else:
                self.answer(now, job, answer)
        return calls

    def answer(self, now: float, job: Job, answer: Number) -> End:
        """End a job with a number, if that is not too long."""
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
        state: JobState = JobState.SUCCEEDED,
    ) -> End:
        """End a job that goes on: a fact to be recorded."""
        self._stop(job)
        if error is not None and state is JobState.SUCCEEDED:
            state = JobState.FAILED
        end = End(job, now, answer, error, state)
        self._outbox.ends.append(end)
        return end

    def step(self, step: Step) -> None:
        """Have a step of a call recorded."""
        self._outbox.steps.append(step)

    def cancel(self, now: float, job: Job) -> Cancel:
        """Have it recorded that a job is to be cancelled."""
        cancel = Cancel(job, now)
        self._outbox.cancels.append(cancel)
        return cancel

    def call_ended(self, job: Job, count: int, size: int) -> None:
        """Count calls of a job that have ended, and how many bytes their results take."""
        self.operations_done += count
        self.operations_waiting -= count
        self.bytes_waiting += size
        job.size += size

    def _stop(self, job: Job) -> None:
        graph = job.graph
        assert graph is not None, "a job ends once"
        self.ready.drop(job)
        job.operations_done = job.progress
        self.operations_waiting -= job.operations - job.operations_done
        for call in job.calls.calls.values() if job.calls is not None else ():
            if call.state is CallState.ENDING:
                call.recorded = True  # Its step is, with the job's end if not before.
            elif not call.is_terminal:
                self.orphans.append(call)
        job.enter(JobState.ENDING)
        self._let_go(job)

    def _let_go(self, job: Job) -> None:
        """Free what a job has, in slices when it is large."""
        if job.graph is not None and job.operations > SWEEP_OPERATIONS:
            self._sweep.append(job.graph)
        job.graph = job.suspicions = None

    def sweep(self) -> None:
        """Free some of the memory of jobs that have ended."""
        if self._sweep and not self._sweep[0].free(SWEEP_OPERATIONS):
            self._sweep.popleft()

    @property
    def sweeping(self) -> bool:
        """Whether there is more to free."""
        return bool(self._sweep)

    def check(self) -> list[Job]:
        """Assert every invariant, for tests; the jobs that have operations to do."""
        self._ring.check()
        self.ready.check()
        jobs = list(self._ring.newest(len(self._ring)))
        open_jobs = [job for job in jobs if not job.is_terminal]
        assert self.waiting == len(open_jobs)
        assert self.operations_waiting == sum(
            job.operations - job.progress for job in open_jobs if job.state is not JobState.ENDING
        )
        ending = {end.job.number for end in self._outbox.ends}
        assert len(ending) == len(self._outbox.ends), "a job ends twice"
        assert self.bytes_waiting == sum(job.size for job in open_jobs)
        for job in jobs:
            assert (job.answer is None and job.error is None) or job.is_terminal
            if job.graph is not None:
                assert job.state is not JobState.ENDING
                assert not job.is_terminal
                job.graph.check()
                if job.calls is not None and job.records is None:
                    job.calls.check()
            if job.number in ending:
                assert job.state is JobState.ENDING
        return [job for job in open_jobs if job.graph is not None]


def _new_job(number: int, now: float, text: str, work: Work) -> Job:
    task = kept_task(text)
    job = Job(number, task, now, work.graph.remaining, work.graph)
    job.size = len(task)
    if work.calls is not None:
        _give(job, work)
    return job


def _give(job: Job, work: Work) -> None:
    """Give a job what is to be done for it."""
    job.graph, job.calls, job.operations = work.graph, work.calls, work.operations
    if work.calls is not None:
        job.size += work.calls.size
        for call in work.calls.calls.values():
            call.job = job


def _end_at_once(now: float, job: Job, work: Work) -> End:
    """The end of a job for which nothing is to be done."""
    failure = work.graph.failure
    state = JobState.SUCCEEDED if failure is None else JobState.FAILED
    return End(job, now, work.value, failure, state)
