"""A master that is ended or killed goes on, in the next start, from what its journal knows."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.cluster import Cluster
from harness.machine import connections
from harness.processes import Processes, until

import dte
from dte.master.journal.journal import Journal
from end_to_end.conftest import StartCluster
from end_to_end.test_failures import ANSWER, NUMBERS, SUM

both_ends = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)

LONG, LONG_ANSWER = "+".join(map(str, range(5_000))), 12_497_500
"""A formula that is longer than what is kept of a text in memory."""
TASKS = [
    "1+(2*3)/4-5",
    "42",
    "-7",
    "0.1+0.2",
    "1e-320",
    "0*(0-1.5)",
    "9" * 4_300,
    f"0-{'9' * 4_300}",
    f"({'9' * 2_150})*({'9' * 2_150})",
    "1/3*1e308",
    "1/0",
    "1e308*10",
    "2\n×\t3 ÷ 4",
    LONG,
    "(1+2)*(3+4)*(5+6)*(7-8)/9",
]


@pytest.fixture
def beside() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a function in a thread: ``beside(function, argument)``."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


def snapshot(cluster: Cluster, last: int) -> dict[str, str]:
    """All replies about the jobs up to a number, as text: 0.0 is not 0."""
    paths = [f"/job/{number}" for number in range(1, min(last, len(TASKS)) + 1)]
    paths += ["/jobs", f"/jobs?ids=1-{last}", f"/jobs?ids={last},1,{last // 2}-{last},2-3,1"]
    return {path: json.dumps(cluster.client.get(path)) for path in paths}


def submit_all(cluster: Cluster, tasks: list[str]) -> list[int]:
    return list(cluster.client.value("POST", "/submit", {"tasks": tasks})["job_ids"])


def all_finished(cluster: Cluster, last: int) -> list[dict[str, Any]]:
    """The jobs up to a number, when all have ended."""
    jobs = cluster.client.get(f"/jobs?ids=1-{last}&wait=20")
    assert all(job["finished"] for job in jobs)
    return list(jobs)


# What has ended


@both_ends
@pytest.mark.parametrize("kept", ["5", "100000"])
def test_jobs_that_have_ended_are_answered_as_before_field_by_field(
    start_cluster: StartCluster, end: signal.Signals, kept: str
) -> None:
    """Also those that are only in the journal, and the times to the microsecond."""
    cluster = start_cluster(DTE_JOBS_KEPT=kept)
    jobs = [cluster.client.submit(task) for task in TASKS]
    jobs += submit_all(cluster, [*TASKS, *(f"{number}/7+1" for number in range(120))])
    all_finished(cluster, jobs[-1])
    before = snapshot(cluster, jobs[-1])
    assert len(json.loads(before["/jobs"])) == min(100, int(kept))
    assert '"answer": -0.0' in before["/job/6"]
    cluster.restart_master(end)
    assert snapshot(cluster, jobs[-1]) == before
    assert cluster.client.submit("1+1") == jobs[-1] + 1, "ids go on"


@both_ends
def test_times_do_not_drift_from_start_to_start(
    start_cluster: StartCluster, end: signal.Signals
) -> None:
    """Each start has another difference between its clocks."""
    cluster = start_cluster(workers=1)
    jobs = submit_all(cluster, [f"{number}+0.5" for number in range(2_000)])
    before = all_finished(cluster, jobs[-1])
    for _ in range(3):
        cluster.restart_master(end)
        assert cluster.client.get(f"/jobs?ids=1-{jobs[-1]}") == before


def test_without_a_journal_all_is_forgotten(start_cluster: StartCluster) -> None:
    cluster = start_cluster(workers=1, DTE_JOURNAL="none")
    assert cluster.client.compute("1+2") == 3
    cluster.client.submit("1+2")
    cluster.restart_master()
    assert cluster.client.get("/jobs") == []
    assert cluster.client.ask("GET", "/job/1").status == 404
    assert cluster.client.submit("1+2") == 1
    assert not list(cluster.folder.glob("*.db*"))


# What has not ended


@both_ends
def test_jobs_that_have_not_ended_are_computed_after_the_restart(
    start_cluster: StartCluster, end: signal.Signals
) -> None:
    cluster = start_cluster(workers=0)
    jobs = [cluster.client.submit(task) for task in ("1+2", LONG, "6*7", "1/0")]
    jobs += submit_all(cluster, ["2*3", "8", LONG, "1.5-1-1"])
    before = snapshot(cluster, jobs[-1])
    waiting = cluster.client.get("/health")["operations_waiting"]
    listed = json.loads(before["/jobs"])
    assert any(job["task"].endswith("…") for job in listed)
    cluster.restart_master(end)
    assert snapshot(cluster, jobs[-1]) == before
    until(
        lambda: cluster.client.get("/health")["operations_waiting"] == waiting,
        "as many operations wait as before",
    )
    cluster.start_worker("worker-1")
    found = [cluster.client.finished(job) for job in jobs]
    assert [job["answer"] for job in found] == [3, LONG_ANSWER, 42, None, 6, 8, LONG_ANSWER, -0.5]
    assert found[3]["error"] == "division by zero: 1 / 0"
    texts = [job["task"] for job in cluster.client.get("/jobs")]
    assert texts == [job["task"] for job in listed]
    waited = json.loads(before[f"/jobs?ids=1-{jobs[-1]}"])
    for field in ("job_id", "submitted_at", "operations"):
        assert [job[field] for job in found] == [job[field] for job in waited]


@both_ends
def test_a_submission_that_is_repeated_after_the_restart_is_known_by_its_key(
    start_cluster: StartCluster, end: signal.Signals
) -> None:
    cluster = start_cluster(workers=0)
    bodies: list[dict[str, Any]] = [{"task": "1+2"}, {"task": "42"}, {"tasks": ["3*4", LONG, "5"]}]
    first = [submit_with_key(cluster, body) for body in bodies]
    cluster.restart_master(end)
    assert [submit_with_key(cluster, body) for body in bodies] == first
    assert len(cluster.client.get("/jobs")) == 5
    cluster.start_worker("worker-1")
    all_finished(cluster, 5)
    assert submit_with_key(cluster, bodies[0]) == {"job_id": 1, "finished": True}


def submit_with_key(cluster: Cluster, body: dict[str, Any]) -> Any:
    """Submit under a key that is always the same for a body."""
    key = str(list(body.values()))[:50]
    return cluster.client.value("POST", "/submit", body, Idempotency_Key=key)


@both_ends
def test_a_long_formula_in_the_middle_of_being_computed_is_computed(
    start_cluster: StartCluster, end: signal.Signals
) -> None:
    cluster = start_cluster()

    def under_way() -> dict[str, Any] | None:
        job = cluster.client.get(f"/job/{cluster.client.submit(SUM)}")
        workers = cluster.client.workers().values()
        begun = job["started_at"] and all(worker["operations_done"] for worker in workers)
        return job if begun and not job["finished"] else None

    before = until(under_way, "both workers have computed, and a job is under way")
    job = before["job_id"]
    cluster.restart_master(end)
    until(lambda: len(cluster.client.workers()) == 2, "both workers are announced again")
    found = cluster.client.finished(job)
    assert (found["answer"], found["operations_done"]) == (ANSWER, NUMBERS - 1)
    assert found["submitted_at"] == before["submitted_at"]
    assert found["started_at"] > before["started_at"], "it has begun again"
    assert cluster.client.compute("1+(2*3)/4-5") == -2.5


def test_jobs_survive_one_kill_after_the_other(start_cluster: StartCluster) -> None:
    cluster = start_cluster(workers=0)
    # A master that dies before it has connected to a worker is missed at the next heartbeat.
    cluster.start_worker("worker-1", "--heartbeat-s", "0.1")
    jobs: list[int] = []
    for start in range(4):
        jobs += submit_all(cluster, [f"({start}+1)*{number}/3" for number in range(50)])
        cluster.restart_master(signal.SIGKILL)
    assert jobs == list(range(1, 201))
    answers = [job["answer"] for job in all_finished(cluster, 200)]
    assert answers == [(start + 1) * number / 3 for start in range(4) for number in range(50)]


def test_a_result_of_a_lease_from_before_the_restart_means_nothing(
    start_cluster: StartCluster,
) -> None:
    """The worker was stopped with it, and goes on when another master is there."""
    cluster = start_cluster(workers=1)
    cluster.workers["worker-1"].send(signal.SIGSTOP)
    job = cluster.client.submit("6*7")
    until(lambda: cluster.client.workers()["worker-1"]["leases"], "it is handed over")
    cluster.restart_master(signal.SIGKILL)
    cluster.start_worker("worker-2")
    found = cluster.client.finished(job)
    cluster.workers["worker-1"].send(signal.SIGCONT)
    until(lambda: len(cluster.client.workers()) == 2, "it is announced again")
    assert found["answer"] == 42
    assert cluster.client.get(f"/job/{job}") == found
    assert cluster.client.compute(SUM) == ANSWER


# Clients that wait


def test_requests_that_clients_hold_survive_the_death_of_the_master(
    start_cluster: StartCluster, beside: Callable[..., Future[Any]]
) -> None:
    cluster = start_cluster(workers=0)
    waited_for = cluster.client.submit("6*7")

    async def compute_all() -> list[Any]:
        async with dte.AsyncClient(cluster.url) as client:
            await client.jobs()
            computing = [client.compute(f"{number}*2+1") for number in range(3)]
            return list(await asyncio.gather(*computing, client.map(["1+2", "5"])))

    with dte.Client(cluster.url) as client:
        client.jobs()
        waiting = beside(client.wait, waited_for)
        computing = beside(client.compute, "2*3+4")
        mapping = beside(client.map, ["3/4", "9", "1-2"])
        at_once = beside(asyncio.run, compute_all())
        until(lambda: len(cluster.client.get("/jobs")) == 10, "all is submitted")
        until(lambda: connections(cluster.port) >= 7, "all is held")
        cluster.restart_master(signal.SIGKILL)
        cluster.start_worker("worker-1")
        assert waiting.result(30).answer == 42
        assert computing.result(30) == 10
        assert mapping.result(30) == [0.75, 9, -1]
        assert at_once.result(30) == [1, 3, 5, [3, 5]]
    assert len(cluster.client.get("/jobs")) == 10, "nothing was accepted twice"


def test_a_client_that_submits_while_the_master_is_away_is_served_when_it_is_back(
    start_cluster: StartCluster, beside: Callable[..., Future[Any]]
) -> None:
    cluster = start_cluster(workers=1)
    with dte.Client(cluster.url) as client:
        assert client.compute("1+1") == 2
        cluster.master.end(signal.SIGKILL)
        computing = [beside(client.compute, f"{number}+1") for number in range(4)]
        cluster.start_master()
        assert [future.result(30) for future in computing] == [1, 2, 3, 4]
    assert len(cluster.client.get("/jobs")) == 5


# Ending with grace


def held_by_a_stopped_worker(cluster: Cluster) -> int:
    """A job whose operation is with a worker that is stopped."""
    cluster.workers["worker-1"].send(signal.SIGSTOP)
    job = cluster.client.submit("6*7")
    until(lambda: cluster.client.workers()["worker-1"]["leases"], "it is handed over")
    return job


def says_that_it_ends(cluster: Cluster) -> bool:
    return "the master ends" in cluster.master.output


def test_sigterm_lets_operations_end_and_their_answers_be_heard(
    start_cluster: StartCluster, beside: Callable[..., Future[Any]]
) -> None:
    cluster = start_cluster(workers=1, DTE_GRACE_S="30")
    job = held_by_a_stopped_worker(cluster)
    held = beside(cluster.client.get, f"/job/{job}?wait=60")
    until(lambda: connections(cluster.port), "it is held")
    cluster.master.send(signal.SIGTERM)
    until(lambda: says_that_it_ends(cluster), "the master ends")
    cluster.workers["worker-1"].send(signal.SIGCONT)
    assert held.result(30)["answer"] == 42
    assert cluster.master.exit_code() == 0
    cluster.start_master()
    assert cluster.client.get(f"/job/{job}")["answer"] == 42


def test_when_the_grace_is_over_the_master_ends_and_the_job_goes_on_after_the_next_start(
    start_cluster: StartCluster, beside: Callable[..., Future[Any]]
) -> None:
    cluster = start_cluster(workers=1, DTE_GRACE_S="0.2")
    job = held_by_a_stopped_worker(cluster)
    held = beside(cluster.client.get, f"/job/{job}?wait=60")
    until(lambda: connections(cluster.port), "it is held")
    assert cluster.master.end() == 0
    assert not held.result(30)["finished"]
    cluster.start_master()
    cluster.workers["worker-1"].send(signal.SIGCONT)
    assert cluster.client.finished(job)["answer"] == 42


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_second_signal_ends_the_master_at_once_and_loses_nothing(
    start_cluster: StartCluster, second: signal.Signals
) -> None:
    cluster = start_cluster(workers=1, DTE_GRACE_S="60")
    ended = cluster.client.submit("42")
    job = held_by_a_stopped_worker(cluster)
    cluster.master.send(signal.SIGTERM)
    until(lambda: says_that_it_ends(cluster), "the master ends")
    assert cluster.master.hurry(second) == 128 + second
    cluster.start_master()
    cluster.workers["worker-1"].send(signal.SIGCONT)
    assert cluster.client.finished(job)["answer"] == 42
    assert cluster.client.get(f"/job/{ended}")["answer"] == 42


# Many


MANY = 20_000
FIRST_ANSWER_MAX_S = 15.0
"""What a slow machine needs for many times as many."""


def journal_with(path: Path, count: int) -> None:
    """A journal with a number of waiting jobs: number N is ``(N+1)*2/4-N``."""
    Journal(str(path)).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "WITH RECURSIVE jobs (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM jobs WHERE n < ?) "
            "INSERT INTO waiting (number, submitted_at, operations, task) "
            "SELECT n, 1.7e9 + n, 4, '(' || n || '+1)*2/4-' || n FROM jobs",
            (count,),
        )
        db.commit()


def test_a_master_with_many_jobs_answers_soon_after_its_start_and_all_the_time(
    start_cluster: StartCluster, processes: Processes
) -> None:
    journal = processes.folder / "journal.db"
    journal_with(journal, MANY)
    started_at = time.monotonic()
    cluster = start_cluster(workers=0)
    health = cluster.client.get("/health")
    assert time.monotonic() - started_at < FIRST_ANSWER_MAX_S
    assert (health["status"], health["jobs_waiting"]) == ("ok", MANY)
    assert cluster.client.get("/jobs")[0]["task"] == f"({MANY}+1)*2/4-{MANY}"
    cluster.start_worker("worker-1")
    ids = f"1,{MANY // 2},{MANY}"
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(cluster.client.get, f"/jobs?ids={ids}&wait=30")
        while not ended.done():
            assert cluster.client.get("/health")["status"] == "ok"
    assert [job["answer"] for job in ended.result()] == [
        (number + 1) * 2 / 4 - number for number in (1, MANY // 2, MANY)
    ]
    assert ended.result()[0]["submitted_at"] == "2023-11-14T22:13:21Z"
    assert cluster.client.submit("1") == MANY + 1
