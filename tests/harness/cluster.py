"""A master and workers as processes, with a client that knows nothing but HTTP and JSON."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.http import BlockingClient
from harness.machine import HOST, free_port
from harness.processes import Process, Processes, until, until_listening


class MasterClient(BlockingClient):
    """Asks a master for what tests want most often."""

    def submit(self, task: str) -> int:
        """Submit a formula that is accepted; give the job's id."""
        return int(self.value("POST", "/submit", {"task": task})["job_id"])

    def finished(self, job_id: int) -> dict[str, Any]:
        """The job, asked for until it is finished."""
        return until(
            lambda: job if (job := self.get(f"/job/{job_id}"))["finished"] else None,
            f"job {job_id} is finished",
        )

    def compute(self, task: str) -> Any:
        """The answer to a formula."""
        return self.finished(self.submit(task))["answer"]

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that the master knows, by name."""
        return {worker["worker_name"]: worker for worker in self.get("/worker")}


class Cluster:
    """A master and workers that run as `dte master` and `dte worker`.

    Args:
        processes: starts them. Its folder takes the journal, unless the settings say otherwise.
        workers: the number of workers.
        options: of `dte worker`.
        settings: environment variables of the master.

    Attributes:
        workers: their processes, by name.
        worker_ports: where those listen that were started with the master.
    """

    def __init__(
        self,
        processes: Processes,
        workers: int = 2,
        *,
        options: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.processes = processes
        self.folder = processes.folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.client = MasterClient(self.port)
        settings = {"DTE_JOURNAL": str(self.folder / "journal.db")} | settings
        self.master = processes.start_master(self.port, **settings)
        self.workers: dict[str, Process] = {}
        for number in range(1, workers + 1):
            self.start_worker(f"worker-{number}", *options)
        if workers:
            self.until_announced(workers)
        known = self.client.workers() if workers else {}
        addresses = [known[name]["address"] for name in self.workers]  # In the same order.
        self.worker_ports = [int(each.rpartition(":")[2]) for each in addresses if each]

    def start_worker(self, name: str, *options: str) -> None:
        """Start one more worker."""
        self.workers[name] = self.processes.start_worker(self.port, name, *options)

    def until_announced(self, workers: int) -> None:
        """Return when the master knows that number of workers."""
        until(lambda: len(self.client.workers()) == workers, "the workers are announced")

    def start_master(self) -> None:
        """Start the master again, on its port and with its journal, and wait until it answers."""
        self.master.start()
        until_listening(self.master, self.port)

    def restart_master(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the master with a signal, and start it again."""
        self.master.end(number)
        self.start_master()


@contextmanager
def running_cluster(folder: Path, workers: int = 2, **options: Any) -> Iterator[Cluster]:
    """A cluster that runs until the ``with`` block ends; the options are those of `Cluster`."""
    with Processes(folder) as processes:
        yield Cluster(processes, workers, **options)
