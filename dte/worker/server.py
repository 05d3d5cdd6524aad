"""Works for a master until it is told to stop: serves it over HTTP, or claims work from it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dte.handlers import registry
from dte.wire.http.client import REPLY_BYTES_MAX
from dte.wire.http.listening import listen
from dte.wire.http.server import HttpServer
from dte.wire.messages.batches import Announce
from dte.wire.messages.calls import Claim
from dte.worker.announcer import Announcer
from dte.worker.calls import RunningCalls
from dte.worker.compute import ComputeServer
from dte.worker.processes.executor import Executor
from dte.worker.puller import Puller
from dte.worker.reporter import RETRY_S, TTL_S, Reporter
from dte.worker.spool import Spool

log = logging.getLogger("dte.worker")

BATCH_MAX = 1024
REQUESTS_MAX = 2
"""Requests for arithmetic at a time: one is on its way while one is done."""
SLOTS_MAX = 64
DRAIN_S = 0.2
"""How long a draining worker still answers: what the master sent before it heard is on its way."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Where a worker listens, which master it works for, and what it does.

    Attributes:
        master_url: as ``http://host:port``.
        port: 0 for any free one.
        slots: how many calls of handlers it has at a time; 0 for as many as there are CPUs.
        announce_port: where the master reaches it, if not at `port`; 0 if there.
        heartbeat_s: how often it announces itself, in seconds.
        handlers: modules with handlers, besides the built-in ones.
        memory_mb: how much memory a call may have; None for no bound.
        pull: whether it claims its work, and listens nowhere.
        grace_s: how long calls may go on when the worker is to end, in seconds.
        spool: the folder for results while the master is away; empty for memory alone.
        spool_retry_s: results are sent again at least so often, in seconds.
        spool_ttl_s: results are dropped after so many seconds.
    """

    master_url: str = "http://localhost:5000"
    host: str = "0.0.0.0"
    port: int = 6000
    name: str = ""
    slots: int = 0
    announce_port: int = 0
    heartbeat_s: float = 5.0
    handlers: tuple[str, ...] = ()
    memory_mb: int | None = None
    pull: bool = False
    grace_s: float = 5.0
    spool: str = ""
    spool_retry_s: float = RETRY_S
    spool_ttl_s: float = TTL_S


def _do_nothing() -> None:
    pass


class _Worker:
    """What a worker that is called and one that claims have in common.

    Raises:
        CannotLoad: a module with handlers cannot be imported.
        SpoolUnusable: results cannot be kept there.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        registry.load(settings.handlers)
        self._settings = settings
        self.name = settings.name or f"{os.uname().nodename}-{os.getpid()}"
        self._slots = settings.slots or cpus()
        self._incarnation = secrets.token_hex(8)
        spool = Spool(Path(settings.spool), settings.spool_ttl_s) if settings.spool else None
        self._reporter = Reporter(
            self.name, settings.master_url, spool, settings.spool_retry_s, settings.spool_ttl_s
        )
        self._calls = RunningCalls(
            self.name,
            settings.master_url,
            self._reporter,
            partial(Executor, self._slots, settings.handlers, settings.memory_mb),
        )

    def _begin(self) -> None:
        log.info("worker %s has handlers: %s", self.name, ", ".join(sorted(registry.infos())))
        self._calls.start()


class WorkerServer(_Worker):
    """A worker and its HTTP server on the running loop.

    Raises:
        CannotLoad: a module with handlers cannot be imported.
        SpoolUnusable: results cannot be kept there.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._compute = ComputeServer(self.name, self._calls)
        self._http = HttpServer(self._compute, REPLY_BYTES_MAX)
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
        self._begin()
        announce = Announce(
            self.name,
            self._settings.announce_port or self.port,
            REQUESTS_MAX,
            BATCH_MAX,
            incarnation=self._incarnation,
            handlers=registry.infos(),
            handler_slots=self._slots,
        )
        self._announcer = Announcer(
            self._settings.master_url,
            announce,
            self._settings.heartbeat_s,
            on_heard=self._reporter.hurry,
        )
        self._http.closed_by_peer = self._announcer.hurry

    async def drain(self) -> None:
        """Ask for nothing more, do what is on its way, let calls end or give them back; stop."""
        self._http.closed_by_peer = _do_nothing
        if self._announcer is not None:
            await self._announcer.leave()
        await asyncio.sleep(DRAIN_S)
        self._compute.draining = True
        await self._calls.drain(self._settings.grace_s)
        self._http.stop()


class PullingWorker(_Worker):
    """A worker that claims its work, on the running loop.

    Raises:
        CannotLoad: a module with handlers cannot be imported.
        SpoolUnusable: results cannot be kept there.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._puller: Puller | None = None

    def start(self) -> None:
        """Claim work from now on."""
        self._begin()
        self._puller = Puller(
            self._settings.master_url,
            Claim(
                self.name,
                registry.infos(),
                self._slots,
                batch_max=BATCH_MAX,
                incarnation=self._incarnation,
            ),
            self._settings.heartbeat_s,
            self._calls,
            self._reporter,
        )

    async def drain(self) -> None:
        """Claim nothing more, let calls end or give them back; stop."""
        if self._puller is not None:
            await self._puller.leave()
        await self._calls.drain(self._settings.grace_s)


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        CannotListen: the address or the port cannot be had.
        CannotLoad: a module with handlers cannot be imported.
        SpoolUnusable: results cannot be kept there.
    """
    worker = PullingWorker(settings) if settings.pull else WorkerServer(settings)
    worker.start()
    await stop.wait()
    await worker.drain()


def cpus() -> int:
    """How many CPUs this process may use."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        found = os.cpu_count() or 1
    return max(1, min(found, SLOTS_MAX))
