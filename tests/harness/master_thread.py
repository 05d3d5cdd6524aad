"""A master, with workers beside it, on a loop in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from dte.master.server import MasterServer
from dte.master.settings import Settings
from dte.worker.server import WorkerServer, WorkerSettings
from harness.machine import HOST
from harness.processes import until

T = TypeVar("T")


class MasterThread:
    """A running master.

    Args:
        workers: the number of its workers.
        port: the master's; 0 for any free one.
        settings: other settings of the master.
    """

    def __init__(self, workers: int = 0, port: int = 0, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(self._serve_master(Settings(HOST, port, **settings)))
        self._workers: list[WorkerServer] = []
        self.port = self._server.port
        self.url = f"http://{HOST}:{self.port}"
        for _ in range(workers):
            self.add_worker()

    def __enter__(self) -> MasterThread:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def add_worker(self) -> None:
        """Start a worker, and wait until the master knows it."""
        known = len(self.workers())
        self._workers.append(self._run(self._serve_worker(f"worker-{known + 1}")))
        until(lambda: len(self.workers()) > known, "the worker is announced")

    def workers(self) -> list[str]:
        """The names of the workers that the master knows."""
        return [worker.announcement.name for worker in self._server.master.core.workers()]

    def stop(self) -> None:
        """End the workers and the master, and close all connections."""
        for worker in self._workers:
            self._run(worker.drain())
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _serve_master(self, settings: Settings) -> MasterServer:
        server = MasterServer(settings)
        server.start()
        return server

    async def _serve_worker(self, name: str) -> WorkerServer:
        server = WorkerServer(WorkerSettings(self.url, HOST, 0, name))
        server.start()
        return server
