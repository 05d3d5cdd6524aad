"""A scheduler that is checked after each step, with the workers and the journal of a test."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.evaluate import do
from dte.core.availability import Announcement, Worker
from dte.core.formula import Formula, FormulaLimits, parse
from dte.core.job import Job
from dte.core.lease import Lease
from dte.core.operations import Number
from dte.core.scheduler import Failure, Scheduler, SchedulerLimits, Turn

LIMITS = SchedulerLimits(lease_s=10.0)
WORKER = Announcement("w", "10.0.0.1:6000", slots=2, batch_max=64, incarnation="a")
SEED_WORKER = Announcement("worker-1700000000", "10.0.0.2:6000")
TURNS_MAX = 20
"""After so many turns at the same time there must be nothing left to do."""


class Core(Scheduler):
    """The scheduler, checked after each step.

    What happens is recorded at once, as by a disk that takes no time, unless `records_at_once` is
    set to False: then the test records.
    """

    def __init__(
        self,
        *workers: Announcement,
        limits: SchedulerLimits = LIMITS,
        boot: int = 0,
        seed: int = 0,
        records_at_once: bool = True,
    ) -> None:
        super().__init__(limits, boot, seed)
        self.records_at_once = records_at_once
        for said in workers:
            self.announce(0.0, said)

    def add(self, *tasks: str, now: float = 0.0) -> list[Job]:
        jobs = self.jobs.submit(now, parsed(*tasks)).jobs
        self._step()
        return jobs

    def record(self) -> None:
        """Record all that is to be recorded."""
        while (facts := self.jobs.facts()) is not None:
            self.jobs.recorded(facts)
        self.check()

    def turn(self, now: float) -> Turn:
        self._step()
        turn = super().turn(now)
        self.check()
        if self._handing_over and self.jobs.ready.count and not self._more_to_match:
            # Who vanished is asked before it gets more; who is reserved gets a suspect first.
            free = [worker for worker in self.workers() if worker.free_slots]
            assert all(worker.accused and worker.leases for worker in free), "work waits"
            assert len(self._reserved) <= len(self._suspects), "work waits for no suspect"
        return turn

    def answer(self, now: float, lease: Lease) -> bool:
        """What a good worker gives back."""
        return self.give(now, lease, *do(lease.columns()))

    def give(
        self, now: float, lease: Lease, results: Sequence[Number], errors: Mapping[int, str]
    ) -> bool:
        """What a worker gives back."""
        changed = self.complete(now, lease.number, results, errors)
        self._step()
        return changed

    def lose(self, now: float, lease: Lease, failure: Failure, reason: str = "reset") -> None:
        """A lease comes to nothing."""
        self.fail(now, lease.number, reason, failure)
        self._step()

    def announce(self, now: float, said: Announcement) -> Worker:
        worker = super().announce(now, said)
        self._step()
        return worker

    def run(self, now: float = 0.0) -> list[Job]:
        """Hand over and answer until nothing is left; the jobs that ended, in order."""
        ended: list[Job] = []
        while True:
            turn = self.turn(now)
            ended += turn.ended
            if not turn.leases:
                return ended
            for lease in turn.leases:
                self.answer(now, lease)

    def settle(self, now: float) -> list[Turn]:
        """Turn until the next turn need not be now: nothing may keep the loop busy for ever."""
        turns = [self.turn(now)]
        while (moment := self.next_turn()) is not None and moment <= now:
            turns.append(self.turn(now))
            assert len(turns) < TURNS_MAX, "the core wants to be called again and again"
        return turns

    def following(self, now: float) -> float:
        """When the loop turns next if nothing happens before."""
        moment = self.next_turn()
        assert moment is not None
        return max(now, moment)

    def _step(self) -> None:
        if self.records_at_once:
            self.record()
        else:
            self.check()


def parsed(*tasks: str) -> list[tuple[str, Formula]]:
    """Formulas as they are submitted."""
    return [(task, parse(task, FormulaLimits())) for task in tasks]


def at(port: int, **changes: object) -> Announcement:
    """A worker of its own."""
    return replace(WORKER, address=f"10.0.0.1:{port}", **changes)


def only(leases: list[Lease]) -> Lease:
    (lease,) = leases
    return lease


def operations(lease: Lease) -> list[tuple[int, int]]:
    """Which operations of which jobs a lease has."""
    return [(job.number, node) for job, nodes in lease.parts for node in nodes]


def nodes(*numbers: int) -> array[int]:
    """Operations of a job by their numbers."""
    return array("i", numbers)
