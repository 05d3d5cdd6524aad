"""A master in a thread of this process and workers in child processes, for `dte run`."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dte.master.server import MasterServer
from dte.master.settings import Settings
from dte.wire.http.listening import CannotListen

PROGRAM = str(Path(__file__).with_name("__main__.py"))
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
LEAVE_S = 4.0
"""The time in which a worker ends once its stdin is closed; one that does not gets SIGTERM."""

T = TypeVar("T")


class WorkersFailed(RuntimeError):
    """A worker process ended unexpectedly. The text names it."""


class LocalCluster:
    """A master and workers on this machine, from the start of a ``with`` block to its end.

    Args:
        workers: the number of worker processes.
        port: the port of the master; 0 for a free one.
        settings: the settings of the master.
        handlers: modules with handlers for the workers.
        log_format: that of the workers' logs.

    Raises:
        CannotListen: the port is not available.
        WorkersFailed: a worker did not start.
    """

    def __init__(
        self,
        workers: int,
        port: int,
        settings: Settings | None = None,
        handlers: Sequence[str] = (),
        log_format: str = "text",
    ) -> None:
        self._count = workers
        self._handlers = handlers
        self._log_format = log_format
        self._settings = replace(settings or Settings(), host="127.0.0.1", port=port)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._loop = asyncio.new_event_loop()
        run = self._loop.run_forever
        self._thread = threading.Thread(target=run, name="dte-master", daemon=True)
        self._server: MasterServer | None = None
        self.master_url = ""

    def __enter__(self) -> LocalCluster:
        self._thread.start()
        try:
            self._server = self._call(self._start_master())
            self.master_url = f"http://127.0.0.1:{self._server.port}"
            for number in range(1, self._count + 1):
                self._workers.append(self._start_worker(number))
            self._wait_for_workers()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def wait(self) -> None:
        """Wait for SIGTERM, and watch the workers meanwhile."""
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
        while not ended.wait(0.5):
            self._check_workers()

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

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        arguments = ["--master", self.master_url, "--host", "127.0.0.1", "--port", "0"]
        arguments += ["--name", f"worker-{number}", "--own-log-level", "warning"]
        arguments += ["--leave-with-stdin", "--grace-s", "1", "--log-format", self._log_format]
        for module in self._handlers:
            arguments += ["--handlers", module]
        # In a session of its own a worker does not get a Ctrl-C, so this process can end it in
        # order. If this process is killed, the worker's stdin ends, and the worker with it.
        # With -P, Python does not look into the current folder for its own modules.
        return subprocess.Popen(
            [sys.executable, "-P", PROGRAM, "worker", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        assert self._server is not None
        while len(self._server.master.core.workers()) < self._count:
            self._check_workers()
            if time.monotonic() > deadline:
                limit = f"{START_TIMEOUT_S:g} s"
                raise WorkersFailed(f"not all workers announced themselves within {limit}")
            time.sleep(0.01)

    def _check_workers(self) -> None:
        for number, process in enumerate(self._workers, 1):
            if process.poll() is not None:
                raise WorkersFailed(f"worker-{number} ended with exit code {process.returncode}")

    def _stop(self) -> None:
        # A second signal would leave workers behind, and they end in a moment anyway.
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if in_main_thread else ()
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            self._end_processes()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_processes(self) -> None:
        # Not by SIGTERM: a worker that got one with the whole service would take it for a second.
        for process in self._workers:
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        soon = time.monotonic() + min(LEAVE_S, STOP_TIMEOUT_S)
        for process in self._workers:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, soon - time.monotonic()))
                continue
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
                continue
            process.kill()
            process.wait()
        if self._server is not None:
            self._call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
