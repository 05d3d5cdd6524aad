"""A master and workers as processes, asked over plain HTTP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .live import Process, Processes, free_port, until
from .plain_client import PlainClient


class Cluster:
    """A master and two workers that run as `dte master` and `dte worker`.

    Attributes:
        workers: their processes, by their names.
        client: a client that knows nothing but HTTP and JSON.
    """

    def __init__(self, processes: Processes, settings: dict[str, str]) -> None:
        self._processes = processes
        self._settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.master = processes.start_master(self.port, **settings)
        self.client = PlainClient(self.port)
        self.workers: dict[str, Process] = {}
        for name in ("worker-1", "worker-2"):
            self.start_worker(name)
        until(lambda: len(self.client.workers()) == 2, "both workers are announced")

    def start_worker(self, name: str) -> None:
        """Start one more worker."""
        self.workers[name] = self._processes.start_worker(self.port, name)

    def restart_master(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the master with a signal, and start another on the same port."""
        self.master.end(number)
        self.master = self._processes.start_master(self.port, **self._settings)


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
    """Starts a cluster of one's own, with settings of the master."""
    return lambda **settings: Cluster(processes, settings)
