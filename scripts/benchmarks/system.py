"""A master and workers in processes of their own, as a user would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType

from dte import Client

START_TIMEOUT_S = 20.0


class System:
    """A running master and its workers.

    Args:
        workers: how many.
        journal: what the master's commits survive, ``full`` or ``normal``; ``none`` for no journal.

    Attributes:
        port: the master's.
        worker_ports: the workers'.
    """

    def __init__(self, workers: int, journal: str = "full") -> None:
        self._journal = journal
        self._folder = tempfile.TemporaryDirectory(prefix="dte-bench-")
        self.port, *self.worker_ports = free_ports(1 + workers)
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> System:
        journal = ["--journal", "none"]
        if self._journal != "none":
            file = f"{self._folder.name}/dte.db"
            journal = ["--journal", file, "--journal-sync", self._journal]
        self._start("master", "--host", "127.0.0.1", "--port", str(self.port), *journal)
        self._wait_for_workers(0)
        for number, port in enumerate(self.worker_ports, 1):
            arguments = ["--master", self.url, "--host", "127.0.0.1", "--port", str(port)]
            self._start("worker", *arguments, "--name", f"worker-{number}")
        self._wait_for_workers(len(self.worker_ports))
        return self

    def _wait_for_workers(self, count: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with Client(self.url) as client:
            while len(client.workers()) < count:
                if time.monotonic() > deadline:
                    raise TimeoutError("the workers did not announce themselves")
                time.sleep(0.02)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait()
        self._folder.cleanup()

    def master_memory_mb(self, what: str) -> float:
        """The master's memory in MB: ``VmRSS`` for now, ``VmHWM`` for the most so far."""
        with open(f"/proc/{self._processes[0].pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields[what].split()[0]) * 1024 / 1e6

    def _start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "dte", *arguments, "--log-level", "warning"]
        environment = {name: os.environ[name] for name in os.environ if not name.startswith("DTE_")}
        self._processes.append(subprocess.Popen(command, env=environment))


def free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
