"""Workers whose processes cannot start: their calls go elsewhere, and everybody learns why."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.machine import children
from harness.processes import until

from end_to_end.conftest import StartCluster

GOOD = """import dte


@dte.handler("nap")
def nap():
    return "rested"
"""
BROKEN = """import dte

raise RuntimeError("no GPU left")
"""
REASON = "RuntimeError: no GPU left (mine.py, line 3)"


def state_of(cluster: Cluster, name: str) -> str:
    return str(cluster.client.workers()[name]["state"])


def why(cluster: Cluster, job: int) -> list[str]:
    return [reason["text"] for reason in cluster.client.get(f"/job/{job}/why")["reasons"]]


def nap(cluster: Cluster) -> int:
    return int(cluster.client.value("POST", "/jobs", {"handler": "nap", "args": []})["job_id"])


@pytest.mark.parametrize("way", [(), ("--pull",)], ids=["push", "pull"])
def test_a_module_that_breaks_meanwhile_is_a_reason_and_its_calls_go_elsewhere(
    start_cluster: StartCluster, way: tuple[str, ...]
) -> None:
    cluster = start_cluster(0)
    module: Path = cluster.folder / "mine.py"
    module.write_text(GOOD)
    options = ("--handlers", "mine", "--slots", "2", *way)
    cluster.start_worker("broken", *options)
    cluster.until_announced(1)
    module.write_text(BROKEN)
    jobs = [nap(cluster) for _ in range(6)]
    until(lambda: state_of(cluster, "broken") == "failing", "the worker is failing")
    assert cluster.client.workers()["broken"]["failing"] == REASON
    # The calls that it had may come back after the announcement that says why.
    text = f"worker broken cannot start processes for handlers: {REASON}"
    until(lambda: why(cluster, jobs[0]) == [text], "why says so")
    assert len(children(cluster.workers["broken"].pid)) <= 1 + 2, "two slots and a tracker"
    assert cluster.client.compute("1+2") == 3, "it still does arithmetic"

    module.write_text(GOOD)
    cluster.start_worker("good", *options)
    for job in jobs:
        assert cluster.client.finished(job)["answer"] == "rested"
        (node,) = cluster.client.get(f"/job/{job}/nodes")
        assert node["attempts"] == 1
    until(lambda: state_of(cluster, "broken") == "free", "its processes start again")
    assert "failing" not in cluster.client.workers()["broken"]
