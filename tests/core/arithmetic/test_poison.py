"""Operations that end the worker that does them: who is charged, and whom that costs what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from math import inf
from random import Random

import pytest

from core.checked import LIMITS, SEED_WORKER, WORKER, Core, at, only, operations
from core.evaluate import do, is_as_python_says
from dte.core.arithmetic.lease import BatchLease
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.core.workers.worker import Announcement, Failure

SUMS = "1*2+3*4+5*6+7*8"
"""Four operations of it are ready at once."""
POISON = 666
"""Whoever multiplies this number ends."""
STEPS_MAX = 20_000
Answer = tuple[list[Number], dict[int, str]]


# Who is charged when a worker vanishes


def next_leases(core: Core, now: float) -> tuple[float, list[BatchLease]]:
    """The next leases that are made, and when that is."""
    while not (leases := core.tick(now).batches):
        now = core.following(now)
    return now, leases


def vanish(core: Core, now: float, lease: BatchLease, how: str) -> float:
    """A worker ends while it has a lease; when that is known."""
    announcement = lease.worker.announcement
    if how == "started anew":
        core.announce(now, replace(announcement, incarnation=f"{announcement.incarnation} anew"))
    elif how == "refused":
        core.lose(now, lease, Failure.BROKEN)
        now, leases = next_leases(core, now)
        core.lose(now, only(leases), Failure.REFUSED)
    else:
        while lease.worker.state != "gone":
            now = core.following(now)
            core.tick(now)
    return now


def charges(core: Core, job: Job) -> dict[int, int]:
    """How many workers each operation has lost."""
    known = core.arithmetic.quarantine._suspicions.get(job.number, {})
    return {node: suspicion.workers_lost for node, suspicion in known.items()}


@pytest.mark.parametrize("how", ["started anew", "refused", "silent"])
def test_a_worker_that_ended_is_counted_against_what_it_had(how) -> None:
    core = Core(at(1))
    (job,) = core.add(SUMS)
    lease = only(core.tick(0.0).batches)
    vanish(core, 0.0, lease, how)
    assert charges(core, job) == dict.fromkeys((node for _, node in operations(lease)), 1)


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_a_seed_worker_that_ended_is_counted_against_what_it_had(how) -> None:
    core = Core(SEED_WORKER)
    (job,) = core.add("1*2")
    vanish(core, 0.0, only(core.tick(0.0).batches), how)
    assert charges(core, job) == {0: 1}


def test_a_seed_worker_that_announces_itself_again_may_not_have_ended() -> None:
    """One may do so every few seconds; it is asked before it gets anything."""
    core = Core(SEED_WORKER)
    (job,) = core.add("1*2")
    core.lose(0.0, only(core.tick(0.0).batches), Failure.BROKEN)
    core.announce(1.0, SEED_WORKER)
    assert charges(core, job) == {0: 0}
    question = only(core.tick(1.0).batches)
    assert question.count == 0
    core.lose(1.0, question, Failure.REFUSED)
    assert charges(core, job) == {0: 1}


def test_an_answer_that_comes_too_late_says_that_the_worker_lives() -> None:
    core = Core(SEED_WORKER)
    (job,) = core.add("1*2")
    lease = only(core.tick(0.0).batches)
    core.tick(10.0)
    assert lease.may_come_late
    core.arithmetic.late(11.0, lease)
    core.check()
    assert (charges(core, job), core.stale_results, lease.worker.last_seen_at) == ({0: 0}, 1, 11.0)
    core.run(20.0)
    assert job.answer == 2


def test_a_late_answer_brings_back_a_worker_that_is_gone_but_not_for_another_start() -> None:
    core = Core(SEED_WORKER)
    lease = only(core.tick(6.0).batches)
    assert lease.count == 0
    for now in (16.0, 17.0, 18.0, 30.0):
        core.tick(now)
    assert lease.worker.state == "gone"
    core.arithmetic.late(31.0, lease)
    assert (lease.worker.state, core.stale_results) == ("free", 0)
    assert lease.worker.joined_at == 31.0
    core.arithmetic.late(99.0, lease)
    assert lease.worker.last_seen_at == 31.0


def test_a_worker_is_counted_once_however_often_it_had_the_operation() -> None:
    core = Core(at(1))
    (job,) = core.add("1*2")
    now = 0.0
    for _ in range(3):
        now, leases = next_leases(core, now)
        core.lose(now, only(leases), Failure.BROKEN)
    core.announce(now, at(1, incarnation="b"))
    assert charges(core, job) == {0: 1}


@pytest.mark.parametrize("sign", ["a heartbeat", "an answer"])
def test_a_worker_that_comes_back_as_it_was_is_counted_against_nothing(sign) -> None:
    core = Core(at(1))
    (job, other) = core.add("1*2", "3*4")
    lease = only(core.tick(0.0).batches)
    core.lose(0.0, lease, Failure.BROKEN)
    if sign == "a heartbeat":
        core.announce(0.01, at(1))
    else:
        now, leases = next_leases(core, 0.0)
        core.answer(now, only(leases))
    core.announce(1.0, at(1, incarnation="b"))
    assert not any(charges(core, job).values())
    assert not any(charges(core, other).values())


def test_a_worker_that_vanished_is_asked_before_it_gets_more() -> None:
    """What a dead worker got would be counted as if the worker had ended by it."""
    core = Core(at(1))
    core.add(SUMS)
    core.lose(0.0, only(core.tick(0.0).batches), Failure.BROKEN)
    now, (question,) = next_leases(core, 0.0)
    assert question.parts == []
    assert core.tick(now).batches == [], "it is asked once"
    core.arithmetic.complete(now, question.number, [], {})
    assert only(core.tick(now).batches).count == 1


def test_a_worker_that_vanished_is_asked_when_nothing_else_is_under_way_there() -> None:
    core = Core(at(1, batch_max=1, slots=3))
    core.add("1*2", "3*4", "5*6")
    first, second, third = core.tick(0.0).batches
    core.lose(0.0, first, Failure.BROKEN)
    core.answer(0.0, second)
    for now in (0.5, 1.0, 2.0):
        assert core.tick(now).batches == []
    core.answer(2.0, third)
    question = only(core.tick(2.0).batches)
    assert question.parts == []


def test_an_answer_from_before_a_worker_vanished_does_not_say_that_it_lives() -> None:
    core = Core(at(1, batch_max=1))
    (job, other) = core.add("1*2", "3*4")
    first, second = core.tick(0.0).batches
    core.lose(1.0, first, Failure.BROKEN)
    core.answer(1.0, second)
    now, (question,) = next_leases(core, 1.0)
    assert question.parts == []
    core.lose(now, question, Failure.REFUSED)
    assert charges(core, job) == {0: 1}
    assert other.answer == 12


@pytest.mark.parametrize("failure", [Failure.NOT_SENT, Failure.REFUSED, Failure.MALFORMED])
def test_what_a_worker_did_not_vanish_with_is_not_counted(failure) -> None:
    core = Core(at(1))
    (job,) = core.add(SUMS)
    core.lose(0.0, only(core.tick(0.0).batches), failure)
    core.announce(1.0, at(1, incarnation="b"))
    assert not any(charges(core, job).values())


def test_what_another_worker_has_done_meanwhile_is_not_counted() -> None:
    core = Core(at(1))
    (job,) = core.add(SUMS)
    core.lose(0.0, only(core.tick(0.0).batches), Failure.BROKEN)
    core.announce(0.0, at(2))
    done = only(core.tick(0.0).batches)
    core.answer(0.0, done)
    core.announce(0.0, at(1, incarnation="b"))
    ((_, node),) = operations(done)
    assert charges(core, job) == dict.fromkeys({0, 1, 3, 4} - {node}, 1)


def test_an_operation_that_loses_too_many_workers_ends_its_job() -> None:
    core = Core(at(1))
    poisoned, other = core.add("666*667", "1*2")
    now, lost = 0.0, 0
    while not poisoned.is_terminal:
        for lease in core.tick(now).batches:
            if (1, 0) in operations(lease):
                core.announce(now, replace(lease.worker.announcement, incarnation=f"{lost}"))
                lost += 1
            else:
                core.answer(now, lease)
        now = core.following(now)
    assert lost == LIMITS.workers_lost_max
    assert poisoned.error == "gave up: 3 workers died while running 666 * 667 (workers_lost_max)"
    core.run(now)
    assert other.answer == 2


def test_an_operation_of_a_job_that_has_ended_meanwhile_accuses_nobody() -> None:
    core = Core(at(1))
    failed, other = core.add("1/0+2*3", "4*5")
    ahead = core.tick(0.0).batches
    core.check()
    lease = only(ahead)
    failed_error = "worker says so"
    core.jobs.end(0.0, failed, error=failed_error)
    core.lose(0.0, lease, Failure.BROKEN)
    core.announce(0.0, at(1, incarnation="b"))
    assert failed.error == failed_error
    assert charges(core, other) == {0: 1}


def test_how_many_workers_an_operation_may_lose_is_a_bound() -> None:
    core = Core(at(1), limits=replace(LIMITS, workers_lost_max=1))
    (job,) = core.add(SUMS)
    core.tick(0.0)
    core.announce(0.0, at(1, incarnation="b"))
    assert str(job.error).startswith("gave up: 1 worker died while running ")
    assert core.tick(10.0).batches == []


def test_a_result_after_all_clears_an_operation() -> None:
    core = Core(at(1))
    (job,) = core.add("1*2+3*4")
    core.tick(0.0)
    core.announce(0.0, at(1, incarnation="b"))
    assert charges(core, job) == {0: 1, 1: 1}
    now, leases = next_leases(core, 0.0)
    core.answer(now, only(leases))
    assert list(charges(core, job).values()) == [1]


# Processes that end and come back


@dataclass(eq=False)
class Process:
    """A worker's process, or the next one at its address.

    Attributes:
        breaks: whether its connections break when it ends; else it is silent, and so is its host.
        away_s: how long it stays away.
    """

    announcement: Announcement
    breaks: bool
    away_s: float
    running: bool = True
    starts: int = 0
    leases: dict[BatchLease, Answer | None] = field(default_factory=dict)


class World:
    """A core and processes, with a clock that goes from event to event."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.core = Core(limits=replace(LIMITS, lease_s=random.choice([1.0, 10.0])), seed=seed)
        self.now = 0.0
        self.lost = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._processes: dict[str, Process] = {}
        for port in range(random.randint(1, 8)):
            announcement = replace(
                random.choice([WORKER, SEED_WORKER]),
                address=f"10.0.0.1:{port}",
                slots=random.randint(1, 3),
                batch_max=random.choice([1, 8, 64]),
            )
            process = Process(
                announcement, random.random() < 0.7, random.choice([0.001, 0.5, 20.0])
            )
            self._processes[announcement.address] = process
            self._later(random.random() * 0.1, partial(self._start, process))

    def jobs(self, poisoned: int) -> list[Job]:
        """Many jobs, of which the first are poisoned."""
        texts = [f"1*2+3*4+(5+{POISON}*7)*8+9*10"] * poisoned
        for _ in range(self.random.randint(0, 20)):
            texts.append("+".join(f"{self.random.randint(1, 9)}*{n}" for n in range(2, 9)))
        return self.core.add(*texts)

    def run(self, jobs: list[Job]) -> None:
        """Until all jobs have ended."""
        for _ in range(STEPS_MAX):
            tick = self.core.tick(self.now)
            for lease in tick.batches:
                self._hand_over(lease)
            if all(job.is_terminal for job in jobs):
                return
            moment = self.core.next_tick()
            event_at = self._events[0][0] if self._events else inf
            self.now = max(self.now, min(event_at, inf if moment is None else moment))
            while self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
        raise AssertionError("the jobs do not end")

    def _later(self, wait_s: float, event: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (self.now + wait_s, self._count, event))

    def _start(self, process: Process) -> None:
        process.running = True
        process.starts += 1
        announcement = process.announcement
        if announcement.incarnation:
            process.announcement = replace(announcement, incarnation=f"start {process.starts}")
        else:
            process.announcement = replace(announcement, name=f"worker-{process.starts}")
        self._beat(process, process.starts)

    def _beat(self, process: Process, start: int) -> None:
        if not process.running or process.starts != start:
            return
        self.core.announce(self.now, process.announcement)
        if process.announcement.incarnation:
            self._later(LIMITS.heartbeat_s, partial(self._beat, process, start))

    def _hand_over(self, lease: BatchLease) -> None:
        process, columns = self._processes[lease.worker.announcement.address], lease.columns()
        start, took_s = process.starts, self.random.random() * 0.01
        process.leases[lease] = None if POISON in columns[1] + columns[2] else do(columns)
        if process.running:
            self._later(took_s, partial(self._do, process, start, lease))
        elif process.breaks:
            self._later(0.0001, partial(self._lose, process, lease, Failure.REFUSED))

    def _do(self, process: Process, start: int, lease: BatchLease) -> None:
        if not process.running or process.starts != start:
            return
        answer = process.leases[lease]
        if answer is None:
            self._end(process)
        else:
            del process.leases[lease]
            self._arrive(lease, answer)

    def _arrive(self, lease: BatchLease, answer: Answer) -> None:
        self.core.give(self.now, lease, *answer)

    def _lose(self, process: Process, lease: BatchLease, failure: Failure) -> None:
        process.leases.pop(lease, None)
        self.core.lose(self.now, lease, failure)

    def _end(self, process: Process) -> None:
        self.lost += 1
        process.running = False
        for lease, answer in list(process.leases.items()):
            if answer is not None and self.random.random() < 0.5:  # It is under way.
                self._later(0.00001, partial(self._arrive, lease, answer))
            elif process.breaks:
                self._lose(process, lease, Failure.BROKEN)
        process.leases.clear()
        self._later(process.away_s, partial(self._start, process))


REASON = f"gave up: 3 workers died while running {POISON} * 7 (workers_lost_max)"


@pytest.mark.parametrize("seed", range(100))
def test_an_operation_that_ends_workers_ends_three_and_fails_nobody_else(seed) -> None:
    world = World(seed)
    poisoned, *others = jobs = world.jobs(poisoned=1)
    world.run(jobs)
    assert poisoned.error == REASON
    assert all(is_as_python_says(job) for job in others)
    assert world.lost == LIMITS.workers_lost_max


@pytest.mark.parametrize("seed", range(50))
def test_several_such_operations_end_three_workers_each_at_most(seed) -> None:
    world = World(seed)
    jobs = world.jobs(poisoned=3)
    world.run(jobs)
    assert [job.error for job in jobs[:3]] == [REASON] * 3
    assert all(is_as_python_says(job) for job in jobs[3:])
    assert world.lost <= 3 * LIMITS.workers_lost_max
