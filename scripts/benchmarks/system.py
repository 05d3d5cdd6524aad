"""dte as it is measured: a master and workers in processes of their own, as a user starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.cluster import Cluster
from processes import python, starting


@contextmanager
def running(
    workers: int = 2, *, simulated: int = 0, journal: str = "full", slots: int = 2
) -> Iterator[Cluster]:
    """A running master and its workers.

    Args:
        workers: the number of real ones.
        simulated: the number of those that share one process, see `simulated_workers`.
        journal: what the master's commits survive, ``full`` or ``normal``; ``none`` for no journal.
        slots: calls of handlers that a worker has at a time.
    """
    settings = {"DTE_JOURNAL": "none"} if journal == "none" else {"DTE_JOURNAL_SYNC": journal}
    with starting() as processes:
        cluster = Cluster(processes, workers, options=("--slots", str(slots)), **settings)
        if simulated:
            processes.start(program=python("simulated_workers.py", cluster.url, simulated))
            cluster.until_announced(workers + simulated)
        yield cluster
