"""Finds out whether workers are there when something suggests that they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from dte.core.scheduler import Scheduler
from dte.core.workers.worker import PULLS, Worker
from dte.logs import LimitedLog, one_line
from dte.master.access.audit import fields_of
from dte.master.clock import Clock
from dte.master.dispatch.reach import Reach

CAME_OR_WENT = "workers that came or went"
CHECK_AFTER_S = 0.5
"""Time before a worker is checked: it may listen only after its first announcement, and may be
about to leave or to begin anew when its connections close."""
HUNG_UP_S = 1.0
"""Time in which a worker whose claim broke off claims again, unless its process has ended."""
HUNG_UP = "closed its connection, and has not been heard of since"


class Presence:
    """Checks workers, each at most once at a time, and notes what it finds.

    Args:
        wake: called after each note to the core.
        limited: takes the messages for the log.
    """

    def __init__(
        self,
        core: Scheduler,
        clock: Clock,
        wake: Callable[[], None],
        reach: Reach,
        limited: LimitedLog,
    ) -> None:
        self._core = core
        self._clock = clock
        self._wake = wake
        self._reach = reach
        self._limited = limited
        self._checks: dict[Worker, asyncio.Task[None]] = {}
        self._closed = False

    def close(self) -> None:
        """Stop all checks."""
        self._closed = True
        for check in self._checks.values():
            check.cancel()

    def broken(self, address: str) -> None:
        """A connection to a worker broke: its process may have ended, or it was idle for long."""
        worker = self._core.worker(address)
        if worker is not None and not worker.gone:
            self.check(worker)

    def check(self, worker: Worker) -> None:
        """Find out whether a worker can be called that announces itself again and again."""
        announcement = worker.announcement
        if not announcement.is_called or announcement.draining or worker in self._checks:
            return

        async def check() -> None:
            if worker.unreachable is None:
                await asyncio.sleep(CHECK_AFTER_S)
            failure = await self._reach.problem(announcement)
            other = await self._reach.other_at(announcement) if failure is None else None
            now = worker.announcement
            if now.incarnation != announcement.incarnation or now.draining:
                return
            problem = f"{other} answers there" if other is not None else None
            if failure is not None:
                problem = str(failure)
            if problem is not None and problem != worker.unreachable:
                fields, address = fields_of(announcement), announcement.address
                text = "calls to worker %s at %s fail: %s"
                values = (fields["worker"], address, one_line(problem))
                self._limited.add("workers that fail", logging.WARNING, text, *values, **fields)
            refused = failure is not None and failure.refused
            self._core.reached(self._clock.now(), worker, problem, refused)
            self._wake()

        self._start_check(worker, check())

    def disconnected(self, name: str, session: str = "") -> None:
        """A connection of a worker that pulls closed: it may have ended with its calls.

        It is checked when it should have extended their leases again.
        """
        worker = self._core.worker(f"{PULLS}{name}")
        if worker is not None and worker.announcement.session != session:
            return  # It was the connection of somebody else.
        leases = self._core.calls.leases.of(worker) if worker is not None else []
        if worker is not None and worker.claim is None and leases:
            self.hung_up(worker, HUNG_UP_S + max(lease.lease_s for lease in leases) / 3)

    def hung_up(self, worker: Worker, after_s: float = HUNG_UP_S) -> None:
        """A worker hung up: unless it is heard from within that time, it has ended."""
        if not worker.announcement.incarnation or worker in self._checks or self._closed:
            return
        hung_up_at = self._clock.now()

        async def check() -> None:
            await asyncio.sleep(after_s)
            known = self._core.worker(worker.announcement.identity) is worker
            heard = worker.claim is not None or worker.last_seen_at > hung_up_at
            if known and not heard and not worker.announcement.draining:
                fields = fields_of(worker.announcement)
                values = (fields["worker"], HUNG_UP)
                self._limited.add(CAME_OR_WENT, logging.INFO, "worker %s %s", *values, **fields)
                self._core.reached(self._clock.now(), worker, HUNG_UP)
                self._wake()

        self._start_check(worker, check())

    def _start_check(self, worker: Worker, check: Coroutine[None, None, None]) -> None:
        task = self._checks[worker] = asyncio.get_running_loop().create_task(check)
        task.add_done_callback(lambda _: self._checks.pop(worker))
