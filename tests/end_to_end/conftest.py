"""A master and workers as processes, asked over plain HTTP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .live import Process, Processes, free_port, until
from .plain_client import PlainClient


class Cluster:
    """A master and workers that run as `dte master` and `dte worker`.

    Args:
        settings: environment variables of the master, which has a journal of its own.
        workers: how many there are.

    Attributes:
        folder: where the journal and the logs are.
        workers: their processes, by their names.
        client: a client that knows nothing but HTTP and JSON.
    """

    def __init__(self, processes: Processes, settings: dict[str, str], workers: int = 2) -> None:
        self._processes = processes
        self.folder = processes.folder
        self._settings = {"DTE_JOURNAL": str(processes.folder / "journal.db")} | settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.master = processes.start_master(self.port, **self._settings)
        self.client = PlainClient(self.port)
        self.workers: dict[str, Process] = {}
        for number in range(1, workers + 1):
            self.start_worker(f"worker-{number}")
        until(lambda: len(self.client.workers()) == workers, "the workers are announced")

    def start_worker(self, name: str, *arguments: str) -> None:
        """Start one more worker, with further options of `dte worker`."""
        self.workers[name] = self._processes.start_worker(self.port, name, *arguments)

    def start_master(self) -> None:
        """Start the master again, on the same port and with the same journal."""
        self.master = self._processes.start_master(self.port, **self._settings)

    def restart_master(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the master with a signal, and start another on the same port."""
        self.master.end(number)
        self.start_master()


StartCluster = Callable[..., Cluster]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts programs that go on beside the test."""
    with Processes(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that nobody harms."""
    with Processes(tmp_path_factory.mktemp("cluster")) as processes:
        yield Cluster(processes, {})


@pytest.fixture
def start_cluster(processes: Processes) -> StartCluster:
    """Starts a cluster of one's own: ``start_cluster(workers=2, DTE_LEASE_S="1")``."""
    return lambda workers=2, **settings: Cluster(processes, settings, workers)
