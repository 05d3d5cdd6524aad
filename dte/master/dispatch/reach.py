"""Finds out whether workers can be called, and who answers at their addresses."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec

from dte.core.workers.worker import Announcement
from dte.master.dispatch.pool import ConnectionPool, peer_of
from dte.wire.codec import Decoder, Malformed
from dte.wire.http.client import ConnectionFailed, NotGreeted

MASTER = "dispatcher"
"""The service that a master gives in its health."""
TIMEOUT_S = 1.0
"""Less than a worker waits for the reply to its announcement."""


class _Health(msgspec.Struct):
    """The part of a health that says who it is: a worker, or a master by its service."""

    worker_name: str = ""
    incarnation: str = ""
    service: str = ""


_health: Decoder[_Health] = Decoder(_Health)


class Reach:
    """Asks workers for nothing but a sign that calls to them arrive."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def problem(self, announcement: Announcement) -> ConnectionFailed | None:
        """Return the reason why a worker accepts no connection, or has not its secret."""
        try:
            await self._pool.reach(peer_of(announcement))
        except ConnectionFailed as error:
            return error
        return None

    async def has_address(self, announcement: Announcement) -> bool | None:
        """True if a worker with a secret is the process at its address; None if that is unknown."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                problem = await self.problem(announcement)
        except TimeoutError:
            return None
        if problem is not None and not (problem.refused or isinstance(problem, NotGreeted)):
            return None
        return problem is None

    async def other_at(self, announcement: Announcement) -> str | None:
        """Return a description of another than this worker that answers at its address.

        Returns:
            None if this worker answers, or if that cannot be known. Some workers have no health,
            and one with a secret shows in the greeting who it is.
        """
        if announcement.secret:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, body = await self._pool.ask(peer_of(announcement), "/health")
        except (ConnectionFailed, TimeoutError):
            return None
        if status != HTTPStatus.OK:
            return None
        try:
            health = _health.decode(body)
        except Malformed:
            # A worker that somebody wrote in another language may have a health of its own kind.
            return "another program" if announcement.incarnation else None
        if health.service == MASTER and not health.worker_name:
            return "a master"
        own = announcement.name, announcement.incarnation
        found = health.worker_name, health.incarnation or announcement.incarnation
        # Its name is not shown: it may be the text of any program.
        return "another worker" if health.worker_name and found != own else None
