"""Finds out whether workers can be called, and who answers at their addresses."""

from __future__ import annotations

import asyncio

import msgspec

from dte.core.workers.worker import Announcement
from dte.master.dispatch.pool import ConnectionPool
from dte.wire.codec import Decoder, Malformed
from dte.wire.http.client import ConnectionFailed

TIMEOUT_S = 1.0
"""Less than a worker waits for the reply to its announcement."""


class _Health(msgspec.Struct):
    """The part of a worker's health that says who it is; other programs reply something else."""

    worker_name: str = ""
    incarnation: str = ""


_health: Decoder[_Health] = Decoder(_Health)


class Reach:
    """Asks workers for nothing but a sign that calls to them arrive."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def problem(self, announcement: Announcement) -> ConnectionFailed | None:
        """Return the reason why a worker accepts no connection; None if it does."""
        try:
            await self._pool.reach(announcement.address)
        except ConnectionFailed as error:
            return error
        return None

    async def other_at(self, announcement: Announcement) -> str | None:
        """Return the name of another worker that answers at the address of this one.

        Returns:
            None if this one answers, or if that cannot be known.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, body = await self._pool.get(announcement.address, "/health")
            health = _health.decode(body)
        except (ConnectionFailed, TimeoutError, Malformed):
            return None
        own = announcement.name, announcement.incarnation
        found = health.worker_name, health.incarnation or announcement.incarnation
        return health.worker_name if health.worker_name and found != own else None
