"""Results that a worker keeps on disk while the master is away, and a wall clock that is set."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.processes import until
from harness.wall_clock import WallClock

from end_to_end.conftest import StartCluster

DAY_S = 86_400.0
HANDLERS = """
import time
from pathlib import Path
import dte

@dte.handler("once", retries=0)
def once():
    with open("begun", "a") as file:
        print("begun", file=file)
    while not Path("end").exists():
        time.sleep(0.01)
    return "finished"
"""
AWAY = "cannot report results"


@pytest.mark.parametrize("way", [(), ("--pull",)], ids=["push", "pull"])
@pytest.mark.parametrize("step_s", [9 * DAY_S, -9 * DAY_S], ids=["ahead", "back"])
def test_a_result_in_the_spool_outlives_a_step_of_the_clock(
    start_cluster: StartCluster, tmp_path: Path, step_s: float, way: tuple[str, ...]
) -> None:
    """The worker is started anew after the step, while the master is still away."""
    (tmp_path / "mine.py").write_text(HANDLERS)
    clock, spool = WallClock(tmp_path), tmp_path / "spool"
    cluster: Cluster = start_cluster(0, **clock.settings)
    worker = cluster.processes.start_worker(
        cluster.port,
        "worker-1",
        *("--handlers", "mine", "--slots", "1", "--spool", str(spool), *way),
        **clock.settings,
    )
    posted = cluster.client.value("POST", "/jobs", {"handler": "once", "args": []})
    until((tmp_path / "begun").exists, "the call is begun")
    cluster.master.end(signal.SIGKILL)
    (tmp_path / "end").touch()
    until(lambda: list(spool.glob("*.json")), "the result is in the spool")
    worker.kill()
    clock.set(step_s)
    worker.start()
    until(lambda: AWAY in worker.output, "the worker has tried to report it")
    assert len(list(spool.glob("*.json"))) == 1, worker.output
    cluster.start_master()
    assert cluster.client.finished(posted["job_id"])["answer"] == "finished"
    assert (tmp_path / "begun").read_text().splitlines() == ["begun"]
    until(lambda: not list(spool.glob("*.json")), "the result is no longer kept")
