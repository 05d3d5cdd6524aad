"""The ready-set: operations whose operands are known, the highest priority first, jobs in turns."""

from __future__ import annotations

from array import array
from bisect import insort
from collections import deque

from dte.core.jobs.job import Job

WIDE_WEIGHT = 64
"""As how many operations one with integers of up to thousands of digits counts: writing and reading
such an integer takes 0.2 ms."""


class ReadySet:
    """Hands out ready operations so that jobs take turns.

    A job of four operations does not wait for one of a million: each take goes through the jobs of
    the highest priority in turn and gives each an equal share. Inside a job the newest ready
    operation goes first.
    """

    def __init__(self) -> None:
        self._levels: dict[int, deque[Job]] = {}
        self._priorities: list[int] = []
        self.count = 0
        """How many operations are ready in all jobs."""

    def add(self, job: Job, count: int) -> None:
        """Say that `count` more operations of a job have become ready."""
        self.count += count
        if count and not job.in_turns:
            job.in_turns = True
            turns = self._levels.get(job.priority)
            if turns is None:
                turns = self._levels[job.priority] = deque()
                insort(self._priorities, job.priority)
            turns.append(job)

    def drop(self, job: Job) -> None:
        """Forget what is ready of a job that has ended; its turn is passed over when it comes."""
        if job.graph is not None and job.in_turns:
            self.count -= len(job.graph.ready)
            del job.graph.ready[:]
        if not self.count:
            # Nobody takes while nothing is ready, so turns that were passed over would add up.
            for turns in self._levels.values():
                for other in turns:
                    other.in_turns = False
            self._levels.clear()
            self._priorities.clear()

    def take(self, count: int) -> list[tuple[Job, array[int]]]:
        """Take up to `count` ready operations, in shares by job."""
        parts: list[tuple[Job, array[int]]] = []
        while count > 0 and self._priorities:
            turns = self._levels[self._priorities[-1]]
            count = self._take_from(turns, count, parts)
            if not turns:
                del self._levels[self._priorities.pop()]
        return parts

    def _take_from(self, turns: deque[Job], count: int, parts: list[tuple[Job, array[int]]]) -> int:
        """Take from jobs of one priority; how many operations may still be taken."""
        taken = 0
        while count > 0 and turns:
            share = max(1, count // len(turns))
            for _ in range(len(turns)):
                if count <= 0:
                    break
                job = turns.popleft()
                graph = job.graph
                if graph is None or not graph.ready:
                    job.in_turns = False
                    continue
                if graph.wide:
                    nodes = graph.take(max(1, min(share, count) // WIDE_WEIGHT))
                    count -= len(nodes) * WIDE_WEIGHT
                else:
                    nodes = graph.take(share if share < count else count)
                    count -= len(nodes)
                if graph.ready:
                    turns.append(job)
                else:
                    job.in_turns = False
                taken += len(nodes)
                parts.append((job, nodes))
        self.count -= taken
        return count

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        jobs = [job for turns in self._levels.values() for job in turns]
        assert len({job.number for job in jobs}) == len(jobs), "a job has two turns"
        assert all(job.in_turns for job in jobs)
        assert self.count == sum(len(job.graph.ready) for job in jobs if job.graph)
        assert sorted(self._levels) == self._priorities
