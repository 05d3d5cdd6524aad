"""Tells the master that a worker is there, and keeps telling it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from dte.wire.codec import encode
from dte.wire.messages import Announce

log = logging.getLogger("dte.worker")

RETRY_FIRST_S = 0.1
TIMEOUT_S = 2.0


class Announcer:
    """Announces a worker at an interval, sooner when `hurry` is called, and until `close`.

    A master that cannot be reached is tried again with growing pauses.

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
        self._url = f"{master_url.rstrip('/')}/worker"
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

    async def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._leaving:
            self._hurry.clear()
            if await self._say():
                pause_s, retry_s = self._heartbeat_s, RETRY_FIRST_S
            else:
                pause_s, retry_s = retry_s, min(self._heartbeat_s, retry_s * 2)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()

    async def _say(self) -> bool:
        """Announce once; whether the master heard it."""
        reached, problem = True, ""
        try:
            await AsyncHTTPClient().fetch(
                self._url,
                method="POST",
                body=encode(self._announce),
                headers={"Content-Type": "application/json"},
                connect_timeout=TIMEOUT_S,
                request_timeout=TIMEOUT_S,
            )
        except HTTPClientError as error:
            text = error.response.body.decode(errors="replace") if error.response else ""
            reached, problem = False, f"{error} {text}".strip()
        except (OSError, ValueError) as error:
            reached, problem = False, str(error)
        if reached and self._on_heard is not None:
            self._on_heard()
        if reached != self._reached and not self._leaving:
            self._reached = reached
            if reached:
                log.info("announced to %s", self._url)
            else:
                log.warning("cannot announce to %s: %s; trying again", self._url, problem)
        return reached
