"""Finds out which of two workers of one address, or of one name, is the right one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from dte.core.errors import Conflict
from dte.core.scheduler import Scheduler
from dte.core.workers.contest import Contest
from dte.core.workers.worker import HTTPS, Announcement, Delivery, Worker
from dte.logs import one_line
from dte.master.clock import Clock
from dte.master.dispatch.reach import Reach
from dte.master.networks import address_in


class Contests:
    """Refuses announcements of workers as others that are alive.

    Args:
        reach: asks the workers themselves.
    """

    def __init__(self, core: Scheduler, clock: Clock, reach: Reach) -> None:
        self._core = core
        self._clock = clock
        self._reach = reach

    async def ensure_own(self, announcement: Announcement, begins: bool) -> list[Worker]:
        """Raise `Conflict` if another worker announces itself as one that is alive.

        Returns:
            The workers of earlier processes at its port, which speak TLS if it does not.
        """
        known = self._core.worker(announcement.identity)
        others = self._neighbours(announcement, known)
        for other in others if known is None else [known, *others]:
            found = self._core.contest(self._clock.now(), announcement, other, begins=begins)
            if found is Contest.ASK and await self._has_address(announcement, other):
                continue
            if found is not Contest.NONE:
                place = announcement.address or one_line(announcement.name)
                what = "leave" if announcement.draining else "be announced"
                raise Conflict(f"{place} is another worker's; only its own process lets it {what}")
        bare = announcement.address.removeprefix(HTTPS)
        return [each for each in others if each.announcement.address.removeprefix(HTTPS) == bare]

    def _neighbours(self, announcement: Announcement, known: Worker | None) -> list[Worker]:
        """Other workers with a session at the machine and the port of one that has come anew."""
        if announcement.delivery is not Delivery.PUSH or (
            known is not None and not known.gone and known.announcement.start == announcement.start
        ):
            return []
        place = place_of(announcement.address)
        return [
            each
            for each in self._core.workers()
            if each is not known
            and not each.gone
            and each.announcement.session
            and each.announcement.delivery is Delivery.PUSH
            and place_of(each.announcement.address) == place
        ]

    async def _has_address(self, announcement: Announcement, other: Worker) -> bool:
        """Find out whether a worker is the process at its address, where another one was."""
        if announcement.secret:
            return await self._reach.has_address(announcement) is True
        return await self._reach.has_address(other.announcement) is False

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


@lru_cache(maxsize=10_000)
def place_of(address: str) -> tuple[str, str]:
    """The machine and the port of an address, whichever way a worker there is called."""
    host, _, port = address.removeprefix(HTTPS).rpartition(":")
    found = address_in(f"[{host}]")
    if found is None:
        return host, port
    return "" if found.is_loopback else str(found), port


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
