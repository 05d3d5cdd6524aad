"""The number of CPUs by the quotas of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dte.worker.cpus import cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def found(folder: Path, own: str, files: dict[str, str]) -> int:
    """The CPUs of a process in these control groups, with these files below /sys/fs/cgroup."""
    for name, text in files.items():
        file = folder / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "own").write_text(own)
    return cpus(folder / "cgroup", folder / "own")


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("50000", 1), ("100000", 1), ("150000", 2), ("300000", 3), ("max", 8), ("9000000", 8)],
)
def test_the_quota_of_version_2_counts(tmp_path: Path, quota: str, expected: int) -> None:
    assert found(tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000\n"}) == expected


def test_the_smallest_quota_of_the_groups_above_counts(tmp_path: Path) -> None:
    files = {
        "system.slice/cpu.max": "200000 100000\n",
        "system.slice/dte-worker.service/cpu.max": "max 100000\n",
    }
    assert found(tmp_path, "0::/system.slice/dte-worker.service\n", files) == 2


@pytest.mark.parametrize("folder", ["cpu,cpuacct/docker/1234/", "cpu,cpuacct/", "cpu/"])
@pytest.mark.parametrize(("quota", "expected"), [("50000", 1), ("250000", 3), ("-1", 8)])
def test_the_quota_of_version_1_counts(
    tmp_path: Path, folder: str, quota: str, expected: int
) -> None:
    files = {f"{folder}cpu.cfs_quota_us": quota, f"{folder}cpu.cfs_period_us": "100000"}
    own = "3:memory:/docker/1234\n2:cpu,cpuacct:/docker/1234\n"
    assert found(tmp_path, own, files) == expected


@pytest.mark.parametrize("own", ["", "0::/gone\n", "rubbish\n", "2:cpu:/gone\n"])
def test_without_quotas_the_affinity_counts(tmp_path: Path, own: str) -> None:
    assert found(tmp_path, own, {"cpu.max": "nonsense"}) == 8
    assert cpus(tmp_path / "none", tmp_path / "none") == 8
