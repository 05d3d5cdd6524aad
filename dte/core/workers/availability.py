"""The availability queue: the known workers, and those with a free slot in line.

A worker is known by its address: the seed's workers name themselves after the second they start in,
so replicas share a name, and only one process listens at an address. A worker that pulls has no
address and is known by its name. Another name at an address, another
`incarnation` or another session is another start: the leases of the old one end.

    announced ──▶ available ◀──▶ pausing (after a failure, longer each time)
        ▲             │ silence     │ too many failures in a row
        └── announced anew ── gone ◀┘

After a failure a worker gets a single operation first. A worker with an incarnation announces
itself again and again. When an announcement is late, the worker may have ended, and its address is
tried. It is gone after some seconds without an announcement or a reply. A worker without an
incarnation, like the seed's, announces itself once: it is probed when it is silent, and gone if it
does not reply. It is probed now and then even when gone, as it would not come back by itself.

There are two lines, for arithmetic and for calls, which do not take each other's slots. A worker
that pulls stands in them as long as its claim is open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from random import Random

from dte.core.backoff import backoff_s
from dte.core.errors import Busy
from dte.core.limits import SchedulerLimits
from dte.core.shares import Shares
from dte.core.timers import Timers
from dte.core.workers.handlers import KnownHandlers
from dte.core.workers.worker import Announcement, Delivery, Worker

LIVENESS_S = 1.0
"""Workers are checked for silence this often."""
FORGET_S = 600.0
"""A worker that is gone stays listed this long; one that never did anything is kept this long."""
LEFT_S = 5.0
"""A worker that said that it leaves stays listed this long after its last sign of life."""
FAILURES_MAX = 12
"""Failures in a row after which a worker is gone: about half a minute of pauses."""
PROBE_GONE_S = 30.0
"""A gone worker that does not announce itself is probed this often."""

BATCH_TARGET_S = 0.005
"""Time for a batch, from hand-over to results. It is short, so that a new job waits little."""
BATCH_MORE_S = 0.002
"""More time for each worker that does arithmetic. Among many busy workers one is soon free for a
new job anyway, and replies wait for the master, or for cores that workers share: smaller batches
would mean more replies, and longer waits."""
BATCH_LONGEST_S = 0.1
"""Most time for a batch, however many workers there are."""
BATCH_FIRST = 16


class Line:
    """Workers with a free slot, in the order in which they came; each stands in it once.

    Args:
        free: counts the free slots of a worker.
    """

    def __init__(self, free: Callable[[Worker], int]) -> None:
        self._free = free
        self._workers: OrderedDict[Worker, None] = OrderedDict()

    @property
    def count(self) -> int:
        return len(self._workers)

    def offer(self, worker: Worker) -> None:
        """Put a worker in line if it has a free slot and is not there yet."""
        if worker not in self._workers and self._free(worker):
            self._workers[worker] = None

    def next(self) -> Worker | None:
        """Take the first worker with a free slot out of the line; `offer` puts it back."""
        while self._workers:
            worker, _ = self._workers.popitem(last=False)
            if self._free(worker):
                return worker
        return None

    def check(self, worker: Worker) -> None:
        """Assert that a worker with a free slot is in line; for tests."""
        assert worker in self._workers or not self._free(worker), "a free worker is not in line"


class AvailabilityQueue:
    """The known workers.

    Attributes:
        batches: those with a free slot for a batch of arithmetic.
        calls: those with a free slot for a call.
        handlers: those that they have.
    """

    def __init__(self, limits: SchedulerLimits, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._workers: dict[str, Worker] = {}
        self._pauses: Timers[Worker] = Timers(lambda worker, moment: worker.resumes_at == moment)
        self._check_at = float("-inf")
        self._forgotten: list[Worker] = []
        self._overdue: list[Worker] = []
        self._present = 0
        self._shares = Shares("workers", "workers_max", limits.workers_max)
        self.handlers = KnownHandlers()
        self.batches = Line(attrgetter("free_slots"))
        self.calls = Line(attrgetter("free_call_slots"))

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def announce(self, now: float, announcement: Announcement) -> tuple[Worker, bool]:
        """Note a worker's announcement.

        Returns:
            The worker, and whether it is another incarnation than the one known so far.

        Raises:
            Busy: too many workers, or names of handlers, are known and in use.
        """
        worker = self._workers.get(announcement.identity)
        if not self.handlers.has_room(worker, announcement):
            self._drop_unused([other for other in self if other is not worker])
            self.handlers.ensure_room(worker, announcement)
        if worker is None:
            self._make_room(now, announcement.owner)
            worker = self._workers[announcement.identity] = Worker(announcement, now, now)
            self._shares.add(announcement.owner)
            worker.batch = min(BATCH_FIRST, announcement.batch_max)
        old = worker.announcement
        if old.owner != announcement.owner:
            self._shares.remove(old.owner)
            self._shares.add(announcement.owner)
        reborn = old.start != announcement.start
        if reborn or worker.gone:
            worker.joined_at = now
        worker.announcement, worker.last_seen_at = announcement, now
        worker.batch = min(worker.batch, announcement.batch_max)
        if reborn or worker.gone or not announcement.incarnation:
            # Without an incarnation any announcement may be that of a new start.
            worker.gone, worker.failures, worker.resumes_at = False, 0, None
        if reborn:
            worker.unreachable, worker.superseded = None, old.incarnation
        self.handlers.note(worker)
        self._heard(worker)
        self.offer(worker)
        return worker, reborn

    def _make_room(self, now: float, owner: str) -> None:
        workers_max = self._limits.workers_max
        if not self._shares.has_room(owner):
            self._drop_unused([each for each in self if each.announcement.owner == owner])
        self._shares.ensure_room(owner)
        if len(self._workers) < workers_max:
            return
        self._drop_unused(list(self))
        if len(self._workers) >= workers_max:
            self._drop_most_silent(now)
        if len(self._workers) >= workers_max:
            raise Busy(
                f"too many workers: {len(self._workers)} + 1 > {workers_max} (workers_max)",
                retry_after_s=5,
            )

    def _drop_unused(self, workers: Iterable[Worker]) -> None:
        """Forget those of some workers that get no work now, and have none."""
        for worker in workers:
            if worker.state in ("gone", "draining", "pausing") and not worker.lease_count:
                self._forget(worker)

    def _drop_most_silent(self, now: float) -> None:
        """Forget the most silent worker that never did anything, if it has been so for long."""
        silent = [
            worker
            for worker in self
            if not (worker.lease_count or worker.operations_done or worker.calls_done)
            and now - worker.last_seen_at > FORGET_S
        ]
        if silent:
            self._forget(min(silent, key=lambda worker: worker.last_seen_at))

    def _forget(self, worker: Worker) -> None:
        """Forget a worker. It then has no free slots, so both lines skip it."""
        worker.gone, worker.resumes_at = True, None
        if worker.suspects:
            self._forgotten.append(worker)
        del self._workers[worker.announcement.identity]
        self.handlers.note(worker, known=False)
        self._shares.remove(worker.announcement.owner)

    def _set_gone(self, worker: Worker, gone: bool) -> None:
        """A known worker is gone, or is back."""
        worker.gone = gone
        if self._workers.get(worker.announcement.identity) is worker:
            self.handlers.note(worker)

    def get(self, identity: str) -> Worker | None:
        """The worker with an address, or known as ``pull:NAME``."""
        return self._workers.get(identity)

    def remove(self, worker: Worker) -> None:
        """Know a worker no more that has left."""
        if self._workers.get(worker.announcement.identity) is worker:
            self._forget(worker)

    def named(self, name: str) -> list[Worker]:
        return [worker for worker in self if worker.announcement.name == name]

    def offer(self, worker: Worker) -> None:
        """Put a worker in the lines for which it has a free slot."""
        self.batches.offer(worker)
        self.calls.offer(worker)

    def succeeded(self, now: float, worker: Worker, operations: int, took_s: float) -> None:
        """Note that a worker gave results, and adapt the size of its next batch."""
        worker.last_seen_at = now
        if worker.gone:
            worker.joined_at = now
            self._set_gone(worker, False)
        worker.failures, worker.last_failure = 0, None
        target_s = min(BATCH_TARGET_S + self._present * BATCH_MORE_S, BATCH_LONGEST_S)
        if took_s > 2 * target_s:
            worker.batch = max(1, worker.batch // 2)
        elif took_s * worker.batch < target_s * operations:  # The time of a full batch.
            worker.batch = min(worker.announcement.batch_max, worker.batch * 2)

    def seen(self, now: float, worker: Worker) -> None:
        """Note a sign of life of a worker, unless it has been removed."""
        if self._workers.get(worker.announcement.identity) is not worker:
            return
        worker.last_seen_at = now
        if worker.gone:
            worker.joined_at = now
            self._set_gone(worker, False)
        self._heard(worker)
        self.offer(worker)

    def _heard(self, worker: Worker) -> None:
        """A worker that asks for work is there; one that is called must be reached for that."""
        if worker.unreachable is not None and worker.announcement.delivery is not Delivery.PUSH:
            self.reached(worker, None)

    def failed(self, now: float, worker: Worker, reason: str) -> None:
        """Note a failed hand-over: the worker pauses, or is gone after too many."""
        worker.last_failure = reason
        if worker.gone or worker.resumes_at is not None:
            return  # Its slots fail together: another lease has reported this failure.
        worker.failures += 1
        worker.batch = 1
        if worker.failures >= FAILURES_MAX:
            worker.resumes_at = None
            self._set_gone(worker, True)
            return
        worker.resumes_at = now + backoff_s(self._random, worker.failures)
        self._pauses.add(worker.resumes_at, worker)

    def reached(self, worker: Worker, problem: str | None) -> None:
        """Note that a worker can be reached, or the reason why it cannot."""
        if problem is not None:
            worker.last_failure = problem
        elif worker.last_failure == worker.unreachable:
            worker.last_failure = None
        worker.unreachable = problem
        self.offer(worker)

    def resume(self, now: float) -> None:
        """Put the workers whose pause is over back in line."""
        for worker in self._pauses.due(now):
            worker.resumes_at = None
            self.offer(worker)

    def check_liveness(self, now: float) -> tuple[list[Worker], list[Worker]]:
        """Check the workers for silence, once a second.

        Returns:
            The workers that are gone now, and those to be probed.
        """
        if now < self._check_at:
            return [], []
        self._check_at = now + LIVENESS_S
        gone, silent = self._forgotten, []
        self._forgotten = []
        self._present = sum(
            not worker.gone and worker.announcement.arithmetic and not worker.announcement.draining
            for worker in self
        )
        for worker in list(self):
            silent_s = now - worker.last_seen_at
            dead_after_s = worker.announcement.dead_after_s or self._limits.dead_after_s
            if worker.claim is not None and not worker.gone:
                worker.last_seen_at = now  # Its request is open, so it is there.
            elif self._is_over(worker, silent_s, dead_after_s):
                self._forget(worker)
            elif silent_s > dead_after_s and self._may_be_gone(worker):
                worker.resumes_at = None
                self._set_gone(worker, True)
                worker.last_failure = f"silent for {silent_s:.0f} s"
                gone.append(worker)
            elif self._needs_probe(now, worker):
                worker.probed_at = now
                silent.append(worker)
            elif self._is_overdue(now, worker):
                worker.probed_at = now
                self._overdue.append(worker)
        return gone, silent

    def _is_over(self, worker: Worker, silent_s: float, dead_after_s: float) -> bool:
        """True if a worker that has nothing any more left properly, or has been gone for long."""
        if worker.lease_count:
            return False
        if worker.gone:
            return silent_s > FORGET_S
        return worker.announcement.draining and silent_s > min(LEFT_S, dead_after_s)

    def _may_be_gone(self, worker: Worker) -> bool:
        """True if silence means something; of a worker that only replies, not before a probe."""
        if worker.gone:
            return bool(worker.suspects)
        announcement = worker.announcement
        return bool(
            announcement.incarnation
            or worker.failures
            or announcement.delivery is not Delivery.PUSH
        )

    def _needs_probe(self, now: float, worker: Worker) -> bool:
        """True if a worker that announces itself only once has been silent for too long."""
        announcement = worker.announcement
        if (
            announcement.incarnation
            or announcement.delivery is not Delivery.PUSH
            or announcement.draining
            or not announcement.arithmetic
            or worker.batch_leases
            or worker.resumes_at is not None
        ):
            return False
        if worker.gone:
            return now - max(worker.probed_at, worker.last_seen_at) > PROBE_GONE_S
        return now - worker.last_seen_at > self._limits.heartbeat_s

    def _is_overdue(self, now: float, worker: Worker) -> bool:
        """True if a worker that announces itself again and again is late with that."""
        announcement = worker.announcement
        if (
            not announcement.incarnation
            or announcement.delivery is not Delivery.PUSH
            or announcement.draining
            or worker.gone
            or worker.unreachable is not None
        ):
            return False
        heard_at = max(worker.probed_at, worker.last_seen_at)
        return now - heard_at > self._limits.heartbeat_s + LIVENESS_S

    def take_overdue(self) -> list[Worker]:
        """The workers since the last call whose announcement is late."""
        overdue, self._overdue = self._overdue, []
        return overdue

    def next_moment(self) -> float | None:
        """When `resume` or `check_liveness` next have something to do."""
        if not self._workers:
            return None
        moment = self._pauses.next_moment()
        return self._check_at if moment is None else min(moment, self._check_at)

    def check(self) -> None:
        """Assert every invariant; for tests."""
        owned = [worker.announcement.owner for worker in self if worker.announcement.owner]
        assert all(self._shares.used(owner) == owned.count(owner) for owner in set(owned))
        self.handlers.check(self)
        for worker in self:
            self.batches.check(worker)
            self.calls.check(worker)
            if worker.announcement.delivery is Delivery.PUSH:
                assert len(worker.batch_leases) <= worker.announcement.slots, (
                    "more leases than slots"
                )
