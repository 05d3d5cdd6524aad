"""Serves a master over HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys

from dte.master.api.routes import application
from dte.master.garbage import GarbageCollector
from dte.master.http.server import BoundedServer
from dte.master.master import Master
from dte.master.settings import Settings
from dte.wire.http.listening import listen

log = logging.getLogger("dte.master")

SWITCH_S = 0.0001
REPLY_S = 0.05
"""How long the last replies get to leave."""


class MasterServer:
    """A master and its HTTP server on the running loop."""

    def __init__(self, settings: Settings) -> None:
        self.master = Master(settings)
        # Bodies have bounds in `dte.master.api.base`, which answer; this one would hang up.
        self._http = BoundedServer(application(self.master), settings, max_body_size=1 << 40)
        self._garbage = GarbageCollector()
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            CannotListen: the address or the port cannot be had.
        """
        settings = self.master.settings
        sockets, self.port = listen(settings.host, settings.port)
        self._http.add_sockets(sockets)
        self._garbage.start()
        log.info("master listens on %s:%d", settings.host, self.port)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop listening, wait for what workers have, end the connections, close the journal.

        Requests that are held are answered with how their jobs stand.

        Args:
            grace_s: how long to wait for workers at most.
        """
        self._garbage.stop()
        self._http.stop()
        await self.master.end(grace_s)
        await asyncio.sleep(REPLY_S)
        await self._http.close_all_connections()
        await self.master.close()


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve a master until `stop` is set."""
    # The journal's thread needs the interpreter's lock some times a commit, each time for some µs;
    # with Python's 5 ms a busy loop would keep it waiting for most of the commit. With 0.5 ms a
    # small job beside the parsing of a large one took 90 ms, with this 11, and nothing got slower.
    sys.setswitchinterval(SWITCH_S)
    server = MasterServer(settings)
    server.start()
    await stop.wait()
    log.info("the master ends; what has not ended goes on when it is started again")
    await server.stop(settings.grace_s)
