"""The leases of calls: who has what, until when.

A lease goes on as long as its worker gives signs of life. One from before a restart belongs to a
worker that is not known again yet: it goes on when that is heard of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from dte.core.calls.lease import CallLease
from dte.core.graph.call import CallState
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Delivery, Worker


class CallLeases:
    """Every lease of a call that has not ended, and what is due for it next."""

    def __init__(self, workers: AvailabilityQueue) -> None:
        self._workers = workers
        self._leases: dict[int, CallLease] = {}
        self._restored: dict[int, CallLease] = {}
        # Most moments come in order; a heap has the others.
        self._line: deque[tuple[float, CallLease]] = deque()
        self._moments: list[tuple[float, int, CallLease]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, number: int) -> CallLease | None:
        return self._leases.get(number)

    def is_on(self, lease: CallLease) -> bool:
        """Whether a lease has not ended."""
        return self._leases.get(lease.number) is lease

    def of(self, worker: Worker) -> list[CallLease]:
        """Those that a worker holds, the first first."""
        leases = [self._leases[number] for number in sorted(worker.call_leases)]
        if (
            worker.announcement.delivery is Delivery.MAILBOX
        ):  # It says nothing of its leases, so nobody attaches them.
            leases += self._restored_of(worker)
        return leases

    def add(self, lease: CallLease) -> None:
        """Take in a new lease."""
        lease.call.lease = self._leases[lease.number] = lease
        if lease.worker is None:
            self._restored[lease.number] = lease
        else:
            self._give(lease, lease.worker)

    def _give(self, lease: CallLease, worker: Worker) -> None:
        lease.worker = worker
        worker.call_leases.add(lease.number)
        worker.long_calls += lease.is_long

    def watch(self, lease: CallLease) -> None:
        """Have a lease among those that are `due` when its time has come."""
        moment = lease.deadline
        if lease.timeout_at is not None:
            moment = min(moment, lease.timeout_at)
        if not self._line or self._line[-1][0] <= moment:
            self._line.append((moment, lease))
        else:
            self._count += 1
            heappush(self._moments, (moment, self._count, lease))

    def due(self, now: float) -> Iterator[CallLease]:
        """The leases whose deadline, or the timeout of whose call, has come."""
        while (lease := self._next_watched(now)) is not None:
            if not self.is_on(lease):
                continue
            if lease.deadline <= now or (lease.timeout_at is not None and lease.timeout_at <= now):
                yield lease
            else:
                self.watch(lease)  # It has been renewed since.

    def _next_watched(self, now: float) -> CallLease | None:
        line = self._line
        while line and not self.is_on(line[0][1]):  # Most have ended long before their moment.
            line.popleft()
        if line and line[0][0] <= now:
            return line.popleft()[1]
        if self._moments and self._moments[0][0] <= now:
            return heappop(self._moments)[2]
        return None

    def next_moment(self) -> float | None:
        """When there may be something `due`."""
        moments = [line[0][0] for line in (self._line, self._moments) if line]
        return min(moments, default=None)

    def renew(self, now: float, lease: CallLease) -> None:
        """Put off a lease's deadline, as its worker is at work."""
        # Its old moment comes first, and is then put off too.
        lease.deadline = now + lease.lease_s
        if lease.worker is None:
            self._attach(lease)

    def renew_of(self, now: float, worker: Worker) -> None:
        """Put off the deadlines of all that a worker has which gives a sign of life."""
        for lease in dict.fromkeys((*self.of(worker), *self._restored_of(worker))):
            if lease.renewed:
                self.renew(now, lease)

    def _restored_of(self, worker: Worker) -> list[CallLease]:
        return [
            lease
            for lease in self._restored.values()
            if lease.worker_name == worker.announcement.name
        ]

    def _attach(self, lease: CallLease) -> None:
        """A worker is at work on a lease from before a restart: find out which one it is."""
        named = self._workers.named(lease.worker_name)
        if named:
            self._give(lease, named[0])
            del self._restored[lease.number]

    def release(self, lease: CallLease) -> None:
        """End a lease."""
        del self._leases[lease.number]
        self._restored.pop(lease.number, None)
        lease.call.lease = None
        claim = lease.claim
        if claim is not None and not claim.answered and lease.number in claim.leases:
            claim.leases.remove(lease.number)
        if lease.worker is not None:
            lease.worker.call_leases.discard(lease.number)
            lease.worker.long_calls -= lease.is_long
            self._workers.offer(lease.worker)

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        for number, lease in self._leases.items():
            assert number == lease.number
            assert lease.call.lease is lease
            assert lease.call.state in (CallState.RUNNING, CallState.CANCELLING)
            assert (lease.worker is None) == (number in self._restored)
            assert lease.worker is None or number in lease.worker.call_leases
        for worker in self._workers:
            assert worker.call_leases <= self._leases.keys(), "a lease that has ended is held"
            held = map(self._leases.__getitem__, worker.call_leases)
            assert worker.long_calls == sum(lease.is_long for lease in held)
