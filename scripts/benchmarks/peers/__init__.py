"""Other systems, which do the same operations if they are installed.

The program of each is run once, in a process of its own, which starts all that the system needs and
ends it, and gives each figure as soon as it has it (`measuring`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from threading import Timer

from figures import Row, latency, rate
from harness.processes import TESTS, environment
from processes import FOLDER

from peers.measuring import JOBS, TREE_OPERATIONS

STOP_TIMEOUT_S = 10.0
TIME_MAX_S = 75.0
"""What takes longer is ended; figures that are there by then count."""
INSTALL = "not installed: scripts/setup bench"
ENVIRONMENT = {
    "PYTHONPATH": f"{FOLDER}{os.pathsep}{TESTS}",
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
        workloads: the ones that it does.
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
        process = subprocess.Popen(
            [sys.executable, "-m", f"peers.{self.program}", *workloads],
            env=environment(**ENVIRONMENT),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        timer = Timer(TIME_MAX_S, end, [process])
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    with suppress(ValueError):  # It may print other things as well.
                        name, figures = json.loads(line)
                        self.found[name] = figures
        finally:
            timer.cancel()
            end(process)

    def rows(self, workload: str, ours: Row) -> list[Row]:
        """Its figures, and dte's in comparison."""
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


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and make it after some seconds, with all of its group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
