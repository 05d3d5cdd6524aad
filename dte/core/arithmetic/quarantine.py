"""Suspects: operations that a worker had when it vanished.

One of them may be what ended it, so each is handed out alone from then on, to a worker that has
nothing else: whoever vanishes next, it is clear with what. One that lost workers is tried again
after a pause, longer each time, and one that may have lost as many as it may is held back until
that is known.
"""

from __future__ import annotations

from array import array
from collections import deque
from heapq import heappop, heappush
from random import Random

from dte.core.backoff import backoff_s
from dte.core.jobs.job import Job, Suspicion


class Quarantine:
    """Operations that wait to be handed out alone, the first to come first."""

    def __init__(self, random: Random, workers_lost_max: int) -> None:
        self._random = random
        self._workers_lost_max = workers_lost_max
        self._held: dict[tuple[int, int], Job] = {}
        self._line: deque[tuple[Job, int]] = deque()
        self._pauses: list[tuple[float, int, Job, int]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many may be handed out now; some of them may be of jobs that have ended."""
        return len(self._line)

    def add(self, now: float, job: Job, nodes: array[int]) -> None:
        """Put operations in line, those with which workers were lost after a pause."""
        known = job.suspicions or {}
        for node in nodes:
            suspicion = known.get(node, Suspicion())
            if suspicion.workers_lost + suspicion.open >= self._workers_lost_max:
                self._held[job.number, node] = job
            elif suspicion.workers_lost:
                self._count += 1
                when = now + backoff_s(self._random, suspicion.workers_lost)
                heappush(self._pauses, (when, self._count, job, node))
            else:
                self._line.append((job, node))

    def release(self, now: float, job: Job, node: int) -> None:
        """Look again at an operation that may be held back: it is known what became of a worker."""
        if self._held.pop((job.number, node), None) is not None:
            self.add(now, job, array("i", [node]))

    def resume(self, now: float) -> None:
        """Put those whose pause is over in line; the first of jobs that have ended leave it."""
        while self._pauses and self._pauses[0][0] <= now:
            _, _, job, node = heappop(self._pauses)
            self._line.append((job, node))
        while self._line and self._line[0][0].graph is None:
            self._line.popleft()

    def next_moment(self) -> float | None:
        """When `resume` next has something to do."""
        return self._pauses[0][0] if self._pauses else None

    def take(self) -> list[tuple[Job, array[int]]]:
        """The next operation, as the parts of a lease; nothing if there is none."""
        while self._line:
            job, node = self._line.popleft()
            if job.graph is not None:
                return [(job, array("i", [node]))]
        return []

    def operations(self) -> set[tuple[int, int]]:
        """Those of jobs that go on, as numbers of job and operation; for tests."""
        paused = [(job, node) for _, _, job, node in self._pauses]
        held = [(job, node) for (_, node), job in self._held.items()]
        waiting = [*self._line, *paused, *held]
        found = [(job.number, node) for job, node in waiting if job.graph is not None]
        assert len(set(found)) == len(found), "an operation is in line twice"
        return set(found)
