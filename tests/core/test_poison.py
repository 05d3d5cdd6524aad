"""Operations that end the process that does them, played with processes that end and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from math import inf
from random import Random

import pytest

from core.checked import LIMITS, SEED_WORKER, WORKER, Core
from core.evaluate import do, is_as_python_says
from dte.core.availability import Announcement
from dte.core.job import Job
from dte.core.lease import Lease
from dte.core.operations import Number
from dte.core.scheduler import Failure

POISON = 666
"""Whoever multiplies this number ends."""
STEPS_MAX = 20_000
Answer = tuple[list[Number], dict[int, str]]


@dataclass(eq=False)
class Process:
    """A worker's process, or the next one at its address.

    Attributes:
        breaks: whether its connections break when it ends; else it is silent, and so is its host.
        away_s: how long it stays away.
    """

    said: Announcement
    breaks: bool
    away_s: float
    running: bool = True
    starts: int = 0
    leases: dict[Lease, Answer | None] = field(default_factory=dict)


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
            said = replace(
                random.choice([WORKER, SEED_WORKER]),
                address=f"10.0.0.1:{port}",
                slots=random.randint(1, 3),
                batch_max=random.choice([1, 8, 64]),
            )
            process = Process(said, random.random() < 0.7, random.choice([0.001, 0.5, 20.0]))
            self._processes[said.address] = process
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
            turn = self.core.turn(self.now)
            for lease in turn.leases:
                self._hand_over(lease)
            if all(job.finished for job in jobs):
                return
            moment = self.core.next_turn()
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
        said = process.said
        if said.incarnation:
            process.said = replace(said, incarnation=f"start {process.starts}")
        else:
            process.said = replace(said, name=f"worker-{process.starts}")
        self._beat(process, process.starts)

    def _beat(self, process: Process, start: int) -> None:
        if not process.running or process.starts != start:
            return
        self.core.announce(self.now, process.said)
        if process.said.incarnation:
            self._later(LIMITS.heartbeat_s, partial(self._beat, process, start))

    def _hand_over(self, lease: Lease) -> None:
        process, columns = self._processes[lease.worker.said.address], lease.columns()
        start, took_s = process.starts, self.random.random() * 0.01
        process.leases[lease] = None if POISON in columns[1] + columns[2] else do(columns)
        if process.running:
            self._later(took_s, partial(self._do, process, start, lease))
        elif process.breaks:
            self._later(0.0001, partial(self._lose, process, lease, Failure.REFUSED))

    def _do(self, process: Process, start: int, lease: Lease) -> None:
        if not process.running or process.starts != start:
            return
        answer = process.leases[lease]
        if answer is None:
            self._end(process)
        else:
            del process.leases[lease]
            self._arrive(lease, answer)

    def _arrive(self, lease: Lease, answer: Answer) -> None:
        self.core.give(self.now, lease, *answer)

    def _lose(self, process: Process, lease: Lease, failure: Failure) -> None:
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


REASON = f"3 workers were lost while they did it (workers_lost_max): {POISON} * 7"


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
