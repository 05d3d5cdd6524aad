"""The book of jobs: accepted, recorded, under way, ended, and what of them must be recorded.

submit ──▶ facts ──▶ recorded ──▶ ready … finish ──▶ end ──▶ facts ──▶ recorded ──▶ ended
             └─────▶ unrecorded: the submission is void, an end is tried again

The course of calls is the affair of `dte.core.calls`; what is recorded of it goes through here.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from dte.core.call import Call, CallState
from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.facts import CallRecord, Cancel, End, Event, Facts, Step, Submission
from dte.core.formula import Formula
from dte.core.graph import Graph
from dte.core.job import TASK_CHARS_KEPT, Job, JobState, kept_task
from dte.core.limits import SchedulerLimits
from dte.core.operations import Number
from dte.core.ready import ReadySet
from dte.core.ring import JobRing

SWEEP_OPERATIONS = 20_000
"""How many operations of an ended graph are freed at a time: about a millisecond's work."""
FACTS_MAX = 10_000
"""After so many the rest of the facts waits for the next time, so that each time is short."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that is more than a formula.

    Attributes:
        task: what it is, for people; the formula's text if there is one.
        text: the whole of it, from which a restart reads it again.
        formula: its arithmetic and its calls.
        priority: higher is sooner.
        notify: a URL that is told of its end; "" for none.
        records: ends of calls that need not be done, as another job has done them.
    """

    task: str
    text: str
    formula: Formula
    priority: int = 0
    notify: str = ""
    records: Sequence[CallRecord] = ()


class JobBook:
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
        self._submissions: deque[Submission] = deque()
        self._ends: deque[End] = deque()
        self._steps: deque[Step] = deque()
        self._cancels: deque[Cancel] = deque()
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
        self,
        now: float,
        formulas: Sequence[tuple[str, Formula]],
        key: str = "",
        digest: str = "",
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
        waiting = operations = size = 0
        for text, formula in formulas:  # A job's share of many costs little so.
            waiting += formula.value is None
            operations += formula.graph.remaining
            size += len(text) if len(text) < TASK_CHARS_KEPT else TASK_CHARS_KEPT
            if formula.calls is not None:
                operations += formula.calls.remaining
                size += formula.calls.size
        self.ensure_room(waiting, operations, size)
        jobs = [self._new_job(now, text, formula) for text, formula in formulas]
        return self._accept(now, jobs, formulas, key, digest)

    def submit_plans(
        self, now: float, planned: Sequence[PlannedJob], key: str = "", digest: str = ""
    ) -> Submission:
        """Accept jobs that are more than formulas: all of them or none. Else as `submit`."""
        self.ensure_room(
            len(planned),
            sum(_operations(plan.formula) for plan in planned),
            sum(len(plan.text) + _size(plan.task, plan.formula) for plan in planned),
        )
        jobs = []
        for plan in planned:
            job = self._new_job(now, plan.task, plan.formula)
            job.plan, job.priority, job.notify = plan.text, plan.priority, plan.notify
            job.records = plan.records or None
            job.size += len(plan.text)
            jobs.append(job)
        formulas = [(plan.text, plan.formula) for plan in planned]
        return self._accept(now, jobs, formulas, key, digest)

    def _new_job(self, now: float, text: str, formula: Formula) -> Job:
        self._last += 1
        task = kept_task(text)
        job = Job(self._last, task, now, formula.graph.remaining, formula.graph)
        job.size = len(task)
        if formula.calls is not None:
            job.operations = _operations(formula)
            self._give(job, formula)
        return job

    def _give(self, job: Job, formula: Formula) -> None:
        """Give a job what is to be done for it."""
        job.graph, job.calls = formula.graph, formula.calls
        if formula.calls is not None:
            job.size += formula.calls.size
            for call in formula.calls.calls.values():
                call.job = job

    def _accept(
        self,
        now: float,
        jobs: list[Job],
        formulas: Sequence[tuple[str, Formula]],
        key: str,
        digest: str,
    ) -> Submission:
        submission = Submission(jobs, [text for text, _ in formulas], [], key, digest)
        for job, (_, formula) in zip(jobs, formulas, strict=True):
            if formula.graph.failure is not None or formula.value is not None:
                submission.ends.append(_end_at_once(now, job, formula))
            self._ring.add(job)
            self.waiting += 1
            self.operations_waiting += job.operations
            self.bytes_waiting += job.size
        self._submissions.append(submission)
        return submission

    # Recording

    def facts(self) -> Facts | None:
        """What is to be recorded next, if anything is; it is given once."""
        if not (self._submissions or self._ends or self._steps or self._cancels):
            return None
        facts = Facts([], [])
        room = FACTS_MAX
        while self._submissions and room > 0:
            facts.submissions.append(self._submissions.popleft())
            room -= len(facts.submissions[-1].jobs)
        while self._steps and room > 0:
            facts.steps.append(self._steps.popleft())
            room -= 1
        if room <= 0:
            return facts  # In this order: an end is recorded with the steps before it, or later.
        while self._ends and room > 0:
            facts.ends.append(self._ends.popleft())
            room -= 1
        while self._cancels:
            facts.cancels.append(self._cancels.popleft())
        return facts

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
        self._ends.extendleft(reversed(facts.ends))
        again = [step for step in facts.steps if step.lease is None]
        self._steps.extendleft(reversed(again))
        self.void_steps += [step for step in facts.steps if step.lease is not None]
        self._cancels.extendleft(reversed(facts.cancels))

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

    def resume(self, now: float, job: Job, formula: Formula) -> None:
        """Begin a restored job again, with what was parsed from its text."""
        graph, operations = formula.graph, _operations(formula)
        self.operations_waiting += operations - job.operations
        job.operations = operations
        self.bytes_waiting -= job.size
        self._give(job, formula)
        job.size += len(job.plan or "")
        self.bytes_waiting += job.size
        if job.cancelled and job.calls is None:
            self.end(now, job, error="cancelled", state=JobState.CANCELLED)
        elif graph.failure is not None or formula.value is not None:
            self.end(now, job, answer=formula.value, error=graph.failure)
        else:
            self._begin(job)

    # The course of a job

    def finish(
        self, now: float, job: Job, nodes: array[int], results: Sequence[Number]
    ) -> Sequence[Call]:
        """Take in the results of operations of a job that goes on; it may end by that.

        Returns:
            The calls that wait for nothing any more.
        """
        graph = job.graph
        assert graph is not None
        ready_before = len(graph.ready)
        answer = graph.done(nodes, results)
        if job.suspicions:
            for node in nodes:
                job.suspicions.pop(node, None)
        self.operations_done += len(nodes)
        self.operations_waiting -= len(nodes)
        ready: Sequence[Call] = ()
        if job.state is JobState.CANCELLING:
            del graph.ready[:]
            return ready
        if job.calls is not None:
            ready, answer = job.calls.arithmetic_done(nodes, results)
        if answer is None:
            self.ready.add(job, len(graph.ready) - ready_before)
        else:
            self.answer(now, job, answer)
        return ready

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
        self._ends.append(end)
        return end

    def step(self, step: Step) -> None:
        """Have a step of a call recorded."""
        self._steps.append(step)

    def cancel(self, now: float, job: Job) -> Cancel:
        """Have it recorded that a job is to be cancelled."""
        cancel = Cancel(job, now)
        self._cancels.append(cancel)
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
            elif not call.ended:
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
        open_jobs = [job for job in jobs if not job.finished]
        assert self.waiting == len(open_jobs)
        assert self.operations_waiting == sum(
            job.operations - job.progress for job in open_jobs if job.state is not JobState.ENDING
        )
        ending = {end.job.number for end in self._ends}
        assert len(ending) == len(self._ends), "a job ends twice"
        assert self.bytes_waiting == sum(job.size for job in open_jobs)
        for job in jobs:
            assert (job.answer is None and job.error is None) or job.finished
            if job.graph is not None:
                assert job.state is not JobState.ENDING
                assert not job.finished
                job.graph.check()
                if job.calls is not None and job.records is None:
                    job.calls.check()
            if job.number in ending:
                assert job.state is JobState.ENDING
        return [job for job in open_jobs if job.graph is not None]


def _end_at_once(now: float, job: Job, formula: Formula) -> End:
    """The end of a job for which nothing is to be done."""
    failure = formula.graph.failure
    state = JobState.SUCCEEDED if failure is None else JobState.FAILED
    return End(job, now, formula.value, failure, state)


def _operations(formula: Formula) -> int:
    calls = formula.calls.remaining if formula.calls is not None else 0
    return formula.graph.remaining + calls


def _size(text: str, formula: Formula) -> int:
    """About how many bytes a job takes besides its arithmetic, whose bound is another."""
    calls = formula.calls.size if formula.calls is not None else 0
    return min(len(text), TASK_CHARS_KEPT) + calls
