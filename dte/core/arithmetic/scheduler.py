"""Arithmetic: batches of operations, handed out and completed.

A batch lasts milliseconds, so the request that carries it is its lease, and no attempt is
recorded: after a crash the operations are done again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from random import Random

from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.quarantine import Quarantine
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call
from dte.core.graph.numbers import Number, describe
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Delivery, Failure, Worker

SPLIT_MIN = 16
"""Ready work is never split into less than 1/16 of a batch: smaller requests cost more than the
parallelism gains."""
LEASES_IN_TICK = 100
"""Most leases made or ended in a tick: sending one costs some 50 µs."""
OPERATIONS_IN_TICK = 8_192
"""The operations in them after which the rest waits for the next tick: one costs about 1 µs."""
REASON_CHARS_MAX = 500
"""A worker's reason for a failure is kept up to here."""


class ArithmeticScheduler:
    """Decides which operations go to which worker, and takes in their results.

    Args:
        next_lease: gives the number of the next lease.
        begin_call: begins a call whose operands arithmetic has completed.
        end_calls: ends the calls of a job that ends by its arithmetic.
        fail: ends a job with calls that fails by its arithmetic.

    Attributes:
        leases: by number.
        handing_over: new leases may be made.
        stale_results: results that came under leases that had ended.
    """

    def __init__(
        self,
        limits: SchedulerLimits,
        table: JobTable,
        workers: AvailabilityQueue,
        random: Random,
        next_lease: Callable[[], int],
        begin_call: Callable[[float, Job, Call], None],
        end_calls: Callable[[float, Job], None],
        fail: Callable[[float, Job, str], object],
    ) -> None:
        self._limits = limits
        self._table = table
        self._workers = workers
        self._next_lease = next_lease
        self._begin_call = begin_call
        self._end_calls = end_calls
        self._fail_with_calls = fail
        self._lost: list[BatchLease] = []
        self._more_to_match = False
        self.quarantine = Quarantine(random, limits.workers_lost_max)
        self.leases: dict[int, BatchLease] = {}
        self.handing_over = True
        self.stale_results = 0

    def may_be_of(self, number: int, worker: str, session: str = "") -> bool:
        """True if the worker of a name and a session has a lease, or the lease has ended."""
        lease = self.leases.get(number)
        if lease is None:
            return True
        had = lease.worker.announcement
        return had.session == session if had.session or session else had.name == worker

    # Jobs

    def begin(self, now: float, job: Job, value: Number | None) -> None:
        """Begin the arithmetic of a job from before a restart, or end the job by it.

        Args:
            value: the answer, if the job is just a number.
        """
        graph = job.graph
        assert graph is not None
        if job.cancelled and job.calls is None:
            self._table.end(now, job)
        elif graph.failure is not None or value is not None:
            self._end(now, job, value, graph.failure)
        else:
            self._table.ready.add(job, len(graph.ready))

    def _end(self, now: float, job: Job, answer: Number | None, error: str | None) -> None:
        if error is not None and job.calls is not None:
            self._fail_with_calls(now, job, error)
            return
        self._table.end(now, job, answer=answer, error=error)

    # Workers

    def lose_worker(self, now: float, worker: Worker, reason: str) -> None:
        """A worker is gone, or was started anew: its operations go to others."""
        pending = [self.leases[number] for number in worker.batch_leases]
        for lease in pending:
            self.quarantine.suspect(now, lease)
        self.convict(now, worker)
        for lease in pending:
            self._lose(now, lease, reason, received=True)

    def convict(self, now: float, worker: Worker) -> None:
        """A worker has ended: jobs whose operations have cost too many workers end."""
        for job, node in self.quarantine.convict(now, worker):
            if job.graph is not None:
                lost = self._limits.workers_lost_max
                operation = _describe(job.graph, node)
                workers = "1 worker" if lost == 1 else f"{lost} workers"
                error = f"gave up: {workers} died while running {operation} (workers_lost_max)"
                self._end(now, job, None, error)

    def late(self, now: float, lease: BatchLease) -> None:
        """Note that a worker replied under a lease that had ended by silence: it lives."""
        self.stale_results += bool(lease.count)
        worker = lease.worker
        if worker.joined_at <= lease.leased_at:
            self.quarantine.clear(now, worker)
            self._workers.seen(now, worker)

    # Results

    def complete(
        self,
        now: float,
        number: int,
        results: Sequence[Number],
        errors: Mapping[int, str],
        took_s: float | None = None,
    ) -> bool:
        """Take in the results of a lease.

        Args:
            number: the lease's number.
            results: a number for each operation of the lease, in its order.
            errors: the reasons of operations that failed, by their index in the lease; `results`
                has any number there.
            took_s: the worker's own measure of its time; None or a negative one is ignored.

        Returns:
            Whether it changed anything: not if the lease has ended, nor if the number of results is
            wrong, which counts as a failure of the worker.
        """
        lease = self.leases.get(number)
        if lease is None:
            self.stale_results += 1
            return False
        if len(results) != lease.count or not all(0 <= index < lease.count for index in errors):
            reason = f"malformed: {len(results)} results for {lease.count} operations"
            self.fail(now, number, reason, Failure.MALFORMED)
            return False
        self._release(lease)
        worker = lease.worker
        if worker.suspects and lease.leased_at > worker.vanished_at:
            # A reply to an older lease may have been sent before the worker ended.
            self.quarantine.clear(now, worker)
        if took_s is None or took_s < 0:
            took_s = now - lease.leased_at
        self._workers.succeeded(now, worker, lease.count, took_s)
        self._workers.offer(worker)
        if errors:
            self._end_failed(now, lease, errors)
        worker.operations_done += self._finish(now, lease.parts, results)
        return True

    def _finish(
        self, now: float, parts: Iterable[tuple[Job, array[int]]], results: Sequence[Number]
    ) -> int:
        """Take in the results of operations; those of jobs that have ended are dropped.

        Returns:
            The number of results that count.
        """
        if self.quarantine:
            self.quarantine.done(parts)
        table = self._table
        done_before = table.operations_done
        start = 0
        for job, nodes in parts:
            given = results[start : start + len(nodes)]
            start += len(nodes)
            graph = job.graph
            if graph is None:
                continue
            ready_before = len(graph.ready)
            answer = graph.done(nodes, given)
            table.operations_done += len(nodes)
            table.operations_waiting -= len(nodes)
            if job.state is JobState.CANCELLING:
                del graph.ready[:]
                continue
            if job.calls is not None:
                begun, answer = job.calls.arithmetic_done(nodes, given)
                for call in begun:
                    self._begin_call(now, job, call)
                if job.graph is None:
                    continue  # A call failed at once, and the job with it.
            if answer is None:
                table.ready.add(job, len(graph.ready) - ready_before)
                continue
            table.answer(now, job, answer)
            if job.calls is not None:
                self._end_calls(now, job)
        return table.operations_done - done_before

    def _end_failed(self, now: float, lease: BatchLease, errors: Mapping[int, str]) -> None:
        """End the jobs of operations that failed, each by its first error."""
        failed = sorted(errors)
        start = 0
        for job, nodes in lease.parts:
            end = start + len(nodes)
            first = bisect_left(failed, start)
            if first < len(failed) and failed[first] < end:
                index = failed[first]
                if job.graph is not None and not job.cancelled:
                    operation = _describe(job.graph, nodes[index - start])
                    self._end(now, job, None, f"{_cut(errors[index])}: {operation}")
            start = end

    def fail(self, now: float, number: int, reason: str, failure: Failure) -> None:
        """Note that a hand-over failed: its operations are ready again.

        A lease that has ended is ignored.
        """
        lease = self.leases.get(number)
        if lease is None:
            return
        worker = lease.worker
        self._workers.failed(now, worker, reason)
        if failure is Failure.REFUSED:
            self.convict(now, worker)
        elif failure is Failure.BROKEN:
            self.quarantine.suspect(now, lease)
        self._lose(now, lease, reason, failure.received)
        if failure.received and lease.count == 1:
            ((job, nodes),) = lease.parts
            too_many = job.graph is not None and self.quarantine.failed(job, nodes[0], failure)
            if job.graph is not None and too_many:
                operation = _describe(job.graph, nodes[0])
                error = f"gave up after {too_many}; the last: {_cut(reason)}: {operation}"
                self._end(now, job, None, error)

    def requeue(self, now: float, number: int, reason: str) -> None:
        """Let others have the operations of a lease that its worker has not received."""
        lease = self.leases.get(number)
        if lease is not None:
            self._lose(now, lease, reason, received=False)

    def _release(self, lease: BatchLease) -> None:
        del self.leases[lease.number]
        lease.worker.batch_leases.discard(lease.number)
        if lease.exclusive:
            lease.worker.exclusive = False

    def _lose(self, now: float, lease: BatchLease, reason: str, received: bool) -> None:
        """End a lease without results. Operations are suspect if the worker received them.

        A suspect one stays so in any case, or it would be in a batch with others again.
        """
        self._release(lease)
        self.quarantine.release(lease.worker)
        lease.lost_because = reason
        for job, nodes in lease.parts:
            if job.graph is None or job.state is JobState.CANCELLING:
                continue
            if received or lease.exclusive:
                self.quarantine.add(now, job, nodes)
            else:
                job.graph.requeue(nodes)
                self._table.ready.add(job, len(nodes))
        self._workers.offer(lease.worker)
        self._lost.append(lease)

    # The tick

    def advance(self, now: float) -> None:
        """End the leases of silent workers, and go on with operations whose pause is over.

        What is left of the leases that end together waits for the next tick.
        """
        operations = 0
        for lease in list(islice(self.leases.values(), LEASES_IN_TICK)):
            if lease.deadline > now or operations >= OPERATIONS_IN_TICK:
                break
            operations += lease.count
            lease.may_come_late = True
            self.fail(now, lease.number, f"silent for {self._limits.lease_s:g} s", Failure.BROKEN)
        self.quarantine.resume(now)

    def probe(self, now: float, workers: Iterable[Worker]) -> list[BatchLease]:
        """Leases without operations, which only find out whether workers are there."""
        return [self._lease(now, worker, []) for worker in workers if self.handing_over]

    def match(self, now: float) -> list[BatchLease]:
        """Lease ready operations to workers with free slots; the leases to be sent."""
        leases: list[BatchLease] = []
        passed: list[Worker] = []
        operations = 0
        self._more_to_match = False
        while self.handing_over and (self._table.ready.count or self.quarantine.count):
            if len(leases) >= LEASES_IN_TICK or operations >= OPERATIONS_IN_TICK:
                self._more_to_match = True
                break
            worker = self._workers.batches.next() or self.quarantine.surplus()
            if worker is None:
                break
            parts = self._parts_for(worker)
            # A worker that vanished is probed first: it would be blamed for what it never began.
            if parts or (worker.suspects and not worker.batch_leases):
                lease = self._lease(now, worker, parts)
                operations += lease.count
                if worker.announcement.delivery is Delivery.PUSH:
                    leases.append(lease)
                self._workers.batches.offer(worker)
            else:
                passed.append(worker)
        for worker in passed:
            self._workers.batches.offer(worker)
        return leases

    def _parts_for(self, worker: Worker) -> list[tuple[Job, array[int]]]:
        """The operations for a worker with a free slot; none if it must wait or be probed."""
        quarantine = self.quarantine
        quarantine.release(worker)
        if worker.suspects:
            return []
        if quarantine.count:
            if not worker.batch_leases:
                parts = quarantine.take(worker)
                if parts:
                    return parts
            elif quarantine.reserve(worker):
                return []
        ready = self._table.ready
        if not ready.count:
            return []
        share = -(-ready.count // (self._workers.batches.count + 1))
        return ready.take(min(worker.batch, max(share, worker.batch // SPLIT_MIN)))

    def _lease(self, now: float, worker: Worker, parts: list[tuple[Job, array[int]]]) -> BatchLease:
        count = 0
        for job, nodes in parts:
            count += len(nodes)
            if job.started_at is None:
                self._table.start(now, job)
        deadline = now + self._limits.lease_s
        number = self._next_lease()
        lease = BatchLease(number, worker, parts, count, now, deadline, worker.exclusive)
        self.leases[number] = lease
        worker.batch_leases.add(number)
        if worker.claim is not None:
            worker.claim.batch_lease = number
            lease.kept = lease.columns()
        return lease

    def take_lost(self) -> list[BatchLease]:
        """The leases that have ended without results since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def next_moment(self) -> float | None:
        """When a tick next has something to do."""
        if self._more_to_match:
            return float("-inf")
        moment = self.quarantine.next_moment()
        if not self.leases:
            return moment
        deadline = next(iter(self.leases.values())).deadline
        return deadline if moment is None else min(moment, deadline)

    def check(self) -> set[tuple[int, int]]:
        """Assert every invariant, for tests; the operations that are handed out or suspect."""
        out: set[tuple[int, int]] = set()
        for number, lease in self.leases.items():
            assert number == lease.number in lease.worker.batch_leases
            for job, nodes in lease.parts:
                operations = {(job.number, node) for node in nodes}
                assert not operations & out, "an operation is handed out twice"
                out |= operations
        for worker in self._workers:
            assert worker.batch_leases <= self.leases.keys(), "a worker has a lease that has ended"
            assert not worker.exclusive or len(worker.batch_leases) == 1, "a suspect is not alone"
        suspects = self.quarantine.check()
        assert not suspects & out, "an operation is handed out and waits to be"
        return out | suspects


def _describe(graph: Graph, node: int) -> str:
    symbols, operands1, operands2 = graph.columns([node])
    return describe(symbols, operands1[0], operands2[0])


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARS_MAX else f"{reason[:REASON_CHARS_MAX]}…"
