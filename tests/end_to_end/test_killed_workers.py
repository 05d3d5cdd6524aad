"""Workers that are killed: the list and `why` show it long before they count as gone."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.processes import until

from end_to_end.conftest import StartCluster

SOON_S = 8.0
"""Far less than the silence after which a worker is gone, on a machine with much to do."""
SILENCE = {"DTE_DEAD_AFTER_S": "60", "DTE_LEASE_S": "60"}
TRUE = ("unreachable", "gone")
HANDLERS = """
import time
from pathlib import Path
import dte

@dte.handler("long")
def long():
    Path("begun").touch()
    time.sleep(50)
"""


def state(cluster: Cluster, name: str) -> str:
    return str(cluster.client.workers()[name]["state"])


def why(cluster: Cluster, job: int) -> str:
    (reason,) = cluster.client.get(f"/job/{job}/why")["reasons"]
    return str(reason["text"])


def kill(cluster: Cluster, name: str) -> float:
    cluster.workers[name].end(signal.SIGKILL)
    return time.monotonic()


def check_shown(cluster: Cluster, name: str, killed_at: float) -> None:
    until(lambda: state(cluster, name) in TRUE, "its state is true")
    assert time.monotonic() - killed_at < SOON_S


@pytest.mark.parametrize("options", [(), ("--pull",)], ids=["called", "pulls"])
def test_an_idle_worker_that_was_killed_is_not_free(
    start_cluster: StartCluster, options: tuple[str, ...]
) -> None:
    cluster = start_cluster(1, options=options, **SILENCE)
    assert cluster.client.compute("1+2") == 3
    until(lambda: state(cluster, "worker-1") == "free", "it is idle")
    check_shown(cluster, "worker-1", kill(cluster, "worker-1"))
    job = cluster.client.value("POST", "/jobs", {"handler": "echo", "args": [1]})["job_id"]
    assert "worker-1" in why(cluster, job)
    cluster.workers["worker-1"].start()
    assert cluster.client.finished(job)["answer"] == 1
    assert state(cluster, "worker-1") in ("free", "busy")


def test_a_worker_that_was_killed_before_it_got_any_work_is_not_free(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(1, DTE_HEARTBEAT_S="1", **SILENCE)
    check_shown(cluster, "worker-1", kill(cluster, "worker-1"))


def test_a_worker_that_was_killed_with_a_call_is_not_busy_and_why_says_so(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(1, options=("--handlers", "mine", "--slots", "1"), **SILENCE)
    job = cluster.client.value("POST", "/jobs", {"handler": "long"})["job_id"]
    # A call that is busy for the master alone, because no worker has got it, would be given back.
    until((tmp_path / "begun").exists, "it runs the call")
    assert state(cluster, "worker-1") == "busy"
    check_shown(cluster, "worker-1", kill(cluster, "worker-1"))
    assert "calls to worker worker-1 at" in why(cluster, job)
    assert "running on worker worker-1" in why(cluster, job)


def test_a_worker_that_pulls_and_was_killed_with_all_of_its_slots_busy_is_not_busy(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """It has no claim open: what closes is the connection on which it claimed."""
    (tmp_path / "mine.py").write_text(HANDLERS)
    options = ("--handlers", "mine", "--slots", "1", "--pull")
    cluster = start_cluster(1, options=options, DTE_DEAD_AFTER_S="600", DTE_LEASE_S="6")
    cluster.client.value("POST", "/jobs", {"handler": "long"})
    until((tmp_path / "begun").exists, "it runs the call")
    kill(cluster, "worker-1")
    until(lambda: state(cluster, "worker-1") == "unreachable", "its state is true")
