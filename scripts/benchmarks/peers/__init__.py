"""Other systems, which do the same operations if they are installed.

The program of each is run once, in a process of its own, which starts all that the system needs and
ends it, and gives each figure as soon as it has it (`measuring`).
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from threading import Timer

from figures import Row, latency, rate
from processes import FOLDER, Processes, end

from peers.measuring import JOBS, TREE_OPERATIONS

TIME_MAX_S = 75.0
"""What takes longer is ended; figures that are there by then count."""
INSTALL = "not installed: scripts/setup bench"
ENVIRONMENT = {
    "PYTHONPATH": str(FOLDER),
    "RAY_AUTH_MODE": "disabled",  # Tokens would take time, and a file in the home folder.
    "RAY_USAGE_STATS_ENABLED": "0",
}
TIMES_AIM = "at least 100 times"


@dataclass
class Peer:
    """A system to compare with.

    Attributes:
        name: as it calls itself.
        distribution: what is installed.
        program: the module of this folder that runs the workloads.
        workloads: those that it is to do.
        needs: a program that it needs as well.
        found: what it did, by workload.
    """

    name: str
    distribution: str
    program: str
    workloads: Sequence[str]
    needs: str = ""
    found: dict[str, list[float]] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Why it cannot be run; empty when it can."""
        if not version(self.distribution):
            return INSTALL
        if self.needs and shutil.which(self.needs) is None:
            return f"needs {self.needs}, which is not in PATH"
        return ""

    def measure(self, workloads: Sequence[str]) -> None:
        """Run workloads of its own."""
        with Processes() as processes:
            command = [sys.executable, "-m", f"peers.{self.program}", *workloads]
            process = processes.start(command, ENVIRONMENT, reads=True)
            assert process.stdout is not None
            timer = Timer(TIME_MAX_S, end, [process])
            timer.start()
            try:
                for line in process.stdout:
                    with suppress(ValueError):  # What else it prints is none of ours.
                        name, figures = json.loads(line)
                        self.found[name] = figures
            finally:
                timer.cancel()

    def rows(self, workload: str, ours: Row) -> list[Row]:
        """What it did, and how dte compares with it."""
        if workload not in self.workloads:
            return []
        name, label = f"{workload}.{self.name}", f"  {self.name}"
        if workload not in self.found:
            return [Row(name, label, note=self.missing or "failed, or took too long")]
        figures = self.found[workload]
        if workload == "chain":
            part = ours.percentiles["p50"] / (statistics.median(figures) * 1e3) * 100
            aim = "at most 25%" if self.name == "Ray" else ""
            return [
                latency(name, label, figures),
                Row(f"{name}.share", "    dte takes, of its p50", "%", part, aim=aim),
            ]
        amount = f"{TREE_OPERATIONS:,} operations" if workload == "tree" else f"{JOBS:,} jobs"
        theirs = rate(name, f"{label}, {amount}", figures, ours.unit)
        assert ours.value is not None
        assert theirs.value is not None
        times = ours.value / theirs.value
        return [theirs, Row(f"{name}.times", "    dte does", "times that", times, aim=TIMES_AIM)]


def peers() -> list[Peer]:
    """All that dte is compared with."""
    return [
        Peer("Ray", "ray", "with_ray", ["tree", "batches", "chain"]),
        Peer("Dask", "distributed", "with_dask", ["tree", "batches", "chain"]),
        Peer("Celery", "celery", "with_celery", ["batches", "chain"], "redis-server"),
    ]


def version(distribution: str) -> str:
    """The version that is installed; empty when none is."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
