"""What must hold of workers that cannot begin calls, or cannot be called, for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torture.simulation.executions import Executions
from torture.simulation.profile import Profile
from torture.simulation.world import Violation, World

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.lease import CallLease
from dte.core.graph.call import Call
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Announcement, Delivery, Worker

if TYPE_CHECKING:
    from torture.simulation.workers import WorkerHost

FOUND_OUT_S = 5.0
"""Within so much more than two announcements the master knows that a worker is well again."""


class TroubleWatch:
    """Knows what the master was told of its workers, and holds what it does against that.

    Args:
        hosts: the workers' machines, by all addresses that they ever had.
    """

    def __init__(
        self,
        world: World,
        profile: Profile,
        executions: Executions,
        hosts: Mapping[str, WorkerHost],
    ) -> None:
        self._world = world
        self._profile = profile
        self._executions = executions
        self._hosts = hosts
        self._began_at = 0.0
        self._told: dict[Worker, Announcement] = {}
        self._unreachable: dict[Worker, str] = {}

    def begin(self, core: Scheduler) -> None:
        """A master has started."""
        self._began_at = self._world.now
        self._told.clear()
        self._unreachable.clear()

        def watched_announce(now: float, announcement: Announcement) -> Worker:
            worker = type(core).announce(core, now, announcement)
            before = self._told.get(worker, announcement)
            if before.incarnation != announcement.incarnation:
                self._unreachable.pop(worker, None)
            self._told[worker] = announcement
            if announcement.failing is not None:
                self._world.seen["a master is told that a worker fails"] += 1
            return worker

        def watched_reached(
            now: float, worker: Worker, problem: str | None, refused: bool = False
        ) -> None:
            type(core).reached(core, now, worker, problem, refused)
            self._unreachable.pop(worker, None)
            if problem is not None and worker.announcement.delivery is Delivery.PUSH:
                self._world.seen["a master finds that a worker cannot be called"] += 1
                self._unreachable[worker] = problem

        vars(core)["announce"] = watched_announce
        vars(core)["reached"] = watched_reached

    # When work is handed over

    def hand_over(self, worker: Worker, call: Call) -> None:
        """A call is about to be leased to a worker."""
        told = self._told.get(worker)
        if told is not None and told.failing is not None:
            raise Violation(f"{call.name} is for {told.name}, which fails: {told.failing}")
        self._must_be_reachable(worker, call.name)

    def handed_over(self, lease: BatchLease) -> None:
        """Operations have been leased to a worker."""
        self._must_be_reachable(lease.worker, f"lease {lease.number}")

    def _must_be_reachable(self, worker: Worker, what: str) -> None:
        if worker in self._unreachable:
            name, problem = worker.announcement.name, self._unreachable[worker]
            raise Violation(f"{what} is for {name}, which cannot be called: {problem}")

    def lose(self, lease: CallLease, reason: str) -> None:
        """A call is about to be taken for lost."""
        execution = self._executions.by_lease.get(lease.number)
        if self._profile.calm and execution is not None and execution.process.alive:
            raise Violation(
                f"lease {lease.number}, {lease.call.name} of job {lease.call.job}, is lost: "
                f"{lease.worker_name}: {reason}; but it does the call"
            )

    # After every step

    def step(self, core: Scheduler) -> None:
        """Check that workers that are well get calls, and that they are soon known to be well."""
        for worker in core.workers():
            told = self._told.get(worker)
            if told is None or told.failing is not None or worker in self._unreachable:
                continue
            if told.delivery is not Delivery.PUSH or not told.handler_slots:
                continue
            if worker.gone or told.draining or worker.resumes_at is not None:
                continue
            if worker.silent_since > worker.last_seen_at or worker.call_leases:
                continue
            if not worker.free_call_slots:
                raise Violation(f"{told.name} has nothing to do, and would get no call")
        if self._profile.calm:
            self._recovery_is_known(core)

    def _recovery_is_known(self, core: Scheduler) -> None:
        for worker in core.workers():
            announcement = worker.announcement
            host = self._hosts.get(announcement.address)
            if host is None or host.process is None or not announcement.incarnation:
                continue
            if (host.address, host.incarnation) != (
                announcement.address,
                announcement.incarnation,
            ):
                continue
            if (
                host.shut
                or host.failing is not None
                or worker.state not in ("failing", "unreachable")
            ):
                continue
            well_s = self._world.now - max(self._began_at, host.well_since)
            if well_s > 2 * self._profile.heartbeat_s + FOUND_OUT_S:
                raise Violation(
                    f"{announcement.name} has been well for {well_s:.1f} s, and is {worker.state}"
                )
