"""The ready-set: operations whose operands are known, the highest priority first, jobs in turns."""

from __future__ import annotations

from array import array
from collections import deque

from dte.core.jobs.job import Job
from dte.core.rotation import Rotation

WIDE_WEIGHT = 64
"""An operation on integers of up to thousands of digits counts as this many others: writing and
reading such an integer takes 0.2 ms."""


class ReadySet:
    """Hands out ready operations so that jobs take turns.

    A job of four operations does not wait for one of a million: each take goes through the jobs of
    the highest priority in turn and gives each an equal share. Inside a job the newest ready
    operation goes first.
    """

    def __init__(self) -> None:
        self._rotation: Rotation[Job] = Rotation()
        self.count = 0
        """The number of ready operations in all jobs."""

    def add(self, job: Job, count: int) -> None:
        """Note that `count` more operations of a job have become ready."""
        self.count += count
        if count and not job.in_rotation:
            job.in_rotation = True
            # The line is looked up here first: a call for each operation would cost too much.
            line = self._rotation.lines.get(job.priority)
            if line is None:
                line = self._rotation.line(job.priority)
            line.append(job)

    def drop(self, job: Job) -> None:
        """Forget the ready operations of a job that ends; its turn is skipped when it comes."""
        if job.graph is not None and job.in_rotation:
            self.count -= len(job.graph.ready)
            del job.graph.ready[:]
        if not self.count:
            # Nobody takes while nothing is ready, so skipped turns would add up.
            for line in self._rotation.lines.values():
                for other in line:
                    other.in_rotation = False
            self._rotation.clear()

    def take(self, count: int) -> list[tuple[Job, array[int]]]:
        """Take up to `count` ready operations, in shares by job."""
        parts: list[tuple[Job, array[int]]] = []
        while count > 0 and (line := self._rotation.highest()) is not None:
            count = self._take_from(line, count, parts)
        return parts

    def _take_from(self, line: deque[Job], count: int, parts: list[tuple[Job, array[int]]]) -> int:
        """Take from jobs of one priority; how many operations may still be taken."""
        taken = 0
        while count > 0 and line:
            share = max(1, count // len(line))
            for _ in range(len(line)):
                if count <= 0:
                    break
                job = line.popleft()
                graph = job.graph
                if graph is None or not graph.ready:
                    job.in_rotation = False
                    continue
                if graph.wide:
                    nodes = graph.take(max(1, min(share, count) // WIDE_WEIGHT))
                    count -= len(nodes) * WIDE_WEIGHT
                else:
                    nodes = graph.take(share if share < count else count)
                    count -= len(nodes)
                if graph.ready:
                    line.append(job)
                else:
                    job.in_rotation = False
                taken += len(nodes)
                parts.append((job, nodes))
        self.count -= taken
        return count

    def check(self) -> None:
        """Assert every invariant; for tests."""
        jobs = [job for line in self._rotation for job in line]
        assert len({job.number for job in jobs}) == len(jobs), "a job has two turns"
        assert all(job.in_rotation for job in jobs)
        assert self.count == sum(len(job.graph.ready) for job in jobs if job.graph)
