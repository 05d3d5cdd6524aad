"""A master that is paused, as by ``docker pause`` or while its machine is moved."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.processes import until

from end_to_end.conftest import StartCluster

LEASE_S = 2.0
SETTINGS = {"DTE_LEASE_S": "2", "DTE_HEARTBEAT_S": "1", "DTE_DEAD_AFTER_S": "2"}
CALLS = 6
HANDLERS = """
import time
from pathlib import Path
import dte

@dte.handler("effect", retries=5)
def effect(number: int) -> int:
    with open("begun", "a") as begun:
        begun.write(f"{number}\\n")
    while not Path("go").exists():
        time.sleep(0.02)
    return number
"""


def begun(folder: Path) -> Counter[str]:
    """How often each call was begun, by its number."""
    marks = folder / "begun"
    return Counter(marks.read_text().split()) if marks.exists() else Counter()


def pause(cluster: Cluster, pauses_s: Sequence[float]) -> None:
    for pause_s in pauses_s:
        cluster.master.send(signal.SIGSTOP)
        time.sleep(pause_s)
        cluster.master.send(signal.SIGCONT)
        time.sleep(0.05)


@pytest.mark.parametrize("pauses_s", [(3 * LEASE_S,), (0.8 * LEASE_S,) * 4], ids=["long", "often"])
def test_a_pause_of_the_master_is_no_fault_of_workers(
    start_cluster: StartCluster, tmp_path: Path, pauses_s: Sequence[float]
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    handlers = ("--handlers", "mine", "--slots", "2")
    cluster = start_cluster(2, options=handlers, **SETTINGS)
    cluster.start_worker("puller", *handlers, "--pull")
    cluster.until_announced(3)
    jobs = [
        cluster.client.value("POST", "/jobs", {"handler": "effect", "args": [number]})["job_id"]
        for number in range(CALLS)
    ]
    until(lambda: len(begun(tmp_path)) == CALLS, "all calls are begun")
    sums = cluster.client.submit("+".join(map(str, range(20_000))))
    pause(cluster, pauses_s)
    assert cluster.client.finished(sums)["answer"] == sum(range(20_000))
    # All that could be taken for silence shows now, if it was.
    time.sleep(LEASE_S)
    workers = cluster.client.workers()
    assert {worker["state"] for worker in workers.values()} <= {"free", "busy"}, workers
    (tmp_path / "go").touch()
    assert [cluster.client.finished(job)["answer"] for job in jobs] == list(range(CALLS))
    assert set(begun(tmp_path).values()) == {1}
    nodes = [cluster.client.get(f"/job/{job}/nodes")[0] for job in jobs]
    assert {node["attempts"] for node in nodes} == {1}
    assert cluster.client.get("/health")["stale_results"] == 0


def test_a_worker_that_ended_during_a_pause_is_missed_after_it(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(1, options=("--handlers", "mine"), **SETTINGS)
    job = cluster.client.value("POST", "/jobs", {"handler": "effect", "args": [1]})["job_id"]
    until(lambda: begun(tmp_path)["1"], "it is begun")
    cluster.master.send(signal.SIGSTOP)
    cluster.workers["worker-1"].end(signal.SIGKILL)
    time.sleep(2 * LEASE_S)
    cluster.master.send(signal.SIGCONT)
    cluster.start_worker("worker-2", "--handlers", "mine")
    until(lambda: begun(tmp_path)["1"] == 2, "the other begins it")
    (tmp_path / "go").touch()
    assert cluster.client.finished(job)["answer"] == 1
