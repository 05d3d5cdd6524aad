"""Serves a master over HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import logging

from tornado.httpserver import HTTPServer

from dte.master.api.routes import application
from dte.master.master import Master
from dte.master.settings import Settings
from dte.wire.listening import listen

log = logging.getLogger("dte.master")

BODY_TIMEOUT_S = 120
HEADER_TIMEOUT_S = 120


class MasterServer:
    """A master and its HTTP server on the running loop."""

    def __init__(self, settings: Settings) -> None:
        self.master = Master(settings)
        # Bodies have bounds in `dte.master.api.base`, which answer; this one would hang up.
        self._http = HTTPServer(
            application(self.master),
            max_body_size=1 << 40,
            body_timeout=BODY_TIMEOUT_S,
            idle_connection_timeout=HEADER_TIMEOUT_S,
        )
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            CannotListen: the address or the port cannot be had.
        """
        settings = self.master.settings
        sockets, self.port = listen(settings.host, settings.port)
        self._http.add_sockets(sockets)
        log.info("master listens on %s:%d", settings.host, self.port)

    async def stop(self) -> None:
        """Stop listening, end the connections and everything that is under way."""
        self._http.stop()
        self.master.close()
        await self._http.close_all_connections()


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve a master until `stop` is set."""
    server = MasterServer(settings)
    server.start()
    await stop.wait()
    await server.stop()
