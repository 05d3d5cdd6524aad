"""Serves a worker over HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tornado.httpserver import HTTPServer

from dte.wire.connection import REPLY_BYTES_MAX
from dte.wire.listening import listen
from dte.wire.messages import Announce
from dte.worker.announcer import Announcer
from dte.worker.compute import ComputeServer

log = logging.getLogger("dte.worker")

BATCH_MAX = 1024
DRAIN_S = 0.2
"""How long a draining worker still answers: what the master sent before it heard is on its way."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Where a worker listens, and which master it works for.

    Attributes:
        master_url: as ``http://host:port``.
        port: 0 for any free one.
        slots: how many requests it takes at a time.
        announce_port: where the master reaches it, if not at `port`; 0 if there.
        heartbeat_s: how often it announces itself, in seconds.
    """

    master_url: str = "http://localhost:5000"
    host: str = "0.0.0.0"
    port: int = 6000
    name: str = ""
    slots: int = 2
    announce_port: int = 0
    heartbeat_s: float = 5.0


def _do_nothing() -> None:
    pass


class _Server(HTTPServer):
    """An HTTP server that says when a connection is closed by the other side."""

    def initialize(self, *args: object, **kwargs: object) -> None:
        self.closed_by_peer: Callable[[], None] = _do_nothing
        super().initialize(*args, **kwargs)  # type: ignore[arg-type]

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self.closed_by_peer()


class WorkerServer:
    """A worker and its HTTP server on the running loop."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.name = settings.name or f"{os.uname().nodename}-{os.getpid()}"
        self._compute = ComputeServer(self.name)
        self._http = _Server(self._compute, max_body_size=REPLY_BYTES_MAX)
        self._announcer: Announcer | None = None
        self.port = 0

    def start(self) -> None:
        """Listen, and from then on announce.

        Raises:
            CannotListen: the address or the port cannot be had.
        """
        sockets, self.port = listen(self._settings.host, self._settings.port)
        self._http.add_sockets(sockets)
        log.info("worker %s listens on port %d", self.name, self.port)
        announce = Announce(
            self.name,
            self._settings.announce_port or self.port,
            self._settings.slots,
            BATCH_MAX,
            incarnation=secrets.token_hex(8),
        )
        self._announcer = Announcer(self._settings.master_url, announce, self._settings.heartbeat_s)
        self._http.closed_by_peer = self._announcer.hurry

    async def drain(self) -> None:
        """Ask for no more operations, answer those that are on their way, then stop."""
        self._http.closed_by_peer = _do_nothing
        if self._announcer is not None:
            await self._announcer.leave()
        await asyncio.sleep(DRAIN_S)
        self._compute.draining = True
        self._http.stop()
        await self._http.close_all_connections()


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Serve a worker until `stop` is set."""
    server = WorkerServer(settings)
    server.start()
    await stop.wait()
    await server.drain()
