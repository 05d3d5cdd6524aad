"""Announces a worker to the master, again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.http.tls import UNTRUSTED
from dte.wire.messages.batches import Announce
from dte.worker.master_client import MasterAway, MasterClient, Refused
from dte.worker.session import Session, without_session

log = logging.getLogger("dte.worker")

RETRY_FIRST_S = 0.1
TIMEOUT_S = 2.0
UNREACHABLE_CHARS_MAX = 500
MOMENTS = 20
"""The number of moments in an interval at which announcements are made, common to all workers. A
master that wakes up for several announcements spends less time on each."""


UNREACHABLE = (
    "%s; if another port leads here, give --announce-port; if the worker listens on another "
    "address, give --host; if nothing leads here, give --pull"
)
UNTRUSTED_BY_MASTER = (
    "the master does not trust the authority that issued this worker's certificate; name a file "
    "with the certificate of that authority in the master's --tls-ca or DTE_TLS_CA"
)


class _Registered(msgspec.Struct):
    """The part of the reply to an announcement that says what is wrong."""

    unreachable: str | None = None
    warning: str | None = None
    session: str | None = None


_registered: Decoder[_Registered] = Decoder(_Registered)


class Announcer:
    """Announces a worker at an interval until `leave`, and at once when `hurry` is called.

    While the master cannot be reached, pauses between attempts double. The connection stays open,
    because opening it costs the master more than an announcement.

    Args:
        heartbeat_s: the interval in seconds.
        on_announced: called after each announcement that the master has received.
        session: takes in what the master replies.
    """

    def __init__(
        self,
        master_url: str,
        announce: Announce,
        heartbeat_s: float,
        on_announced: Callable[[], None] | None = None,
        session: Session | None = None,
    ) -> None:
        self._master_url = master_url
        self._master = MasterClient(master_url)
        self._announce = announce
        self._heartbeat_s = heartbeat_s
        self._on_announced = on_announced
        self._session = session or without_session()
        self._hurry = asyncio.Event()
        self._leaving = False
        self._reached: bool | None = None
        self._unreachable: str | None = None
        self._warning: str | None = None
        self._task = asyncio.create_task(self._run())

    def hurry(self) -> None:
        """Announce at once, because the master seems to have gone and may be back already."""
        self._hurry.set()

    async def leave(self) -> None:
        """Stop announcing, and announce to the master that the worker is leaving."""
        self._leaving = True
        self._hurry.set()
        await self._task
        self._announce.draining = True
        await self._announce_once()
        self._master.close()

    async def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._leaving:
            self._hurry.clear()
            if await self._announce_once():
                pause_s, retry_s = common_pause_s(self._heartbeat_s, time.time()), RETRY_FIRST_S
            else:
                pause_s, retry_s = retry_s, min(self._heartbeat_s, retry_s * 2)
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait for this time, or until `hurry` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()

    async def _announce_once(self) -> bool:
        """Announce once; return True if the master has received it."""
        reached, problem = True, ""
        try:
            reply = await self._master.post(
                "/worker", encode(self._announce), TIMEOUT_S, self._session.headers
            )
            self._take_in(reply)
        except (MasterAway, Refused) as error:
            reached, problem = False, str(error)
        if reached and self._on_announced is not None:
            self._on_announced()
        if reached != self._reached and not self._leaving:
            self._reached = reached
            if reached:
                log.info("announced to %s", self._master_url)
            else:
                log.warning("cannot announce to %s: %s; trying again", self._master_url, problem)
        return reached

    def _take_in(self, reply: bytes) -> None:
        """Take in the session, and log what the master says anew.

        That is of calls that fail, and of another worker's name.
        """
        try:
            registered = _registered.decode(reply)
        except Malformed:
            registered = _Registered()  # Other masters reply what they like.
        self._session.replied(registered.session)
        if registered.warning != self._warning and not self._leaving:
            self._warning = registered.warning
            if registered.warning is not None:
                log.warning("%s", registered.warning[:UNREACHABLE_CHARS_MAX])
        unreachable = registered.unreachable
        if self._leaving or unreachable == self._unreachable:
            return
        self._unreachable = unreachable
        if unreachable is None:
            log.info("the calls of the master reach this worker again")
        elif UNTRUSTED in unreachable:
            log.warning(UNTRUSTED_BY_MASTER)
        else:
            log.warning(UNREACHABLE, unreachable[:UNREACHABLE_CHARS_MAX])


def common_pause_s(interval_s: float, wall_s: float) -> float:
    """Return a pause of about an interval that ends at a moment common to all workers."""
    step_s = interval_s / MOMENTS
    return round((wall_s + interval_s) / step_s) * step_s - wall_s
