"""Tells the master that a worker is there, and keeps telling it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from dte.wire.codec import encode
from dte.wire.messages.batches import Announce
from dte.worker.master_client import MasterAway, MasterConnection, Refused

log = logging.getLogger("dte.worker")

RETRY_FIRST_S = 0.1
TIMEOUT_S = 2.0
MOMENTS = 20
"""On how many moments of an interval announcements fall, the same ones for all workers: a master
that wakes for several takes less time for each than one that wakes for each."""


class Announcer:
    """Announces a worker at an interval, sooner when `hurry` is called, and until it is to `leave`.

    A master that cannot be reached is tried again with growing pauses. The connection is kept from
    one announcement to the next, as opening it costs the master more than the announcement.

    Args:
        master_url: where the master is, as ``http://host:port``.
        announce: what to say.
        heartbeat_s: the interval in seconds.
        on_heard: called each time that the master has heard it.
    """

    def __init__(
        self,
        master_url: str,
        announce: Announce,
        heartbeat_s: float,
        on_heard: Callable[[], None] | None = None,
    ) -> None:
        self._master_url = master_url
        self._master = MasterConnection(master_url)
        self._announce = announce
        self._heartbeat_s = heartbeat_s
        self._on_heard = on_heard
        self._hurry = asyncio.Event()
        self._leaving = False
        self._reached: bool | None = None
        self._task = asyncio.create_task(self._run())

    def hurry(self) -> None:
        """Announce at once: the master seems to have gone, and may be back already."""
        self._hurry.set()

    async def leave(self) -> None:
        """Stop announcing, and tell the master that no more operations are wanted."""
        self._leaving = True
        self._hurry.set()
        await self._task
        self._announce.draining = True
        await self._say()
        self._master.close()

    async def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._leaving:
            self._hurry.clear()
            if await self._say():
                pause_s, retry_s = common_pause_s(self._heartbeat_s, time.time()), RETRY_FIRST_S
            else:
                pause_s, retry_s = retry_s, min(self._heartbeat_s, retry_s * 2)
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait so long, or until it is to hurry."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()

    async def _say(self) -> bool:
        """Announce once; whether the master heard it."""
        reached, problem = True, ""
        try:
            await self._master.post("/worker", encode(self._announce), TIMEOUT_S)
        except (MasterAway, Refused) as error:
            reached, problem = False, str(error)
        if reached and self._on_heard is not None:
            self._on_heard()
        if reached != self._reached and not self._leaving:
            self._reached = reached
            if reached:
                log.info("announced to %s", self._master_url)
            else:
                log.warning("cannot announce to %s: %s; trying again", self._master_url, problem)
        return reached


def common_pause_s(interval_s: float, wall_s: float) -> float:
    """About an interval, from a wall clock's moment to one of those common to all workers."""
    step_s = interval_s / MOMENTS
    return round((wall_s + interval_s) / step_s) * step_s - wall_s
