"""The number of CPUs that this process may use: by its affinity, and by its control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

SLOTS_MAX = 64
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cpus(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """Return the number of CPUs, at least 1. A part of a CPU counts as one."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # Not every system has it.
        found = os.cpu_count() or 1
    quotas = [ceil(each) for each in _quotas(cgroups, own_cgroup)]
    return max(1, min(found, SLOTS_MAX, *quotas))


def _quotas(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    """Yield the quotas of the control groups that this process is in, in CPUs."""
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:  # Not every system has control groups.
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # Version 2.
            for folder in _upwards(cgroups, path):
                with suppress(OSError, ValueError):
                    quota, period = (folder / "cpu.max").read_text().split()
                    yield int(quota) / int(period)  # It may be "max".
        elif "cpu" in controllers.split(","):
            for folder in _upwards(cgroups / controllers, path, cgroups / "cpu"):
                with suppress(OSError, ValueError):
                    quota_us = int((folder / "cpu.cfs_quota_us").read_text())
                    period_us = int((folder / "cpu.cfs_period_us").read_text())
                    if quota_us > 0:  # -1 is no quota.
                        yield quota_us / period_us


def _upwards(root: Path, path: str, *more: Path) -> Iterator[Path]:
    """Yield the folder of a control group and those above it, up to the root.

    In a container the path may be that of the host, and only the root exists.
    """
    for each in (root, *more):
        folder = each / path.lstrip("/")
        while folder != each:
            yield folder
            folder = folder.parent
        yield each
