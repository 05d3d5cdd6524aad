"""Workers and masters that die, fall silent and come back: the answer is right all the same."""

from __future__ import annotations

import signal

from harness.cluster import Cluster
from harness.processes import until
from harness.workloads import balanced_sum

from end_to_end.conftest import StartCluster

NUMBERS = 200_000


SUM = balanced_sum(1, NUMBERS + 1)
ANSWER = NUMBERS * (NUMBERS + 1) // 2


def stop_with_a_lease(cluster: Cluster, name: str) -> int:
    """Submit the long sum, and stop a worker that has computed and holds more; give the job."""
    job = cluster.client.submit(SUM)
    until(lambda: cluster.client.workers()[name]["operations_done"], f"{name} computes")
    cluster.workers[name].send(signal.SIGSTOP)
    until(lambda: cluster.client.workers()[name]["leases"], f"{name} holds operations")
    assert not cluster.client.get(f"/job/{job}")["finished"]
    return job


def test_a_worker_killed_in_the_middle_of_a_long_formula_loses_nothing(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    job = stop_with_a_lease(cluster, "worker-1")
    cluster.workers["worker-1"].end(signal.SIGKILL)
    found = cluster.client.finished(job)
    assert (found["answer"], found["operations"]) == (ANSWER, NUMBERS - 1)
    assert found["operations_done"] == NUMBERS - 1
    assert cluster.client.workers()["worker-1"]["failures"]


def test_jobs_under_way_survive_the_death_of_a_worker(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    jobs = [cluster.client.submit(f"({n}+1)*({n}-1)/2") for n in range(300)]
    cluster.workers["worker-2"].end(signal.SIGKILL)
    jobs += [cluster.client.submit(f"({n}+1)*({n}-1)/2") for n in range(300, 350)]
    answers = [cluster.client.finished(job)["answer"] for job in jobs]
    assert answers == [(n + 1) * (n - 1) / 2 for n in range(350)]


def test_a_worker_that_falls_silent_loses_its_operations_and_may_come_back(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(DTE_LEASE_S="0.3")
    job = stop_with_a_lease(cluster, "worker-1")
    found = cluster.client.finished(job)
    assert (found["answer"], found["operations_done"]) == (ANSWER, NUMBERS - 1)
    silent = cluster.client.workers()["worker-1"]
    assert "silent for 0.3 s" in silent["last_failure"]

    cluster.workers["worker-1"].send(signal.SIGCONT)
    until(lambda: cluster.client.workers()["worker-1"]["state"] == "free", "it is free again")
    # What it still had to say is counted and has changed nothing, and it takes part as before.
    until(lambda: cluster.client.get("/health")["stale_results"], "late results are counted")
    assert cluster.client.get(f"/job/{job}") == found
    before = cluster.client.workers()["worker-1"]["operations_done"]
    assert cluster.client.compute(SUM) == ANSWER
    assert cluster.client.workers()["worker-1"]["operations_done"] > before


def test_a_formula_waits_for_the_first_worker(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    for worker in cluster.workers.values():
        assert worker.end() == 0
    job = cluster.client.submit("6*7")
    assert not cluster.client.get(f"/job/{job}")["finished"]
    cluster.start_worker("worker-3")
    assert cluster.client.finished(job)["answer"] == 42


def test_workers_come_back_by_themselves_to_a_master_that_was_restarted(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    assert cluster.client.compute(SUM) == ANSWER
    assert all(worker["operations_done"] for worker in cluster.client.workers().values())
    cluster.restart_master()
    until(lambda: len(cluster.client.workers()) == 2, "both workers are announced again")
    assert cluster.client.compute("1+(2*3)/4-5") == -2.5


def test_workers_come_back_to_a_master_that_was_killed_while_they_computed(
    start_cluster: StartCluster,
) -> None:
    """Without a journal the job is forgotten, and what they bring back belongs to nothing."""
    cluster = start_cluster(DTE_JOURNAL="none")
    cluster.client.submit(SUM)
    until(
        lambda: all(worker["operations_done"] for worker in cluster.client.workers().values()),
        "both workers compute",
    )
    cluster.restart_master(signal.SIGKILL)
    until(lambda: len(cluster.client.workers()) == 2, "both workers are announced again")
    assert cluster.client.compute("1+(2*3)/4-5") == -2.5
