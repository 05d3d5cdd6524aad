"""A worker: it serves a master over HTTP, or claims work from it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dte.handlers import registry
from dte.wire.http.address import parse as parse_url
from dte.wire.http.browsers import HostNames
from dte.wire.http.certificates import server_tls
from dte.wire.http.client import REPLY_BYTES_MAX
from dte.wire.http.listening import LOOPBACK, listen
from dte.wire.http.server import HttpServer
from dte.wire.messages.batches import Announce
from dte.wire.messages.calls import Claim
from dte.worker.announcer import Announcer
from dte.worker.calls import RunningCalls
from dte.worker.compute import METHODS, ComputeServer
from dte.worker.cpus import cpus
from dte.worker.naming import await_token_name, has_token, name_after
from dte.worker.orphans import reaped
from dte.worker.place import await_hosts
from dte.worker.processes.executor import Executor
from dte.worker.processes.output import log_without_waiting
from dte.worker.puller import Puller
from dte.worker.reporter import RETRY_S, TTL_S, Reporter
from dte.worker.session import Session
from dte.worker.spool import Spool

log = logging.getLogger("dte.worker")

BATCH_MAX = 1024
REQUESTS_MAX = 2
"""Requests for arithmetic at once: one travels while the other is computed."""
DRAIN_S = 0.2
"""The time that a draining worker still answers requests that the master has already sent."""
HURRY_S = 4.0
"""The time to stop and return calls if the user does not want to wait; a call has 3 s to stop."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of a worker.

    Attributes:
        master_url: the URL of the master, ``http://host:port``.
        host: the address to listen on; ``*`` for every address, of IPv4 and IPv6; empty for the one
            that leads to the master (`dte.worker.place`).
        port: the port to listen on; 0 for a free one.
        name: the worker's name; empty for one from its token, the host name and the process id.
        slots: the number of calls of handlers at once; 0 for the number of CPUs.
        announce_port: the port at which the master reaches the worker; 0 for `port`.
        heartbeat_s: the interval of announcements, in seconds.
        handlers: modules with handlers, besides the built-in ones.
        memory_mb: the memory of each process with handlers, in megabytes; None for no limit.
        log_level: the level from which on log records of handlers are printed.
        calls_per_process: the calls after which such a process is replaced; None for no limit.
        pull: claim work instead of listening.
        grace_s: the time that calls have to end when the worker ends, in seconds.
        spool: the folder for results while the master is away; empty to keep them in memory only.
        spool_retry_s: the longest pause before results are sent again, in seconds.
        spool_ttl_s: the age at which results are dropped, in seconds.
        host_names: further names by which a master may call the worker.
        tls_cert: the file with the certificate that the worker shows; empty for plain HTTP.
        tls_key: the file with its key; empty if that is in the same file.
        tls_client_ca: the file with the CA of the master's certificate; empty to ask for none.
    """

    master_url: str = "http://localhost:5000"
    host: str = ""
    port: int = 6000
    name: str = ""
    slots: int = 0
    announce_port: int = 0
    heartbeat_s: float = 5.0
    handlers: tuple[str, ...] = ()
    memory_mb: int | None = None
    calls_per_process: int | None = None
    log_level: str = "info"
    pull: bool = False
    grace_s: float = 5.0
    spool: str = ""
    spool_retry_s: float = RETRY_S
    spool_ttl_s: float = TTL_S
    host_names: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""


class _Worker:
    """The common part of workers that listen and workers that claim.

    Args:
        token: the name of its token, with which its name begins if the settings give none.
    """

    def __init__(self, settings: WorkerSettings, token: str = "") -> None:
        with redirect_stdout(sys.stderr):
            registry.load(settings.handlers)
        self._settings = settings
        self.name = settings.name or name_after(token)
        self._slots = settings.slots or cpus()
        url = settings.master_url
        serves_earlier = parse_url(url).is_loopback and not has_token(url)
        self._session = session = Session(serves_earlier)
        spool = None
        if settings.spool:
            spool = Spool(Path(settings.spool), settings.spool_ttl_s, settings.name or None)
        self._reporter = Reporter(
            self.name,
            settings.master_url,
            spool,
            settings.spool_retry_s,
            settings.spool_ttl_s,
            session,
        )
        self._calls = RunningCalls(
            self.name,
            settings.master_url,
            self._reporter,
            partial(
                Executor,
                self._slots,
                settings.handlers,
                settings.memory_mb,
                calls_per_process=settings.calls_per_process,
                log_level=settings.log_level,
            ),
            self._slots,
            session,
        )

    def leave(self) -> None:
        """Let calls end although their processes get the signals of a service that stops."""
        self._calls.leave()

    async def hurry(self) -> None:
        """Stop calls and return them, for a worker whose `drain` was cancelled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HURRY_S):
                await self._calls.drain(0.0)

    def _begin(self) -> None:
        log.info("worker %s has the handlers %s", self.name, ", ".join(sorted(registry.infos())))
        self._calls.start()


class WorkerServer(_Worker):
    """A worker with an HTTP server, on the running loop.

    Args:
        hosts: the addresses to listen on if the settings name none.
        token: the name of its token, see `_Worker`.

    Attributes:
        tls: the TLS of its port; None for plain HTTP.
    """

    def __init__(
        self, settings: WorkerSettings, hosts: Sequence[str] = (LOOPBACK,), token: str = ""
    ) -> None:
        super().__init__(settings, token)
        self._compute = ComputeServer(
            self.name, self._calls, self._session, settings.master_url, self._slots
        )
        self.tls = server_tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        names = HostNames(settings.host, settings.host_names)
        self._http = HttpServer(self._compute, REPLY_BYTES_MAX, METHODS, tls=self.tls, names=names)
        self._http.refusal = self._compute.refusal
        self._announcer: Announcer | None = None
        self._hosts = (settings.host,) if settings.host else hosts
        self.port = 0

    def start(self) -> None:
        """Listen, and announce the worker from then on."""
        sockets, self.port = listen(self._hosts, self._settings.port)
        self._http.add_sockets(sockets)
        log.info("worker %s listens on port %d of %s", self.name, self.port, ", ".join(self._hosts))
        self._begin()
        announce = Announce(
            self.name,
            self._settings.announce_port or self.port,
            REQUESTS_MAX,
            BATCH_MAX,
            incarnation=self._session.incarnation,
            handlers=registry.infos(),
            handler_slots=self._slots,
            replaced=registry.replaced(),
            kwargs=True,
            tls=self.tls is not None,
            secret=self._session.secret,
        )
        settings = self._settings
        self._announcer = announcer = Announcer(
            settings.master_url,
            announce,
            settings.heartbeat_s,
            self._reporter.hurry,
            self._session,
        )
        self._http.closed_by_peer = announcer.hurry

        def on_capacity(capacity: int, failing: str | None) -> None:
            announce.handler_slots, announce.failing = capacity or self._slots, failing
            announcer.hurry()

        self._calls.on_capacity = on_capacity

    async def drain(self) -> None:
        """Announce the end, answer requests under way, let calls end or return them, and stop."""
        self._http.closed_by_peer = lambda: None
        if self._announcer is not None:
            await self._announcer.leave()
        await asyncio.sleep(DRAIN_S)
        self._compute.draining = True
        await self._calls.drain(self._settings.grace_s)
        self._http.stop()


class PullingWorker(_Worker):
    """A worker that claims its work, on the running loop."""

    def __init__(self, settings: WorkerSettings, token: str = "") -> None:
        super().__init__(settings, token)
        self._puller: Puller | None = None

    def start(self) -> None:
        """Start claiming work."""
        self._begin()
        claim = Claim(self.name, registry.infos(), self._slots, batch_max=BATCH_MAX, kwargs=True)
        claim.replaced = registry.replaced()
        claim.incarnation, claim.sessions = self._session.incarnation, True
        url, pause_max_s = self._settings.master_url, self._settings.heartbeat_s
        self._puller = puller = Puller(
            url, claim, pause_max_s, self._calls, self._reporter, self._session
        )

        def on_capacity(capacity: int, failing: str | None) -> None:
            claim.slots, claim.failing = capacity or self._slots, failing
            puller.renew()

        self._calls.on_capacity = on_capacity

    async def drain(self) -> None:
        """Stop claiming, let calls end or return them, and stop."""
        if self._puller is not None:
            await self._puller.leave()
        await self._calls.drain(self._settings.grace_s)


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Run a worker until `stop` is set. If this is cancelled after that, no call gets more time.

    Raises:
        CannotListen: the address or the port is not available.
        CannotLoad: a module with handlers cannot be imported.
        SpoolUnusable: the folder of the spool is not writable.
        FilesRefused: the certificate cannot be used.
    """
    async with log_without_waiting():
        with reaped():
            await _serve(settings, stop)


async def _serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    worker: PullingWorker | WorkerServer
    token = "" if settings.name else await await_token_name(settings.master_url, stop)
    if stop.is_set():
        return
    if settings.pull:
        worker = PullingWorker(settings, token)
    else:
        hosts = () if settings.host else await await_hosts(settings.master_url, stop)
        if stop.is_set():
            return
        worker = WorkerServer(settings, hosts, token)
        if worker.tls is not None:
            worker.tls.reload_on_hangup()
    worker.start()
    await stop.wait()
    worker.leave()
    try:
        await worker.drain()
    except asyncio.CancelledError:
        await worker.hurry()
        raise
