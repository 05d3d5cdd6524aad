"""dte as it is measured: a master and workers in processes of their own, as a user starts them."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from processes import START_TIMEOUT_S, Processes, cpu_s, free_ports, python, wait_until_listening

from dte import Client


class System:
    """A running master and its workers.

    Args:
        workers: how many real ones.
        simulated: how many that share one process instead, see `simulated_workers`.
        journal: what the master's commits survive, ``full`` or ``normal``; ``none`` for no journal.
        slots: calls of handlers that a worker has at a time.

    Attributes:
        port: the master's.
        url: the master's.
        worker_ports: the real workers'.
    """

    def __init__(
        self, workers: int = 2, *, simulated: int = 0, journal: str = "full", slots: int = 2
    ) -> None:
        self.port, *self.worker_ports = free_ports(1 + workers)
        self.url = f"http://127.0.0.1:{self.port}"
        self._simulated = simulated
        self._journal = journal
        self._slots = slots
        self._stack = ExitStack()
        self._master_pid = 0

    def __enter__(self) -> System:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dte-bench-"))
            self._start(stack.enter_context(Processes()), folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def master_cpu_s(self) -> float:
        """How long the master has been at work, in seconds of a core."""
        return cpu_s(self._master_pid)

    def master_memory_mb(self, what: str) -> float:
        """The master's memory in MB: ``VmRSS`` for now, ``VmHWM`` for the most so far."""
        status = Path(f"/proc/{self._master_pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields[what].split()[0]) * 1024 / 1e6

    def _start(self, processes: Processes, folder: str) -> None:
        dte = [sys.executable, "-m", "dte"]
        listen = ["--log-level", "warning", "--host", "127.0.0.1", "--port"]
        journal = ["--journal", "none"]
        if self._journal != "none":
            journal = ["--journal", f"{folder}/dte.db", "--journal-sync", self._journal]
        master = processes.start([*dte, "master", *listen, str(self.port), *journal])
        self._master_pid = master.pid
        wait_until_listening(self.port)
        for number, port in enumerate(self.worker_ports, 1):
            who = ["--master", self.url, "--name", f"worker-{number}", "--slots", str(self._slots)]
            processes.start([*dte, "worker", *listen, str(port), *who])
        if self._simulated:
            processes.start(python("simulated_workers.py", self.url, self._simulated))
        self._wait_for_workers(len(self.worker_ports) + self._simulated)

    def _wait_for_workers(self, count: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with Client(self.url) as client:
            while len(client.workers()) < count:
                if time.monotonic() > deadline:
                    raise TimeoutError("the workers did not announce themselves")
                time.sleep(0.02)
