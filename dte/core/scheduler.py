"""The core: jobs in, leases out, results in, ended jobs out.

Its laws:

1. It has no sockets, clock, threads, chance or log. Inputs are method calls with `now`, seconds on
   any clock that does not go back; outputs are the values that `tick` and `JobTable.facts` give.
   The jitter of pauses comes from a seed.
2. A worker gets only operations whose operands are known, of jobs that are recorded.
3. A hand-over is a lease. A result under a lease that has ended changes nothing.
4. A job ends once: `Job.enter` knows the ways. Nobody sees an end that is not recorded.
5. Every bound has a name, and a caller who meets it hears that name.
6. Making an operation ready, handing it over and finishing it each cost O(1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.quarantine import Quarantine
from dte.core.calls.lease import CallLease
from dte.core.calls.scheduler import CallScheduler
from dte.core.errors import Conflict
from dte.core.graph.arithmetic import Graph
from dte.core.graph.numbers import Number, describe
from dte.core.jobs.facts import Event
from dte.core.jobs.job import Job, JobState, Suspicion
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Announcement, Claim, Delivery, Failure, Worker

SPLIT_MIN = 16
"""Sharing among free workers stops at a batch's sixteenth: less costs more than it saves."""
LEASES_IN_TICK = 100
"""How many leases are made in a tick: each costs some 50 µs to send."""
OPERATIONS_IN_TICK = 8_192
"""And after how many operations in them the rest waits for the next tick: each costs about 1 µs."""
REASON_CHARS_MAX = 500
"""A worker's reason for a failure is kept up to here."""
LEASES_OF_A_BOOT = 10_000_000_000
"""Numbers of leases begin with the boot's: 30000000007 is the seventh of the third start."""


MALFORMED_MAX, BROKEN_MAX = 5, 20
"""How often an operation may come to nothing, alone with a worker that lives on, before its job
ends. A broken connection is more often the network's fault than the operation's."""


@dataclass(slots=True)
class Tick:
    """The outcome of a tick.

    Attributes:
        batches: operations to hand over now; one without any only asks whether the worker is there.
        ended: jobs whose end has been recorded since the last tick.
        lost: leases that have ended without results since the last tick.
        calls: calls to hand to workers now.
        stops: calls that workers are to stop.
        claims: claims that can be answered.
        events: what happened, for those who watch.
    """

    batches: list[BatchLease] = field(default_factory=list)
    ended: list[Job] = field(default_factory=list)
    lost: list[BatchLease] = field(default_factory=list)
    calls: list[CallLease] = field(default_factory=list)
    stops: list[CallLease] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Scheduler:
    """Decides which operation goes to which worker.

    Args:
        limits: its bounds.
        boot: the number of this start, part of the number of every lease.
        seed: of the jitter of pauses.

    Attributes:
        jobs: what is to be done, and how every job stands.
        calls: the course of calls.
        stale_results: how many results came under leases that had ended.
    """

    def __init__(self, limits: SchedulerLimits, boot: int = 0, seed: int = 0) -> None:
        self._limits = limits
        random = Random(seed)
        self.jobs = JobTable(limits)
        self._workers = AvailabilityQueue(limits, random)
        self._quarantine = Quarantine(random, limits.workers_lost_max)
        self.calls = CallScheduler(limits, self.jobs, self._workers, random, self._number)
        self._reserved: dict[Worker, None] = {}
        self._leases: dict[int, BatchLease] = {}
        self._last_lease = boot * LEASES_OF_A_BOOT
        self._lost: list[BatchLease] = []
        self._more_to_match = False
        self._handing_over = True
        self.stale_results = 0

    # Workers

    def announce(self, now: float, announcement: Announcement) -> Worker:
        """Note that a worker is there, or that it is again, or that it leaves.

        Raises:
            Busy: too many workers are known.
        """
        worker, reborn = self._workers.announce(now, announcement)
        if reborn:
            self._worker_ended(now, worker, "the worker was started anew")
            self._workers.offer(worker)
        elif announcement.incarnation:
            self._clear(now, worker)
        # Without an incarnation it may have started anew or not: it will be asked.
        if announcement.draining:
            self._reserve_no_more(worker)
        self.calls.know(announcement.handlers)
        return worker

    def claim(self, now: float, announcement: Announcement, slots: int) -> Claim:
        """Note that a worker waits for work; a claim of its that waits already is withdrawn.

        Args:
            slots: how many calls it takes.

        Raises:
            Busy: too many workers are known.
            Conflict: another worker of this name is at work.
        """
        other = self._workers.get(announcement.identity)
        if other is not None and self._is_another(now, other, announcement):
            raise Conflict(
                f"worker name {announcement.name!r} is taken; workers that pull need unique names"
            )
        worker = self.announce(now, announcement)
        self._clear(now, worker)
        if worker.claim is not None:
            self.withdraw(now, worker.claim)
        return self.calls.claim(worker, slots)

    def _is_another(self, now: float, known: Worker, announcement: Announcement) -> bool:
        """Whether a worker that claims is there beside the one that is known by its name."""
        same = not announcement.incarnation or known.announcement.incarnation in (
            "",
            announcement.incarnation,
        )
        if same or known.gone or known.announcement.draining:
            return False
        silent_s = now - known.last_seen_at
        return known.claim is not None or (known.holds > 0 and silent_s < self._limits.lease_s / 2)

    def holder(self, number: int) -> str | None:
        """The name of the worker that has a lease of arithmetic; None if it has ended."""
        lease = self._leases.get(number)
        return lease.worker.announcement.name if lease is not None else None

    def claimed(self, claim: Claim) -> tuple[list[CallLease], BatchLease | None]:
        """The leases of an answered claim, except for those that have ended."""
        if not claim.answered:
            return [], None
        calls = [self.calls.lease(number) for number in claim.leases]
        return [lease for lease in calls if lease is not None], self._leases.get(claim.batch)

    def withdraw(self, now: float, claim: Claim) -> None:
        """Note that nobody waits for a claim any more; what it got goes to others."""
        self.calls.withdraw(now, claim)
        batch = self._leases.get(claim.batch)
        if batch is not None:
            self._lose(now, batch, "its worker hung up", taken=False)

    def leave(self, now: float, worker: Worker) -> None:
        """A worker says that it has ended."""
        self._worker_ended(now, worker, "it has left")
        self._workers.remove(worker)

    def worker(self, identity: str) -> Worker | None:
        """The worker that is known by an address, or as ``pull:NAME``."""
        return self._workers.get(identity)

    def workers(self) -> list[Worker]:
        """Every known worker, those that are gone too."""
        return list(self._workers)

    def _worker_ended(self, now: float, worker: Worker, reason: str) -> None:
        held = [self._leases[number] for number in worker.leases]
        for lease in held:
            self._suspect(now, lease)
        self._convict(now, worker)
        for lease in held:
            self._lose(now, lease, reason, taken=True)
        self.calls.worker_ended(now, worker, reason)

    def _suspect(self, now: float, lease: BatchLease) -> None:
        """Note that a worker vanished, and that what it had under a lease may be why."""
        worker = lease.worker
        worker.accused_at = now
        for job, nodes in lease.parts:
            if job.graph is None:
                continue
            for node in nodes:
                if (job.number, node) not in worker.accused:
                    worker.accused[job.number, node] = job
                    _suspicion(job, node).open += 1

    def _clear(self, now: float, worker: Worker) -> None:
        """A worker that vanished is there: nothing has ended it."""
        accused, worker.accused = worker.accused, {}
        for (_, node), job in accused.items():
            if job.suspicions and node in job.suspicions:
                job.suspicions[node].open -= 1
            self._quarantine.release(now, job, node)

    def _convict(self, now: float, worker: Worker) -> None:
        """A worker has ended: count it against each of the operations that may be why."""
        for (_, node), job in worker.accused.items():
            if job.graph is None or job.graph.is_done(node):
                continue
            suspicion = _suspicion(job, node)
            suspicion.workers_lost += 1
            if suspicion.workers_lost >= self._limits.workers_lost_max:
                lost = suspicion.workers_lost
                reason = f"{lost} workers were lost while they did it (workers_lost_max)"
                self.jobs.end(now, job, error=_failure(job.graph, node, reason))
        self._clear(now, worker)

    # Leases

    def complete(
        self,
        now: float,
        number: int,
        results: Sequence[Number],
        errors: Mapping[int, str],
        took_s: float | None = None,
    ) -> bool:
        """Take in what a worker gave back under a lease.

        Args:
            number: the lease's number.
            results: a number for each operation of the lease, in its order.
            errors: why operations failed, by their place in the lease; what `results` has at such
                a place is not looked at.
            took_s: how long the worker says that it took; None if it does not. What makes no sense
                is not heeded.

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
            self.fail(now, number, reason, Failure.MALFORMED)
            return False
        self._release(lease)
        if lease.leased_at > lease.worker.accused_at:  # Else it may have answered and ended then.
            self._clear(now, lease.worker)
        if took_s is None or took_s < 0:
            took_s = now - lease.leased_at
        self._workers.succeeded(now, lease.worker, lease.count, took_s)
        self._workers.offer(lease.worker)
        if errors:
            self._end_failed(now, lease, errors)
        for call in self.jobs.finish(now, lease.parts, results):
            self.calls.begin_call(now, call)
        return True

    def _end_failed(self, now: float, lease: BatchLease, errors: Mapping[int, str]) -> None:
        """End the jobs of operations that failed, each by the first of its own."""
        failed = sorted(errors)
        start = 0
        for job, nodes in lease.parts:
            end = start + len(nodes)
            first = bisect_left(failed, start)
            if first < len(failed) and failed[first] < end:
                place = failed[first]
                if job.graph is not None and not job.cancelled:
                    reason = _failure(job.graph, nodes[place - start], errors[place])
                    self.jobs.end(now, job, error=reason)
            start = end

    def fail(self, now: float, number: int, reason: str, failure: Failure) -> None:
        """Say that a lease came to nothing: its operations are ready again.

        A lease that has ended is not looked at.
        """
        lease = self._leases.get(number)
        if lease is None:
            return
        worker = lease.worker
        self._workers.failed(now, worker, reason)
        taken = failure.received
        if failure is Failure.REFUSED:
            self._convict(now, worker)
        elif failure is Failure.BROKEN:
            self._suspect(now, lease)
        self._lose(now, lease, reason, taken)
        if taken and lease.count == 1:
            ((job, nodes),) = lease.parts
            if job.graph is not None:
                suspicion = _suspicion(job, nodes[0])
                if failure is Failure.MALFORMED:
                    suspicion.garbled += 1
                else:
                    suspicion.broken += 1
                if suspicion.garbled >= MALFORMED_MAX or suspicion.broken >= BROKEN_MAX:
                    reason = f"no worker could do it, the last time: {reason}"
                    self.jobs.end(now, job, error=_failure(job.graph, nodes[0], reason))

    def fail_call(self, now: float, lease: CallLease, reason: str, failure: Failure) -> None:
        """Say that a call could not be handed over, or came to nothing there."""
        worker = lease.worker
        if worker is not None and lease.number in worker.call_leases:
            self._workers.failed(now, worker, reason)
            if failure is Failure.REFUSED:
                self._convict(now, worker)
        taken = failure.received
        self.calls.fail(now, lease.number, reason, taken=taken)

    def late(self, now: float, lease: BatchLease) -> None:
        """Note that a worker answered under a lease that had ended by silence: it is there."""
        self.stale_results += bool(lease.count)
        worker = lease.worker
        if worker.joined_at <= lease.leased_at:
            self._clear(now, worker)
            self._workers.heard(now, worker)

    def tick(self, now: float) -> Tick:
        """Do what is due by now and hand over what can be: call it after any input, or in time."""
        while self._leases:
            lease = next(iter(self._leases.values()))
            if lease.deadline > now:
                break
            lease.may_come_late = True
            self.fail(now, lease.number, f"silent for {self._limits.lease_s:g} s", Failure.BROKEN)
        gone, silent = self._workers.check_liveness(now)
        for worker in gone:
            self._worker_ended(now, worker, worker.last_failure or "")
        questions = [self._lease(now, worker, []) for worker in silent if self._handing_over]
        self._workers.resume(now)
        self._quarantine.resume(now)
        self.jobs.sweep()
        self.calls.advance(now)
        leases = questions + self._match(now)
        calls = self.calls.hand_over(now)
        events, self.jobs.events = self.jobs.events, []
        lost, self._lost = self._lost, []
        ended = self.jobs.take_ended()
        return Tick(leases, ended, lost, calls.leases, calls.stops, calls.claims, events)

    def hand_over_no_more(self) -> None:
        """Make no more leases; those that there are may still be completed."""
        self._handing_over = self.calls.handing_over = False

    @property
    def leases(self) -> int:
        """How many leases of arithmetic there are."""
        return len(self._leases)

    def next_tick(self) -> float | None:
        """When `tick` must be called although nothing happens; None when never."""
        if self._more_to_match or self.jobs.sweeping:
            return float("-inf")
        moments = [
            self._workers.next_moment(),
            self._quarantine.next_moment(),
            self.calls.next_moment(),
        ]
        if self._leases:
            moments.append(next(iter(self._leases.values())).deadline)
        return min((moment for moment in moments if moment is not None), default=None)

    def _match(self, now: float) -> list[BatchLease]:
        leases: list[BatchLease] = []
        passed: list[Worker] = []
        operations = 0
        self._more_to_match = False
        while self._handing_over and (self.jobs.ready.count or len(self._quarantine)):
            if len(leases) >= LEASES_IN_TICK or operations >= OPERATIONS_IN_TICK:
                self._more_to_match = True
                break
            worker = self._workers.next() or self._reserved_in_vain()
            if worker is None:
                break
            parts = self._parts_for(worker)
            # Who vanished is asked first: what a dead worker gets would be charged with its end.
            if parts or (worker.accused and not worker.leases):
                lease = self._lease(now, worker, parts)
                operations += lease.count
                if worker.announcement.delivery is Delivery.PUSH:
                    leases.append(lease)
                self._workers.offer(worker)
            else:
                passed.append(worker)
        for worker in passed:
            self._workers.offer(worker)
        return leases

    def _parts_for(self, worker: Worker) -> list[tuple[Job, array[int]]]:
        """What a worker with a free slot is to do; nothing if it is to wait, or to be asked."""
        self._reserve_no_more(worker)
        if worker.accused:
            return []
        if len(self._quarantine):
            if not worker.leases:
                parts = self._quarantine.take()
                if parts:
                    worker.alone = True
                    return parts
            elif len(self._reserved) < len(self._quarantine):
                worker.reserved = True
                self._reserved[worker] = None
                return []
        ready = self.jobs.ready
        if not ready.count:
            return []
        share = -(-ready.count // (len(self._workers) + 1))
        return ready.take(min(worker.batch, max(share, worker.batch // SPLIT_MIN)))

    def _reserve_no_more(self, worker: Worker) -> None:
        worker.reserved = False
        self._reserved.pop(worker, None)

    def _reserved_in_vain(self) -> Worker | None:
        """A worker that was to get a suspect, if others have got those that there were."""
        while len(self._reserved) > len(self._quarantine):
            worker = next(iter(self._reserved))
            self._reserve_no_more(worker)
            if worker.free_slots:
                return worker
        return None

    def _lease(self, now: float, worker: Worker, parts: list[tuple[Job, array[int]]]) -> BatchLease:
        count = 0
        for job, nodes in parts:
            count += len(nodes)
            if job.started_at is None:
                job.started_at = now
                job.enter(JobState.RUNNING)
                self.jobs.events.append(Event(now, job.number, "", "running"))
        deadline = now + self._limits.lease_s
        lease = BatchLease(self._number(), worker, parts, count, now, deadline, worker.alone)
        self._leases[lease.number] = lease
        worker.leases.add(lease.number)
        if worker.claim is not None:
            worker.claim.batch = lease.number
            lease.kept = lease.columns()
        return lease

    def _number(self) -> int:
        """The number of the next lease."""
        self._last_lease += 1
        return self._last_lease

    def _release(self, lease: BatchLease) -> None:
        del self._leases[lease.number]
        lease.worker.leases.discard(lease.number)
        if lease.alone:
            lease.worker.alone = False

    def _lose(self, now: float, lease: BatchLease, reason: str, taken: bool) -> None:
        """End a lease without results. What the worker has not got is nobody's fault.

        A suspect that it has not got stays one, or it would be in a batch with others again.
        """
        self._release(lease)
        self._reserve_no_more(lease.worker)
        lease.lost_because = reason
        for job, nodes in lease.parts:
            if job.graph is None or job.state is JobState.CANCELLING:
                continue
            if taken or lease.alone:
                self._quarantine.add(now, job, nodes)
            else:
                job.graph.requeue(nodes)
                self.jobs.ready.add(job, len(nodes))
        self._workers.offer(lease.worker)
        self._lost.append(lease)

    def check(self) -> None:
        """Assert every invariant; for tests, after each step."""
        self._workers.check()
        self.calls.check()
        handed_out: set[tuple[int, int]] = set()
        for number, lease in self._leases.items():
            assert number == lease.number in lease.worker.leases
            for job, nodes in lease.parts:
                operations = {(job.number, node) for node in nodes}
                assert not operations & handed_out, "an operation is handed out twice"
                handed_out |= operations
        for worker in self._workers:
            assert worker.leases <= self._leases.keys(), "a worker holds a lease that has ended"
            assert not worker.alone or len(worker.leases) == 1, "a suspect is not alone"
            assert worker.reserved == (worker in self._reserved)
        suspected = self._quarantine.operations()
        assert not suspected & handed_out, "an operation is handed out and waits to be"
        busy = handed_out | suspected
        for job in self.jobs.check():
            assert job.graph is not None
            out = {node for number, node in busy if number == job.number}
            assert not out & set(job.graph.ready), "an operation is ready and handed out"
            if job.calls is None and job.state is not JobState.ACCEPTING:
                assert out or job.graph.ready, f"job {job.number} waits for nothing"


def _suspicion(job: Job, node: int) -> Suspicion:
    if job.suspicions is None:
        job.suspicions = {}
    return job.suspicions.setdefault(node, Suspicion())


def _failure(graph: Graph, node: int, reason: str) -> str:
    if len(reason) > REASON_CHARS_MAX:
        reason = f"{reason[:REASON_CHARS_MAX]}…"
    symbols, operands1, operands2 = graph.columns([node])
    return f"{reason}: {describe(symbols, operands1[0], operands2[0])}"
