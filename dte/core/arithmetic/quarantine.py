"""The quarantine: operations that may have ended a worker, as poison messages end their readers.

A worker that vanishes makes its operations suspect. Each is handed out alone from then on, to a
worker that has nothing else: whichever worker vanishes next, it is clear by which operation. One
that has cost workers comes again after a pause, longer each time. One that may have cost as many
as it may is parked until it is known whether those workers have ended.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from dte.core.arithmetic.lease import BatchLease
from dte.core.backoff import backoff_s
from dte.core.jobs.job import Job
from dte.core.timers import Timers
from dte.core.workers.worker import Failure, Worker

MALFORMED_MAX, BROKEN_MAX = 5, 20
"""Failures of an operation that ran alone on a worker that survived, after which its job ends.
A broken connection is more often the network's fault than the operation's."""


@dataclass(slots=True)
class Suspicion:
    """The history of a suspect operation.

    Attributes:
        workers_lost: workers that ended while they had it.
        open: workers that vanished with it and may have ended.
        broken: connections that broke, or fell silent, while it was alone on them.
        malformed: replies without a result while it was alone.
        parked: it is not handed out before it is known whether `open` workers have ended.
    """

    job: Job
    workers_lost: int = 0
    open: int = 0
    broken: int = 0
    malformed: int = 0
    parked: bool = False


class Quarantine:
    """The suspect operations, and the workers that wait to be idle for one."""

    def __init__(self, random: Random, workers_lost_max: int) -> None:
        self._random = random
        self._workers_lost_max = workers_lost_max
        self._suspicions: dict[int, dict[int, Suspicion]] = {}
        self._line: deque[tuple[Job, int]] = deque()
        self._pauses: Timers[tuple[Job, int]] = Timers(lambda entry, _: entry[0].graph is not None)
        self._reserved: dict[Worker, None] = {}

    def __bool__(self) -> bool:
        """True while an operation is suspect."""
        return bool(self._suspicions)

    @property
    def count(self) -> int:
        """The operations that may be handed out now; some may be of jobs that have ended."""
        return len(self._line)

    # Suspicions

    def suspect(self, now: float, lease: BatchLease) -> None:
        """Note that a worker vanished: an operation of its lease may have ended it."""
        worker = lease.worker
        worker.vanished_at = now
        for job, nodes in lease.parts:
            if job.graph is None:
                continue
            for node in nodes:
                if (job.number, node) not in worker.suspects:
                    worker.suspects[job.number, node] = None
                    self._suspicion(job, node).open += 1

    def clear(self, now: float, worker: Worker) -> None:
        """Note that a worker that vanished lives: no operation has ended it."""
        suspects, worker.suspects = worker.suspects, {}
        for number, node in suspects:
            suspicion = self._known(number, node)
            if suspicion is None:
                continue
            suspicion.open -= 1
            if suspicion.parked:
                suspicion.parked = False
                self.add(now, suspicion.job, array("i", [node]))

    def convict(self, now: float, worker: Worker) -> list[tuple[Job, int]]:
        """Note that a worker has ended, and count it against its suspect operations.

        Returns:
            The operations that have cost too many workers.
        """
        convicted = []
        for number, node in worker.suspects:
            suspicion = self._known(number, node)
            if suspicion is None or suspicion.job.graph is None:
                continue
            suspicion.workers_lost += 1
            if suspicion.workers_lost >= self._workers_lost_max:
                convicted.append((suspicion.job, node))
        self.clear(now, worker)
        return convicted

    def failed(self, job: Job, node: int, failure: Failure) -> str | None:
        """Count a failure of an operation that its worker had received, alone.

        Returns:
            What it has had too many of; None if it may be tried again.
        """
        suspicion = self._suspicion(job, node)
        if failure is Failure.MALFORMED:
            suspicion.malformed += 1
        else:
            suspicion.broken += 1
        if suspicion.malformed >= MALFORMED_MAX:
            return f"{MALFORMED_MAX} unusable replies"
        if suspicion.broken >= BROKEN_MAX:
            return f"{BROKEN_MAX} broken connections"
        return None

    def done(self, parts: Iterable[tuple[Job, array[int]]]) -> None:
        """Forget the histories of operations that have results."""
        for job, nodes in parts:
            known = self._suspicions.get(job.number)
            if known is None:
                continue
            for node in nodes:
                known.pop(node, None)
            if not known:
                del self._suspicions[job.number]

    def forget(self, jobs: Iterable[Job]) -> None:
        """Forget jobs that have ended."""
        for job in jobs:
            self._suspicions.pop(job.number, None)

    def _known(self, number: int, node: int) -> Suspicion | None:
        return self._suspicions.get(number, {}).get(node)

    def _suspicion(self, job: Job, node: int) -> Suspicion:
        known = self._suspicions.setdefault(job.number, {})
        return known.setdefault(node, Suspicion(job))

    # The line

    def add(self, now: float, job: Job, nodes: array[int]) -> None:
        """Put operations in line; those that have cost workers after a pause."""
        for node in nodes:
            suspicion = self._suspicion(job, node)
            if suspicion.workers_lost + suspicion.open >= self._workers_lost_max:
                suspicion.parked = True
            elif suspicion.workers_lost:
                moment = now + backoff_s(self._random, suspicion.workers_lost)
                self._pauses.add(moment, (job, node))
            else:
                self._line.append((job, node))

    def resume(self, now: float) -> None:
        """Put operations in line whose pause is over; drop the first of jobs that have ended."""
        self._line.extend(self._pauses.due(now))
        while self._line and self._line[0][0].graph is None:
            self._line.popleft()

    def next_moment(self) -> float | None:
        """When `resume` next has something to do."""
        return self._pauses.next_moment()

    # Handing out

    def take(self, worker: Worker) -> list[tuple[Job, array[int]]]:
        """The next operation for an idle worker, as the parts of a lease; empty if there is none.

        The worker gets nothing beside it.
        """
        while self._line:
            job, node = self._line.popleft()
            if job.graph is not None:
                worker.exclusive = True
                return [(job, array("i", [node]))]
        return []

    def reserve(self, worker: Worker) -> bool:
        """Let a busy worker wait until it is idle, if operations need one more worker."""
        if len(self._reserved) >= len(self._line):
            return False
        worker.reserved = True
        self._reserved[worker] = None
        return True

    def release(self, worker: Worker) -> None:
        """Let a worker no longer wait to be idle."""
        worker.reserved = False
        self._reserved.pop(worker, None)

    def surplus(self) -> Worker | None:
        """Release a worker with a free slot that waits, if others have taken the operations."""
        while len(self._reserved) > len(self._line):
            worker = next(iter(self._reserved))
            self.release(worker)
            if worker.free_slots:
                return worker
        return None

    def check(self) -> set[tuple[int, int]]:
        """Assert every invariant, for tests; the operations of jobs that go on."""
        assert all(worker.reserved for worker in self._reserved)
        parked = [
            (each.job, node)
            for known in self._suspicions.values()
            for node, each in known.items()
            if each.parked
        ]
        waiting = [*self._line, *self._pauses.items(), *parked]
        found = [(job.number, node) for job, node in waiting if job.graph is not None]
        assert len(set(found)) == len(found), "an operation is in line twice"
        return set(found)
