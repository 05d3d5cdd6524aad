"""A master and workers as processes, asked over plain HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness.cluster import Cluster, running_cluster
from harness.processes import Processes

StartCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that nobody harms."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def start_cluster(processes: Processes) -> StartCluster:
    """Starts a cluster of one's own: ``start_cluster(workers=2, DTE_LEASE_S="1")``."""
    return lambda workers=2, **settings: Cluster(processes, workers, **settings)
