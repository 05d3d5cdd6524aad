"""The worker-availability queue: who can take how many operations now.

A worker is known by its address: the seed's workers name themselves after the second they start in,
so that replicas share a name, and only one process listens at an address. Another name there, or
another `incarnation`, is another start: what was leased to the old one is over.

    announced ──▶ available ◀──▶ pausing (after a failure, longer each time)
        ▲             │ silence     │ too many failures in a row
        └── announced anew ── gone ◀┘

After a failure a worker is tried with a single operation. One with an incarnation announces itself
again and again, and is gone when it has neither done so nor answered for some seconds. One without,
like the seed's, announces itself once: when it is silent it is asked, and is gone when it has not
answered for as long; even then it is asked now and then, as it would not come back by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from dte.core.errors import Busy
from dte.core.job import Job
from dte.core.limits import SchedulerLimits
from dte.core.pauses import pause_s

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
BATCH_FIRST = 16


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a worker says of itself.

    Attributes:
        name: the worker's name; need not be unique.
        address: where it listens, as ``host:port``.
        slots: how many requests it takes at a time.
        batch_max: how many operations it takes in a request; 1 for the seed's form.
        incarnation: differs for each start of the worker; "" when it does not say.
        draining: it wants no more operations.
    """

    name: str
    address: str
    slots: int = 1
    batch_max: int = 1
    incarnation: str = ""
    draining: bool = False


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the master knows it.

    Attributes:
        said: its last announcement.
        heard_at: when it last announced itself or answered.
        joined_at: when it came, or came back after it was gone or restarted.
        leases: the numbers of the leases that it holds.
        batch: how many operations it is handed at a time; follows from how long they have taken.
        resumes_at: until when it pauses after a failure; None when it does not.
        gone: taken out until it announces itself anew.
        queued: whether the availability queue has it in line.
        reserved: it gets a suspect operation once it has nothing else, and until then nothing.
        alone: it has a suspect operation, and gets nothing beside it.
        accused: operations that it had when it fell silent or its connection broke, by the numbers
            of job and operation, with the jobs: it may have ended by one of them.
        accused_at: when the last of these came.
        asked_at: when it was last asked whether it is there.
    """

    said: Announcement
    heard_at: float
    joined_at: float
    leases: set[int] = field(default_factory=set)
    batch: int = 1
    failures: int = 0
    last_failure: str | None = None
    resumes_at: float | None = None
    gone: bool = False
    queued: bool = False
    operations_done: int = 0
    reserved: bool = False
    alone: bool = False
    accused: dict[tuple[int, int], Job] = field(default_factory=dict)
    accused_at: float = float("-inf")
    asked_at: float = float("-inf")

    @property
    def state(self) -> str:
        """``gone``, ``draining``, ``pausing``, ``busy`` or ``free``."""
        if self.gone:
            return "gone"
        if self.said.draining:
            return "draining"
        if self.resumes_at is not None:
            return "pausing"
        return "busy" if self.leases else "free"

    @property
    def free_slots(self) -> int:
        if self.gone or self.said.draining or self.resumes_at is not None:
            return 0
        slots = 1 if self.failures or self.reserved or self.alone else self.said.slots
        return max(0, slots - len(self.leases))


class AvailabilityQueue:
    """The known workers, and in line those with a free slot."""

    def __init__(self, limits: SchedulerLimits, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._workers: dict[str, Worker] = {}
        self._line: deque[Worker] = deque()
        self._pauses: list[tuple[float, int, Worker]] = []
        self._pause_count = 0
        self._census_at = float("-inf")
        self._forgotten: list[Worker] = []

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def announce(self, now: float, said: Announcement) -> tuple[Worker, bool]:
        """Note a worker's announcement.

        Returns:
            The worker, and whether it is another incarnation than the one known so far.

        Raises:
            Busy: as many workers as the bound are known and in use.
        """
        worker = self._workers.get(said.address)
        if worker is None:
            self._make_room(now)
            worker = self._workers[said.address] = Worker(said, now, now)
            worker.batch = min(BATCH_FIRST, said.batch_max)
        old = worker.said
        reborn = (old.name, old.incarnation) != (said.name, said.incarnation)
        if reborn or worker.gone:
            worker.joined_at = now
        worker.said, worker.heard_at = said, now
        worker.batch = min(worker.batch, said.batch_max)
        if reborn or worker.gone or not said.incarnation:
            # Without an incarnation any announcement may be that of a new start.
            worker.gone, worker.failures, worker.resumes_at = False, 0, None
        self.offer(worker)
        return worker, reborn

    def _make_room(self, now: float) -> None:
        workers_max = self._limits.workers_max
        if len(self._workers) < workers_max:
            return
        for worker in list(self):
            if worker.state in ("gone", "draining", "pausing") and not worker.leases:
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
            if not worker.leases and not worker.operations_done and now - worker.heard_at > FORGET_S
        ]
        if silent:
            self._forget(min(silent, key=lambda worker: worker.heard_at))

    def _forget(self, worker: Worker) -> None:
        """Know a worker no more; where it still stands in line or pauses, it is passed over."""
        worker.gone, worker.resumes_at = True, None
        if worker.accused:
            self._forgotten.append(worker)
        del self._workers[worker.said.address]

    def offer(self, worker: Worker) -> None:
        """Put a worker in line if it has a free slot and is not there yet."""
        if not worker.queued and worker.free_slots:
            worker.queued = True
            self._line.append(worker)

    def next(self) -> Worker | None:
        """The first in line with a free slot, taken out of the line; `offer` puts it back."""
        while self._line:
            worker = self._line.popleft()
            worker.queued = False
            if worker.free_slots:
                return worker
        return None

    def __len__(self) -> int:
        """How many workers stand in line."""
        return len(self._line)

    def succeeded(self, now: float, worker: Worker, operations: int, took_s: float) -> None:
        """Note that a worker gave results, and adapt how many operations it is handed."""
        worker.heard_at = now
        if worker.gone:
            worker.joined_at = now
        worker.failures, worker.last_failure, worker.gone = 0, None, False
        worker.operations_done += operations
        if took_s > 2 * BATCH_TARGET_S:
            worker.batch = max(1, worker.batch // 2)
        elif took_s < BATCH_TARGET_S and operations == worker.batch:
            worker.batch = min(worker.said.batch_max, worker.batch * 2)

    def heard(self, now: float, worker: Worker) -> None:
        """Note that a worker is there, unless it is known no more."""
        if self._workers.get(worker.said.address) is not worker:
            return
        worker.heard_at = now
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
        worker.resumes_at = now + pause_s(self._random, worker.failures)
        self._pause_count += 1
        heappush(self._pauses, (worker.resumes_at, self._pause_count, worker))

    def resume(self, now: float) -> None:
        """Put the workers whose pause is over back in line."""
        while self._pauses and self._pauses[0][0] <= now:
            resumes_at, _, worker = heappop(self._pauses)
            if worker.resumes_at == resumes_at:
                worker.resumes_at = None
                self.offer(worker)

    def census(self, now: float) -> tuple[list[Worker], list[Worker]]:
        """Look through the workers, once a second.

        Returns:
            Those that turn out to be gone, and those that are to be asked whether they are there.
        """
        if now < self._census_at:
            return [], []
        self._census_at = now + CENSUS_S
        limits, gone, silent = self._limits, self._forgotten, []
        self._forgotten = []
        for worker in list(self):
            silent_s = now - worker.heard_at
            if worker.gone and silent_s > FORGET_S and not worker.leases:
                self._forget(worker)
            elif silent_s > limits.dead_after_s and self._may_be_gone(worker):
                worker.gone, worker.resumes_at = True, None
                worker.last_failure = f"not heard of for {silent_s:.0f} s"
                gone.append(worker)
            elif not worker.said.incarnation and not worker.leases and self._to_ask(now, worker):
                worker.asked_at = now
                silent.append(worker)
        return gone, silent

    def _may_be_gone(self, worker: Worker) -> bool:
        """Whether silence says anything new: of one that only answers, not before it was asked."""
        if worker.gone:
            return bool(worker.accused)
        return bool(worker.said.incarnation or worker.failures)

    def _to_ask(self, now: float, worker: Worker) -> bool:
        """Whether a worker that never announces itself again has been silent for too long."""
        if worker.said.draining or worker.resumes_at is not None:
            return False
        if worker.gone:
            return now - max(worker.asked_at, worker.heard_at) > ASK_GONE_S
        return now - worker.heard_at > self._limits.heartbeat_s

    def next_moment(self) -> float | None:
        """When `resume` or `census` next have something to do."""
        if not self._workers:
            return None
        return min(self._pauses[0][0], self._census_at) if self._pauses else self._census_at

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        assert len(set(map(id, self._line))) == len(self._line), "a worker stands in line twice"
        for worker in self._line:
            assert worker.queued
        for worker in self:
            assert worker.queued == any(worker is other for other in self._line)
            assert worker.queued or not worker.free_slots, "a free worker is not in line"
            assert len(worker.leases) <= worker.said.slots, "more leases than slots"
