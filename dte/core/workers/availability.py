"""The worker-availability queue: who can take how many operations now.

A worker is known by its address: the seed's workers name themselves after the second they start in,
so that replicas share a name, and only one process listens at an address. One that fetches its work
has no address, and is known by its name. Another name at an address, or another `incarnation`, is
another start: what was leased to the old one is over.

    announced ──▶ available ◀──▶ pausing (after a failure, longer each time)
        ▲             │ silence     │ too many failures in a row
        └── announced anew ── gone ◀┘

After a failure a worker is tried with a single operation. One with an incarnation announces itself
again and again, and is gone when it has neither done so nor answered for some seconds. One without,
like the seed's, announces itself once: when it is silent it is asked, and is gone when it has not
answered for as long; even then it is asked now and then, as it would not come back by itself.

A worker stands in line twice: for arithmetic and for calls, which do not take each other's slots.
One that claims its work does so as long as its claim waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random

from dte.core.backoff import backoff_s
from dte.core.errors import Busy
from dte.core.limits import SchedulerLimits
from dte.core.workers.worker import Announcement, Delivery, Worker

CENSUS_S = 1.0
"""How often workers are looked through for those that are gone."""
FORGET_S = 600.0
"""How long a worker that is gone is still listed, or one that never did anything is waited for."""
FAILURES_MAX = 12
"""Failures in a row after which a worker is taken out: about half a minute of pauses."""

ASK_GONE_S = 30.0
"""How often a worker that is gone, and does not announce itself, is asked."""

BATCH_TARGET_S = 0.005
"""How long a batch is to take, from hand-over to results. Short, so that a new job waits little."""
BATCH_MORE_S = 0.002
"""How much longer it may take for each worker that does arithmetic. Where many are busy, one of
them is soon free for a new job all the same, and replies wait for the master, or for cores that
workers share: with less in each there would be more of them, and they would wait longer."""
BATCH_LONGEST_S = 0.1
"""How long one may take, however many workers there are."""
BATCH_FIRST = 16


class AvailabilityQueue:
    """The known workers, and in line those with a free slot."""

    def __init__(self, limits: SchedulerLimits, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._workers: dict[str, Worker] = {}
        self._line: deque[Worker] = deque()
        self._call_line: deque[Worker] = deque()
        self._pauses: list[tuple[float, int, Worker]] = []
        self._pause_count = 0
        self._census_at = float("-inf")
        self._forgotten: list[Worker] = []
        self._present = 0

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def announce(self, now: float, announcement: Announcement) -> tuple[Worker, bool]:
        """Note a worker's announcement.

        Returns:
            The worker, and whether it is another incarnation than the one known so far.

        Raises:
            Busy: as many workers as the bound are known and in use.
        """
        worker = self._workers.get(announcement.identity)
        if worker is None:
            self._make_room(now)
            worker = self._workers[announcement.identity] = Worker(announcement, now, now)
            worker.batch = min(BATCH_FIRST, announcement.batch_max)
        old = worker.announcement
        reborn = (old.name, old.incarnation) != (announcement.name, announcement.incarnation)
        if reborn or worker.gone:
            worker.joined_at = now
        worker.announcement, worker.last_seen_at = announcement, now
        worker.batch = min(worker.batch, announcement.batch_max)
        if reborn or worker.gone or not announcement.incarnation:
            # Without an incarnation any announcement may be that of a new start.
            worker.gone, worker.failures, worker.resumes_at = False, 0, None
        self.offer(worker)
        return worker, reborn

    def _make_room(self, now: float) -> None:
        workers_max = self._limits.workers_max
        if len(self._workers) < workers_max:
            return
        for worker in list(self):
            if worker.state in ("gone", "draining", "pausing") and not worker.holds:
                self._forget(worker)
        if len(self._workers) >= workers_max:
            self._drop_most_silent(now)
        if len(self._workers) >= workers_max:
            raise Busy(
                f"{len(self._workers)} workers are registered, "
                "which is as many as this master takes (workers_max)",
                retry_after_s=5,
            )

    def _drop_most_silent(self, now: float) -> None:
        """Forget the worker that never did anything and was heard of longest, and long, ago."""
        silent = [
            worker
            for worker in self
            if not (worker.holds or worker.operations_done or worker.calls_done)
            and now - worker.last_seen_at > FORGET_S
        ]
        if silent:
            self._forget(min(silent, key=lambda worker: worker.last_seen_at))

    def _forget(self, worker: Worker) -> None:
        """Know a worker no more; where it still stands in line or pauses, it is passed over."""
        worker.gone, worker.resumes_at = True, None
        if worker.accused:
            self._forgotten.append(worker)
        del self._workers[worker.announcement.identity]

    def get(self, identity: str) -> Worker | None:
        """The worker that is known by an address, or as ``pull:NAME``."""
        return self._workers.get(identity)

    def remove(self, worker: Worker) -> None:
        """Know a worker no more that has left."""
        if self._workers.get(worker.announcement.identity) is worker:
            self._forget(worker)

    def named(self, name: str) -> list[Worker]:
        """The workers of a name."""
        return [worker for worker in self if worker.announcement.name == name]

    def offer(self, worker: Worker) -> None:
        """Put a worker in line if it has a free slot and is not there yet."""
        if not worker.queued and worker.free_slots:
            worker.queued = True
            self._line.append(worker)
        if not worker.calls_queued and worker.free_call_slots:
            worker.calls_queued = True
            self._call_line.append(worker)

    def next(self) -> Worker | None:
        """The first in line with a free slot, taken out of the line; `offer` puts it back."""
        while self._line:
            worker = self._line.popleft()
            worker.queued = False
            if worker.free_slots:
                return worker
        return None

    def next_for_calls(self) -> Worker | None:
        """As `next`, of those that take calls."""
        while self._call_line:
            worker = self._call_line.popleft()
            worker.calls_queued = False
            if worker.free_call_slots:
                return worker
        return None

    def __len__(self) -> int:
        """How many workers stand in line for arithmetic."""
        return len(self._line)

    def succeeded(self, now: float, worker: Worker, operations: int, took_s: float) -> None:
        """Note that a worker gave results, and adapt how many operations it is handed."""
        worker.last_seen_at = now
        if worker.gone:
            worker.joined_at = now
        worker.failures, worker.last_failure, worker.gone = 0, None, False
        worker.operations_done += operations
        target_s = min(BATCH_TARGET_S + self._present * BATCH_MORE_S, BATCH_LONGEST_S)
        if took_s > 2 * target_s:
            worker.batch = max(1, worker.batch // 2)
        elif took_s * worker.batch < target_s * operations:  # As long as a full one would take.
            worker.batch = min(worker.announcement.batch_max, worker.batch * 2)

    def heard(self, now: float, worker: Worker) -> None:
        """Note that a worker is there, unless it is known no more."""
        if self._workers.get(worker.announcement.identity) is not worker:
            return
        worker.last_seen_at = now
        if worker.gone:
            worker.gone, worker.joined_at = False, now
        self.offer(worker)

    def failed(self, now: float, worker: Worker, reason: str) -> None:
        """Note that a worker could not be reached or gave nonsense; it pauses or is taken out."""
        worker.last_failure = reason
        if worker.gone or worker.resumes_at is not None:
            return  # Another lease of the same failure: its slots break together.
        worker.failures += 1
        worker.batch = 1
        if worker.failures >= FAILURES_MAX:
            worker.gone, worker.resumes_at = True, None
            return
        worker.resumes_at = now + backoff_s(self._random, worker.failures)
        self._pause_count += 1
        heappush(self._pauses, (worker.resumes_at, self._pause_count, worker))

    def resume(self, now: float) -> None:
        """Put the workers whose pause is over back in line."""
        while self._pauses and self._pauses[0][0] <= now:
            resumes_at, _, worker = heappop(self._pauses)
            if worker.resumes_at == resumes_at:
                worker.resumes_at = None
                self.offer(worker)

    def check_liveness(self, now: float) -> tuple[list[Worker], list[Worker]]:
        """Look through the workers, once a second.

        Returns:
            Those that turn out to be gone, and those that are to be asked whether they are there.
        """
        if now < self._census_at:
            return [], []
        self._census_at = now + CENSUS_S
        limits, gone, silent = self._limits, self._forgotten, []
        self._forgotten = []
        self._present = sum(
            not worker.gone and worker.announcement.arithmetic and not worker.announcement.draining
            for worker in self
        )
        for worker in list(self):
            silent_s = now - worker.last_seen_at
            dead_after_s = worker.announcement.dead_after_s or limits.dead_after_s
            if worker.claim is not None and not worker.gone:
                worker.last_seen_at = now  # Its request is open, so it is there.
            elif worker.gone and silent_s > FORGET_S and not worker.holds:
                self._forget(worker)
            elif silent_s > dead_after_s and self._may_be_gone(worker):
                worker.gone, worker.resumes_at = True, None
                worker.last_failure = f"not heard of for {silent_s:.0f} s"
                gone.append(worker)
            elif (
                not worker.announcement.incarnation
                and worker.announcement.delivery is Delivery.PUSH
                and not worker.leases
                and self._to_ask(now, worker)
            ):
                worker.asked_at = now
                silent.append(worker)
        return gone, silent

    def _may_be_gone(self, worker: Worker) -> bool:
        """Whether silence says anything new: of one that only answers, not before it was asked."""
        if worker.gone:
            return bool(worker.accused)
        announcement = worker.announcement
        return bool(
            announcement.incarnation
            or worker.failures
            or announcement.delivery is not Delivery.PUSH
        )

    def _to_ask(self, now: float, worker: Worker) -> bool:
        """Whether a worker that never announces itself again has been silent for too long."""
        if (
            worker.announcement.draining
            or worker.resumes_at is not None
            or not worker.announcement.arithmetic
        ):
            return False
        if worker.gone:
            return now - max(worker.asked_at, worker.last_seen_at) > ASK_GONE_S
        return now - worker.last_seen_at > self._limits.heartbeat_s

    def next_moment(self) -> float | None:
        """When `resume` or `check_liveness` next have something to do."""
        if not self._workers:
            return None
        return min(self._pauses[0][0], self._census_at) if self._pauses else self._census_at

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        assert len(set(map(id, self._line))) == len(self._line), "a worker stands in line twice"
        for worker in self._line:
            assert worker.queued
        assert len(set(map(id, self._call_line))) == len(self._call_line)
        for worker in self:
            assert worker.queued == any(worker is other for other in self._line)
            assert worker.queued or not worker.free_slots, "a free worker is not in line"
            assert worker.calls_queued == any(worker is other for other in self._call_line)
            assert worker.calls_queued or not worker.free_call_slots, "a free worker is not in line"
            if worker.announcement.delivery is Delivery.PUSH:
                assert len(worker.leases) <= worker.announcement.slots, "more leases than slots"
