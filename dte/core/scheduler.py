"""The core: jobs in, leases out, results in, ended jobs out.

Its laws:

1. It has no sockets, clock, threads, randomness or log. Inputs are method calls with `now`, seconds
   on any clock that does not go back; outputs are the values that `turn` gives.
2. A worker gets only operations whose operands are known.
3. A hand-over is a lease. A result under a lease that has ended changes nothing.
4. A job ends once. `_end` is the only place where it does.
5. Every bound has a name, and a caller who meets it hears that name.
6. Making an operation ready, handing it over and finishing it each cost O(1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dte.core.availability import Announcement, AvailabilityQueue, Worker
from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.formula import Formula
from dte.core.graph import Graph
from dte.core.job import Job, JobState, kept_task
from dte.core.lease import Lease
from dte.core.operations import INTEGER_DIGITS_MAX, Number, describe
from dte.core.ready import ReadySet
from dte.core.ring import JobRing

SPLIT_MIN = 16
"""Sharing among free workers stops at a batch's sixteenth: less costs more than it saves."""
LEASES_IN_TURN = 100
"""How many leases are made in a turn: each costs some 50 µs to send."""
OPERATION_FAILURES_MAX = 5
"""How often an operation may come to nothing alone before its job ends."""
REASON_CHARS_MAX = 500
"""A worker's reason for a failure is kept up to here."""
SWEEP_OPERATIONS = 20_000
"""How many operations of an ended graph are freed in a turn: about a millisecond's work."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """The bounds of the core and the length of a lease."""

    jobs_waiting_max: int = 100_000
    operations_waiting_max: int = 4_000_000
    jobs_kept: int = 100_000
    jobs_kept_bytes: int = 256_000_000
    workers_max: int = 1_000
    digits_max: int = INTEGER_DIGITS_MAX
    lease_s: float = 10.0


@dataclass(slots=True)
class Turn:
    """What came of a turn.

    Attributes:
        leases: operations to hand over now.
        ended: jobs that have ended since the last turn.
        lost: leases that have ended without results since the last turn.
    """

    leases: list[Lease] = field(default_factory=list)
    ended: list[Job] = field(default_factory=list)
    lost: list[Lease] = field(default_factory=list)


class Scheduler:
    """Decides which operation goes to which worker, and knows how every job stands."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._answer_limit: int = 10**limits.digits_max
        self._ring = JobRing(limits.jobs_kept, limits.jobs_kept_bytes)
        self._ready = ReadySet()
        self._workers = AvailabilityQueue(limits.workers_max)
        self._leases: dict[int, Lease] = {}
        self._sweep: deque[Graph] = deque()
        self._next = Turn()
        self._last_job = 0
        self._last_lease = 0
        self.jobs_waiting = 0
        self.operations_waiting = 0
        self.operations_done = 0
        self.stale_results = 0

    # Jobs

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
        if self.jobs_waiting + jobs > limits.jobs_waiting_max:
            raise Busy(
                f"{self.jobs_waiting} jobs wait; with {jobs} more there would be more than "
                f"{limits.jobs_waiting_max} (jobs_waiting_max)"
            )
        if self.operations_waiting + operations > limits.operations_waiting_max:
            raise Busy(
                f"{self.operations_waiting} operations wait; with {operations} more there would be "
                f"more than {limits.operations_waiting_max} (operations_waiting_max)"
            )

    def submit(self, now: float, formulas: Sequence[tuple[str, Formula]]) -> list[Job]:
        """Accept formulas, each as a job of its own: all of them or none.

        Args:
            formulas: texts with what was parsed from them.

        Raises:
            Busy: too much work waits.
        """
        self.ensure_room(
            sum(formula.value is None for _, formula in formulas),
            sum(formula.graph.remaining for _, formula in formulas),
        )
        return [self._start(now, text, formula) for text, formula in formulas]

    def _start(self, now: float, text: str, formula: Formula) -> Job:
        self._last_job += 1
        graph = formula.graph
        operations = graph.remaining
        job = Job(self._last_job, kept_task(text), now, operations, graph)
        self._ring.add(job)
        self.jobs_waiting += 1
        self.operations_waiting += operations
        if graph.failure is not None:
            del graph.ready[:]
            self._end(now, job, error=graph.failure)
        elif formula.value is not None:
            self._end(now, job, answer=formula.value)
        else:
            self._ready.add(job, len(graph.ready))
        return job

    def job(self, number: int) -> Job:
        """The job of that number.

        Raises:
            NotFound: there is none, or it ended long ago and is forgotten.
        """
        job = self._ring.get(number)
        if job is None:
            raise NotFound("Job not found")
        return job

    def newest_jobs(self, count: int) -> Iterator[Job]:
        """Up to `count` jobs, ended or not, the newest first."""
        return self._ring.newest(count)

    # Workers

    def announce(self, now: float, said: Announcement) -> Worker:
        """Note that a worker is there, or that it is again, or that it leaves.

        Raises:
            Busy: too many workers are known.
        """
        worker, reborn = self._workers.announce(now, said)
        if reborn:
            self._lose_all(worker, "the worker was started anew")
            self._workers.offer(worker)
        return worker

    def workers(self) -> list[Worker]:
        """Every known worker, those that are gone too."""
        return list(self._workers)

    # Leases

    def complete(
        self, now: float, number: int, results: Sequence[Number], errors: Mapping[int, str]
    ) -> bool:
        """Take in what a worker gave back under a lease.

        Args:
            number: the lease's number.
            results: a number for each operation of the lease, in its order.
            errors: why operations failed, by their place in the lease; what `results` has at such
                a place is not looked at.

        Returns:
            Whether it changed anything: not when the lease has ended, and not when there are not
            as many results as operations, which counts as a failure of the worker.
        """
        lease = self._leases.get(number)
        if lease is None:
            self.stale_results += 1
            return False
        if len(results) != lease.count or not all(0 <= place < lease.count for place in errors):
            reason = f"garbled: {len(results)} results for {lease.count} operations"
            self.fail(now, number, reason, answered=True)
            return False
        self._release(lease)
        self._workers.succeeded(now, lease.worker, lease.count, now - lease.leased_at)
        self._workers.offer(lease.worker)
        failed = sorted(errors)
        start = 0
        for job, nodes in lease.parts:
            end = start + len(nodes)
            if job.graph is not None:
                first = bisect_left(failed, start)
                if first < len(failed) and failed[first] < end:
                    place = failed[first]
                    reason = _failure(job.graph, nodes[place - start], errors[place])
                    self._end(now, job, error=reason)
                else:
                    self._finish(now, job, nodes, results[start:end])
            start = end
        return True

    def fail(self, now: float, number: int, reason: str, answered: bool = False) -> None:
        """Say that a lease came to nothing: its operations are ready again.

        A lease that has ended is not looked at.

        Args:
            answered: the worker took the operations and gave no results. When that happens to an
                operation alone again and again, the fault is its own, and its job ends.
        """
        lease = self._leases.get(number)
        if lease is None:
            return
        self._workers.failed(now, lease.worker, reason)
        self._lose(lease, reason)
        job, nodes = lease.parts[0]
        if answered and lease.count == 1 and job.graph is not None:
            job.failures = job.failures or {}
            job.failures[nodes[0]] = job.failures.get(nodes[0], 0) + 1
            if job.failures[nodes[0]] >= OPERATION_FAILURES_MAX:
                reason = f"no worker could do it, the last time: {reason}"
                self._end(now, job, error=_failure(job.graph, nodes[0], reason))

    def turn(self, now: float) -> Turn:
        """Do what is due by now and hand over what can be: call it after any input, or in time."""
        while self._leases:
            lease = next(iter(self._leases.values()))
            if lease.deadline > now:
                break
            self.fail(now, lease.number, f"silent for {self._limits.lease_s:g} s")
        for worker in self._workers.bury(now):
            self._lose_all(worker, worker.last_failure or "")
        self._workers.resume(now)
        if self._sweep and not self._sweep[0].free(SWEEP_OPERATIONS):
            self._sweep.popleft()
        turn, self._next = self._next, Turn()
        turn.leases = self._match(now)
        return turn

    def next_turn(self) -> float | None:
        """When `turn` must be called although nothing happens; None when never."""
        if self._sweep or (self._ready.count and len(self._workers)):
            return float("-inf")
        moment = self._workers.next_moment()
        if not self._leases:
            return moment
        deadline = next(iter(self._leases.values())).deadline
        return deadline if moment is None else min(deadline, moment)

    def _match(self, now: float) -> list[Lease]:
        leases: list[Lease] = []
        while self._ready.count and len(leases) < LEASES_IN_TURN:
            worker = self._workers.next()
            if worker is None:
                break
            share = -(-self._ready.count // (len(self._workers) + 1))
            parts = self._ready.take(min(worker.batch, max(share, worker.batch // SPLIT_MIN)))
            leases.append(self._lease(now, worker, parts))
            self._workers.offer(worker)
        return leases

    def _lease(self, now: float, worker: Worker, parts: list[tuple[Job, array[int]]]) -> Lease:
        self._last_lease += 1
        count = 0
        for job, nodes in parts:
            count += len(nodes)
            if job.started_at is None:
                job.started_at, job.state = now, JobState.RUNNING
        deadline = now + self._limits.lease_s
        lease = Lease(self._last_lease, worker, parts, count, now, deadline)
        self._leases[lease.number] = lease
        worker.leases.add(lease.number)
        return lease

    def _release(self, lease: Lease) -> None:
        del self._leases[lease.number]
        lease.worker.leases.discard(lease.number)

    def _lose_all(self, worker: Worker, reason: str) -> None:
        for number in list(worker.leases):
            self._lose(self._leases[number], reason)

    def _lose(self, lease: Lease, reason: str) -> None:
        self._release(lease)
        lease.lost_because = reason
        for job, nodes in lease.parts:
            if job.graph is not None:
                job.graph.give_back(nodes)
                self._ready.add(job, len(nodes))
        self._workers.offer(lease.worker)
        self._next.lost.append(lease)

    # The course of a job

    def _finish(self, now: float, job: Job, nodes: array[int], results: Sequence[Number]) -> None:
        graph = job.graph
        assert graph is not None
        ready_before = len(graph.ready)
        answer = graph.done(nodes, results)
        self.operations_done += len(nodes)
        self.operations_waiting -= len(nodes)
        if answer is None:
            self._ready.add(job, len(graph.ready) - ready_before)
        elif isinstance(answer, int) and not -self._answer_limit < answer < self._answer_limit:
            digits_max = self._limits.digits_max
            self._end(now, job, error=f"the answer has more than {digits_max} digits (digits_max)")
        else:
            self._end(now, job, answer=answer)

    def _end(
        self, now: float, job: Job, *, answer: Number | None = None, error: str | None = None
    ) -> None:
        graph = job.graph
        assert graph is not None, "a job ends once"
        self._ready.drop(job)
        self.jobs_waiting -= 1
        self.operations_waiting -= graph.remaining
        job.operations_done = job.operations - graph.remaining
        job.graph, job.ended_at, job.answer, job.error = None, now, answer, error
        job.state = JobState.FAILED if error is not None else JobState.SUCCEEDED
        if job.operations > SWEEP_OPERATIONS:
            self._sweep.append(graph)
        self._ring.ended(job)
        self._next.ended.append(job)

    def check(self) -> None:
        """Assert every invariant; for tests, after each step."""
        self._ring.check()
        self._ready.check()
        self._workers.check()
        handed_out: set[tuple[int, int]] = set()
        for number, lease in self._leases.items():
            assert number == lease.number in lease.worker.leases
            for job, nodes in lease.parts:
                operations = {(job.number, node) for node in nodes}
                assert not operations & handed_out, "an operation is handed out twice"
                handed_out |= operations
        for worker in self._workers:
            assert worker.leases <= self._leases.keys(), "a worker holds a lease that has ended"
        waiting = [job for job in self._ring.newest(len(self._ring)) if job.graph is not None]
        assert self.jobs_waiting == len(waiting)
        assert self.operations_waiting == sum(j.graph.remaining for j in waiting if j.graph)
        for job in waiting:
            assert job.graph is not None
            job.graph.check()
            out = {node for number, node in handed_out if number == job.number}
            assert not out & set(job.graph.ready), "an operation is ready and handed out"
            assert out or job.graph.ready, f"job {job.number} waits for nothing"


def _failure(graph: Graph, node: int, reason: str) -> str:
    if len(reason) > REASON_CHARS_MAX:
        reason = f"{reason[:REASON_CHARS_MAX]}…"
    symbols, operands1, operands2 = graph.columns([node])
    return f"{reason}: {describe(symbols, operands1[0], operands2[0])}"
