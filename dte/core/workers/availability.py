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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from random import Random

from dte.core.backoff import backoff_s
from dte.core.calls.lease import Claim
from dte.core.errors import Busy
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job
from dte.core.limits import SchedulerLimits

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


class Delivery(Enum):
    """How a worker gets its work. Journals hold these values."""

    PUSH = "push"
    """The master calls it at its address."""
    PULL = "claim"
    """It asks for work, and waits for it."""
    MAILBOX = "look"
    """It looks now and then at what has been given to it."""


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
        handlers: what it can call, with the policy of each.
        handler_slots: how many calls it takes at a time.
        arithmetic: whether it does the four operations.
        delivery: how work gets to it.
        can_stop: it stops calls itself when they take too long, and when it is told to.
        lease_s: how long a lease of a call goes on without a sign of life; None for the master's
            bound.
        dead_after_s: after which silence it is gone; None for the master's bound.
    """

    name: str
    address: str
    slots: int = 1
    batch_max: int = 1
    incarnation: str = ""
    draining: bool = False
    handlers: Mapping[str, HandlerPolicy] = field(default_factory=dict)
    handler_slots: int = 0
    arithmetic: bool = True
    delivery: Delivery = Delivery.PUSH
    can_stop: bool = True
    lease_s: float | None = None
    dead_after_s: float | None = None

    @property
    def identity(self) -> str:
        """What it is known by."""
        return self.address if self.delivery is Delivery.PUSH else f"{PULLS}{self.name}"


PULLS = "pull:"
"""Before the names of workers that have no address; no address begins so."""


PREFETCH_MAX = 64
"""Most calls that a worker has for each of its slots; more than one only where they are quick."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the master knows it.

    Attributes:
        announcement: its last announcement.
        last_seen_at: when it last announced itself or answered.
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
        silent_since: when it last lost a call by silence.
        call_leases: the numbers of the leases of calls that it holds.
        long_calls: how many of these are of handlers that are not known to be quick.
        calls_queued: whether the availability queue has it in line for calls.
        claim: its claim that waits, if it has one.
        info: what it says besides, for those who ask.
    """

    announcement: Announcement
    last_seen_at: float
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
    silent_since: float = float("-inf")
    call_leases: set[int] = field(default_factory=set)
    long_calls: int = 0
    calls_queued: bool = False
    calls_done: int = 0
    claim: Claim | None = None
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``gone``, ``draining``, ``pausing``, ``busy`` or ``free``."""
        if self.gone:
            return "gone"
        if self.announcement.draining:
            return "draining"
        if self.resumes_at is not None:
            return "pausing"
        return "busy" if self.leases or self.call_leases else "free"

    @property
    def holds(self) -> int:
        """How many leases it holds."""
        return len(self.leases) + len(self.call_leases)

    @property
    def free_slots(self) -> int:
        """How many batches of arithmetic it takes now."""
        announcement = self.announcement
        if (
            self.gone
            or announcement.draining
            or self.resumes_at is not None
            or not announcement.arithmetic
        ):
            return 0
        if announcement.delivery is not Delivery.PUSH:
            if self.leases and (self.reserved or self.alone):
                return 0
            claim = self.claim
            return int(claim is not None and not claim.closed and claim.batch is None)
        slots = 1 if self.failures or self.reserved or self.alone else announcement.slots
        return max(0, slots - len(self.leases))

    @property
    def free_call_slots(self) -> int:
        """How many calls it takes now."""
        announcement = self.announcement
        if self.gone or announcement.draining or self.resumes_at is not None:
            return 0
        if (
            self.silent_since > self.last_seen_at
        ):  # It would wait there unread, and be done in vain.
            return 0
        if announcement.delivery is Delivery.PULL:
            claim = self.claim
            return 0 if claim is None or claim.closed else claim.slots - len(claim.leases)
        slots = min(1, announcement.handler_slots) if self.failures else announcement.handler_slots
        if self.takes_more:
            slots *= PREFETCH_MAX
        return max(0, slots - len(self.call_leases))

    @property
    def takes_more(self) -> bool:
        """Whether quick calls may wait at it for a slot: not where it has one that is long."""
        return self.announcement.batch_max > 1 and not self.long_calls and not self.failures


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
