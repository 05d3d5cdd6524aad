"""The leases of calls: who has which call, until when.

A lease goes on as long as its worker gives signs of life. A lease from before a restart belongs to
a worker that is not known yet; it is attached to the worker when that is seen again: by the session
that the journal has with the lease, or, of a worker without one, by its name in its dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from dte.core.calls.lease import CallLease
from dte.core.calls.outgoing import Outgoing
from dte.core.graph.call import CallState
from dte.core.timers import Timers
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Delivery, Worker

DUE_IN_TICK = 300
"""Most leases whose moment is looked at in a tick: to end one takes some 20 µs."""


class CallLeases:
    """Every lease of a call that has not ended, with its next deadline.

    Attributes:
        outgoing: the arguments on their way to workers.
    """

    def __init__(self, workers: AvailabilityQueue) -> None:
        self.outgoing = Outgoing()
        self._workers = workers
        self._leases: dict[int, CallLease] = {}
        self._restored: dict[int, CallLease] = {}
        self._deadlines: Timers[CallLease] = Timers(lambda lease, _: self.is_on(lease))

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[CallLease]:
        return iter(self._leases.values())

    def get(self, number: int) -> CallLease | None:
        return self._leases.get(number)

    def sessions(self, numbers: Iterable[int]) -> dict[int, str]:
        """The sessions of some leases; "" for those of workers without one."""
        known = self._leases.keys() & numbers
        return {number: self._leases[number].call.record.session or "" for number in known}

    def is_on(self, lease: CallLease) -> bool:
        """True until a lease ends."""
        return lease.number in self._leases

    def of(self, worker: Worker) -> list[CallLease]:
        """The leases of a worker, in the order of their numbers."""
        leases = [self._leases[number] for number in sorted(worker.call_leases)]
        if worker.announcement.delivery is Delivery.MAILBOX:
            # It names no leases in its signs of life, so nothing attaches them to it.
            leases += self._restored_of(worker)
        return leases

    def sent_to(self, worker: Worker) -> list[CallLease]:
        """The leases of a worker, except for those that are being recorded."""
        return [lease for lease in self.of(worker) if lease.sent]

    def add(self, lease: CallLease) -> None:
        """Take in a new lease."""
        self._leases[lease.number] = lease
        lease.call.record.lease, lease.call.record.lease_s = lease.number, lease.lease_s
        if lease.worker is None:
            self._restored[lease.number] = lease
        else:
            self._give(lease, lease.worker)

    def _give(self, lease: CallLease, worker: Worker) -> None:
        lease.worker = worker
        worker.call_leases.add(lease.number)
        worker.long_calls += lease.is_long

    def watch(self, lease: CallLease) -> None:
        """Have a lease among those that are `due` at its deadline, or at its call's timeout."""
        moment = lease.deadline
        if lease.timeout_at is not None:
            moment = min(moment, lease.timeout_at)
        self._deadlines.add(moment, lease)

    def due(self, now: float) -> Iterator[CallLease]:
        """The first leases whose deadline, or the timeout of whose call, has come.

        If there are more, `next_moment` stays in the past.
        """
        for lease in islice(self._deadlines.due(now), DUE_IN_TICK):
            if lease.deadline <= now or (lease.timeout_at is not None and lease.timeout_at <= now):
                yield lease
            else:
                self.watch(lease)  # It has been renewed since.

    def next_moment(self) -> float | None:
        """When there may be something `due`."""
        return self._deadlines.next_moment()

    def renew(self, now: float, lease: CallLease) -> None:
        """Put off a lease's deadline: its worker is at work."""
        # Its old moment comes first, and is then put off too.
        lease.deadline = now + lease.lease_s
        if lease.worker is None:
            self._attach(lease)

    def renew_of(self, now: float, worker: Worker) -> None:
        """Put off the deadlines of a worker that gives a sign of life without naming leases."""
        for lease in dict.fromkeys((*self.of(worker), *self._restored_of(worker))):
            if lease.renewed:
                self.renew(now, lease)

    def _restored_of(self, worker: Worker) -> list[CallLease]:
        said = worker.announcement
        return [
            lease
            for lease in self._restored.values()
            if lease.is_of(said.name, said.dialect, said.session)
        ]

    def _attach(self, lease: CallLease) -> None:
        """Give a lease from before a restart to its worker, if that has announced itself."""
        for worker in self._workers.named(lease.worker_name):
            said = worker.announcement
            if lease.is_of(said.name, said.dialect, said.session):
                self._give(lease, worker)
                del self._restored[lease.number]
                break

    def release(self, lease: CallLease) -> None:
        """End a lease."""
        if lease.unsent and not lease.sent:  # Otherwise they are in a request.
            self.outgoing.sent(lease)
        del self._leases[lease.number]
        self._restored.pop(lease.number, None)
        lease.call.record.lease, lease.call.record.lease_s = 0, 0.0
        lease.call.record.session = None
        claim, worker = lease.claim, lease.worker
        if claim is not None and not claim.answered and lease.number in claim.call_leases:
            claim.call_leases.remove(lease.number)
        if worker is not None:
            worker.call_leases.discard(lease.number)
            worker.long_calls -= lease.is_long
            self._workers.offer(worker)

    def check(self) -> None:
        """Assert every invariant; for tests."""
        for number, lease in self._leases.items():
            assert number == lease.number == lease.call.record.lease
            assert lease.call.state in (CallState.RUNNING, CallState.CANCELLING)
            assert (lease.worker is None) == (number in self._restored)
            assert lease.worker is None or number in lease.worker.call_leases
        for worker in self._workers:
            assert worker.call_leases <= self._leases.keys(), "a worker has a lease that has ended"
            leases = map(self._leases.__getitem__, worker.call_leases)
            assert worker.long_calls == sum(lease.is_long for lease in leases)
