"""A master that starts with a clock that is ten years off loses nothing of its history."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.processes import Processes, until
from harness.wall_clock import WallClock

YEAR_S = 366 * 86_400.0
JOBS = 20


@pytest.mark.parametrize("offset_s", [10 * YEAR_S, -10 * YEAR_S], ids=["ahead", "behind"])
def test_nothing_is_deleted_at_once_and_the_log_names_the_clock(
    processes: Processes, tmp_path: Path, offset_s: float
) -> None:
    clock = WallClock(tmp_path)
    cluster = Cluster(processes, 1, **clock.settings)
    ids = [cluster.client.submit(f"{number}+1") for number in range(JOBS)]
    for number in ids:
        cluster.client.finished(number)
    clock.set(offset_s)
    cluster.restart_master()
    assert cluster.client.compute("1+1") == 2
    answers = [cluster.client.finished(number)["answer"] for number in ids]
    assert answers == [number + 1 for number in range(JOBS)]
    until(lambda: "of the clock" in cluster.master.output, "the log names the clock")
