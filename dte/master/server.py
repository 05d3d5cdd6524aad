"""Serves a master over HTTP."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

from dte.master.api.routes import application
from dte.master.garbage import GarbageCollector
from dte.master.heap import Heap, give_large_blocks_back
from dte.master.http.server import BoundedServer
from dte.master.master import Master
from dte.master.settings import Settings
from dte.master.tls import worker_context
from dte.wire.http.certificates import server_tls
from dte.wire.http.listening import listen

log = logging.getLogger("dte.master")

SWITCH_S = 0.0001
REPLY_S = 0.05
"""Time for the last replies."""


class MasterServer:
    """A master and its HTTP server on the running loop.

    Attributes:
        tls: the certificate that it shows; None if it speaks plain HTTP.

    Raises:
        FilesRefused: the certificate cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.tls = server_tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        if settings.tls_ca:
            worker_context(settings)  # A file that cannot be used is refused now.
        self.master = Master(settings)
        # `JsonHandler` bounds bodies and replies with an error; this bound would close connections.
        self._http = BoundedServer(
            application(self.master),
            settings,
            self.master.incidents,
            self.tls,
            max_body_size=1 << 40,
        )
        self._garbage = GarbageCollector(self.master.turns, self._ended_bytes, self._waiting)
        self._heap = Heap(self._ended_bytes)
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            CannotListen: the address or the port is not free.
        """
        settings = self.master.settings
        sockets, self.port = listen(settings.host, settings.port)
        self._http.add_sockets(sockets)
        self._garbage.start()
        self._heap.start()
        self.master.turns.begin()  # Nobody waited before.
        self.master.wake()
        over = " with TLS" if self.tls is not None else ""
        log.info("master listens on %s:%d%s", settings.host, self.port, over)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop listening, wait for workers, close the connections, and close the journal.

        Requests that wait for jobs get their present state.

        Args:
            grace_s: the longest wait for workers.
        """
        self._heap.stop()
        self._http.stop()
        await self.master.end(grace_s)
        await asyncio.sleep(REPLY_S)
        await self._http.close_all_connections()
        await self.master.close()
        self._garbage.stop()  # Not before: Python would search all jobs again and again.

    def _ended_bytes(self) -> int:
        return self.master.ended_bytes

    def _waiting(self) -> int:
        return self.master.core.jobs.operations_waiting + self.master.past_jobs.operations


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve a master until `stop` is set."""
    # The journal's thread needs the interpreter's lock a few times per commit, for some µs each.
    # With Python's interval of 5 ms a busy loop keeps it waiting for most of the commit. With
    # 0.5 ms a small job beside the parsing of a large one took 90 ms, with this one 11 ms.
    sys.setswitchinterval(SWITCH_S)
    give_large_blocks_back()
    server = MasterServer(settings)
    gc.freeze()  # The jobs of a long journal: a search through 100,000 takes 0.1 s.
    server.start()
    if server.tls is not None:
        server.tls.reload_on_hangup()
    await stop.wait()
    log.info("the master ends; unfinished jobs go on after the next start")
    await server.stop(settings.grace_s)
