"""The book of jobs: accepted, recorded, under way, ended, and what of them must be recorded.

submit ──▶ facts ──▶ recorded ──▶ ready … finish ──▶ end ──▶ facts ──▶ recorded ──▶ ended
             └─────▶ unrecorded: the submission is void, an end is tried again
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.facts import End, Facts, Submission
from dte.core.formula import Formula
from dte.core.graph import Graph
from dte.core.job import Job, JobState, kept_task
from dte.core.limits import SchedulerLimits
from dte.core.operations import Number
from dte.core.ready import ReadySet
from dte.core.ring import JobRing

SWEEP_OPERATIONS = 20_000
"""How many operations of an ended graph are freed at a time: about a millisecond's work."""
FACTS_MAX = 10_000
"""After so many the rest of the facts waits for the next time, so that each time is short."""


class JobBook:
    """Every job from its submission until it is forgotten, and the operations that are ready.

    Attributes:
        ready: the ready operations of all jobs.
        waiting: how many jobs have not ended, or their end is not recorded.
        operations_waiting: how many operations of theirs are not done.
        operations_done: how many have been done in all.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._answer_limit: int = 10**limits.digits_max
        self._ring = JobRing(limits.jobs_kept, limits.jobs_kept_bytes)
        self._sweep: deque[Graph] = deque()
        self._submissions: deque[Submission] = deque()
        self._ends: deque[End] = deque()
        self._ended: list[Job] = []
        self._last = 0
        self.ready = ReadySet()
        self.waiting = 0
        self.operations_waiting = 0
        self.operations_done = 0

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

    def ensure_room(self, jobs: int, operations: int = 0) -> None:
        """Check that this much more work may wait.

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
        self.ensure_room(
            sum(formula.value is None for _, formula in formulas),
            sum(formula.graph.remaining for _, formula in formulas),
        )
        submission = Submission([], [text for text, _ in formulas], [], key, digest)
        for text, formula in formulas:
            self._last += 1
            graph = formula.graph
            job = Job(self._last, kept_task(text), now, graph.remaining, graph)
            submission.jobs.append(job)
            if graph.failure is not None or formula.value is not None:
                submission.ends.append(End(job, now, formula.value, graph.failure))
            self._ring.add(job)
            self.waiting += 1
            self.operations_waiting += job.operations
        self._submissions.append(submission)
        return submission

    # Recording

    def facts(self) -> Facts | None:
        """What is to be recorded next, if anything is; it is given once."""
        if not self._submissions and not self._ends:
            return None
        facts = Facts([], [])
        room = FACTS_MAX
        while self._submissions and room > 0:
            facts.submissions.append(self._submissions.popleft())
            room -= len(facts.submissions[-1].jobs)
        while self._ends and room > 0:
            facts.ends.append(self._ends.popleft())
            room -= 1
        return facts

    def recorded(self, facts: Facts, void: Collection[Submission] = ()) -> None:
        """Say that facts have been recorded, except for some of the submissions: they are void."""
        for submission in facts.submissions:
            if submission in void:
                self._withdraw(submission)
                continue
            for job in submission.jobs:
                job.enter(JobState.WAITING)
            for end in submission.ends:
                self._stop(end.job)
                self._close(end)
            for job in submission.jobs:
                if job.graph is not None:
                    self.ready.add(job, len(job.graph.ready))
        for end in facts.ends:
            self._close(end)

    def unrecorded(self, facts: Facts) -> None:
        """Say that facts could not be recorded: submissions are void, ends come up again."""
        for submission in facts.submissions:
            self._withdraw(submission)
        self._ends.extendleft(reversed(facts.ends))

    def _withdraw(self, submission: Submission) -> None:
        for job in submission.jobs:
            self._ring.remove(job)
            self.waiting -= 1
            self.operations_waiting -= job.operations
            self._let_go(job)

    def _close(self, end: End) -> None:
        job = end.job
        job.ended_at, job.answer, job.error = end.at, end.answer, end.error
        job.enter(JobState.FAILED if end.error is not None else JobState.SUCCEEDED)
        self.waiting -= 1
        self._ring.ended(job)
        self._ended.append(job)

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

    def resume(self, now: float, job: Job, formula: Formula) -> None:
        """Begin a restored job again, with what was parsed from its text."""
        graph = formula.graph
        self.operations_waiting += graph.remaining - job.operations
        job.graph, job.operations = graph, graph.remaining
        if graph.failure is not None or formula.value is not None:
            self.end(now, job, answer=formula.value, error=graph.failure)
        else:
            self.ready.add(job, len(graph.ready))

    # The course of a job

    def finish(self, now: float, job: Job, nodes: array[int], results: Sequence[Number]) -> None:
        """Take in the results of operations of a job that goes on; it may end by that."""
        graph = job.graph
        assert graph is not None
        ready_before = len(graph.ready)
        answer = graph.done(nodes, results)
        if job.suspicions:
            for node in nodes:
                job.suspicions.pop(node, None)
        self.operations_done += len(nodes)
        self.operations_waiting -= len(nodes)
        if answer is None:
            self.ready.add(job, len(graph.ready) - ready_before)
        elif isinstance(answer, int) and not -self._answer_limit < answer < self._answer_limit:
            digits_max = self._limits.digits_max
            self.end(now, job, error=f"the answer has more than {digits_max} digits (digits_max)")
        else:
            self.end(now, job, answer=answer)

    def end(
        self, now: float, job: Job, *, answer: Number | None = None, error: str | None = None
    ) -> None:
        """End a job that goes on: a fact to be recorded."""
        self._stop(job)
        self._ends.append(End(job, now, answer, error))

    def _stop(self, job: Job) -> None:
        graph = job.graph
        assert graph is not None, "a job ends once"
        self.ready.drop(job)
        self.operations_waiting -= graph.remaining
        job.operations_done = job.operations - graph.remaining
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
        for job in jobs:
            assert (job.answer is None and job.error is None) or job.finished
            if job.graph is not None:
                assert job.state is not JobState.ENDING
                assert not job.finished
                job.graph.check()
            if job.number in ending:
                assert job.state is JobState.ENDING
        return [job for job in open_jobs if job.graph is not None]
