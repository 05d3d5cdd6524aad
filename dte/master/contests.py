"""Finds out which of two workers of one address, or of one name, is the right one."""

from __future__ import annotations

from collections.abc import Iterable

from dte.core.errors import Conflict
from dte.core.scheduler import Scheduler
from dte.core.workers.contest import Contest
from dte.core.workers.worker import Announcement, Worker
from dte.logs import one_line
from dte.master.clock import Clock
from dte.master.dispatch.reach import Reach


class Contests:
    """Refuses announcements of workers as others that are alive.

    Args:
        reach: asks the workers themselves.
    """

    def __init__(self, core: Scheduler, clock: Clock, reach: Reach) -> None:
        self._core = core
        self._clock = clock
        self._reach = reach

    async def ensure_own(self, announcement: Announcement, begins: bool) -> None:
        """Raise `Conflict` if another worker announces itself as one that is alive."""
        found = self._core.contest(self._clock.now(), announcement, begins=begins)
        if found is Contest.ASK and await self._has_address(announcement):
            return
        if found is not Contest.NONE:
            place = announcement.address or one_line(announcement.name)
            what = "leave" if announcement.draining else "be announced"
            raise Conflict(f"{place} is another worker's; only its own process lets it {what}")

    async def _has_address(self, announcement: Announcement) -> bool:
        """Find out whether a worker is the process at its address, where another one was."""
        if announcement.secret:
            return await self._reach.has_address(announcement) is True
        known = self._core.worker(announcement.identity)
        return known is None or await self._reach.has_address(known.announcement) is False

    async def other_at(self, announcement: Announcement) -> str | None:
        """Return the worker that answers at an address that two have announced in turn."""
        if not self._is_contested(announcement):
            return None
        return await self._reach.other_at(announcement)

    def _is_contested(self, announcement: Announcement) -> bool:
        """True if a worker announces itself whose address another one has announced since."""
        known = self._core.worker(announcement.identity)
        if known is None or known.gone or known.announcement.draining or announcement.draining:
            return False
        return bool(announcement.incarnation) and announcement.incarnation == known.superseded


def namesake_of(worker: Worker, workers: Iterable[Worker]) -> str | None:
    """Return a warning if a worker at another address has the same name at the same time.

    A worker that was restarted at another address has none: the first is silent since.
    """
    own = worker.announcement
    if not own.is_called:
        return None
    for other in workers:
        announcement = other.announcement
        if (
            announcement.name == own.name
            and announcement.address != own.address
            and announcement.is_called
            and other.state not in ("gone", "draining", "unreachable")
            and min(worker.last_seen_at, other.last_seen_at)
            > max(worker.joined_at, other.joined_at)
        ):
            name, address = one_line(own.name), announcement.address
            return f"another worker named {name} is at {address}; give one another --name"
    return None
