"""A master in a thread of this process and workers in child processes, for `dte run`."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from dte.local_workers import WORKER, LocalWorkers, WorkerOptions
from dte.master.access.tokens import Role, Tokens
from dte.master.loop import MasterLoop
from dte.master.server import MasterServer
from dte.master.settings import Settings
from dte.wire.http.listening import EVERY_ADDRESS, LOOPBACK, CannotListen

START_TIMEOUT_S = 30.0
EXPLAIN_AFTER_S = 5.0
HERE = {
    LOOPBACK: "127.0.0.1",
    EVERY_ADDRESS: "127.0.0.1",
    "": "127.0.0.1",
    "0.0.0.0": "127.0.0.1",
    "::": "::1",
}
"""Hosts that stand for several addresses of this machine, and the one at which it calls itself."""

T = TypeVar("T")

log = logging.getLogger("dte.run")


class WorkersFailed(RuntimeError):
    """A worker did not start. The text names it."""


def _has_news(record: logging.LogRecord) -> bool:
    """False for records about a worker and no job: workers that are being ended are no news."""
    return not hasattr(record, "worker") or hasattr(record, "job")


class LocalCluster:
    """A master and workers on this machine, from the start of a ``with`` block to its end.

    A worker that ends meanwhile is started again.

    Args:
        workers: the number of worker processes.
        port: the port of the master; 0 for a free one.
        settings: the settings of the master.
        options: the options of the workers.
        host: the address on which the master listens.

    Raises:
        CannotListen: the port is not available.
        WorkersFailed: a worker did not start.
    """

    def __init__(
        self,
        workers: int,
        port: int,
        settings: Settings | None = None,
        options: WorkerOptions | None = None,
        host: str = LOOPBACK,
    ) -> None:
        self._count = workers
        self._options = options or WorkerOptions()
        self._settings = replace(settings or Settings(), host=host, port=port)
        self._workers: LocalWorkers | None = None
        self._loop = MasterLoop()
        run = self._loop.run_forever
        self._thread = threading.Thread(target=run, name="dte-master", daemon=True)
        self._server: MasterServer | None = None
        self.master_url = ""

    def __enter__(self) -> LocalCluster:
        self._thread.start()
        try:
            self._server = self._call(self._start_master())
            host = HERE.get(self._settings.host, self._settings.host)
            shown = f"[{host}]" if ":" in host else host
            self.master_url = f"http://{shown}:{self._server.port}"
            # Connections to any address of the loopback network come from this one.
            theirs = "127.0.0.1" if host.startswith("127.") else host
            token = self.admit(Role.WORKER, WORKER)
            self._workers = LocalWorkers(
                self.master_url, theirs, self._options, self._announced, token
            )
            self._workers.start(self._count)
            self._wait_for_workers()
            self._workers.watch()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @property
    def next_job(self) -> int:
        """The number of the job that is submitted next."""

        async def number() -> int:
            assert self._server is not None
            return self._server.master.core.jobs.last + 1

        return self._call(number())

    @property
    def needs_tokens(self) -> bool:
        """True if requests need a token."""

        async def has_tokens() -> bool:
            return bool(self._tokens)

        return self._call(has_tokens())

    def admit(self, role: Role, name: str) -> str:
        """Make a token for this process and what it starts."""

        async def secret() -> str:
            return self._tokens.admit(role, name)

        return self._call(secret())

    @property
    def _tokens(self) -> Tokens:
        assert self._server is not None
        return self._server.master.access.tokens

    def wait(self) -> None:
        """Wait for SIGTERM."""
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
        while not ended.wait(0.5):
            pass

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start_master(self) -> MasterServer:
        server = MasterServer(self._settings)
        try:
            server.start()
        except CannotListen:
            await server.stop()
            raise
        return server

    def _announced(self) -> set[str]:
        """Return the names of the workers that the master knows."""

        async def names() -> set[str]:
            assert self._server is not None
            return {each.announcement.name for each in self._server.master.core.workers()}

        return self._call(names())

    def _wait_for_workers(self) -> None:
        assert self._workers is not None
        began_at = time.monotonic()
        deadline, explain_at = began_at + START_TIMEOUT_S, began_at + EXPLAIN_AFTER_S
        while not self._workers.names <= self._announced():
            ended = self._workers.ended()
            if ended is not None:
                name, code = ended
                raise WorkersFailed(f"{name} ended with exit code {code}")
            if time.monotonic() > explain_at:
                explain_at = float("inf")
                limit = f"{START_TIMEOUT_S:g} s"
                log.warning("waiting up to %s for workers to load handlers and start", limit)
            if time.monotonic() > deadline:
                limit = f"{START_TIMEOUT_S:g} s"
                raise WorkersFailed(f"not all workers announced themselves within {limit}")
            time.sleep(0.01)

    def _stop(self) -> None:
        # A second signal would leave workers behind, and they end in a moment anyway.
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if in_main_thread else ()
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            self._end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        logging.getLogger("dte.master").addFilter(_has_news)
        try:
            self._end_all()
        finally:
            logging.getLogger("dte.master").removeFilter(_has_news)

    def _end_all(self) -> None:
        if self._workers is not None:
            self._workers.end()
        if self._server is not None:
            self._call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
