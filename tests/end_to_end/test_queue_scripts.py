"""The scripts of the queue: its client, and what starts its dispatcher and its workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import processes
from harness.cluster import Cluster
from harness.master_thread import MasterThread
from harness.processes import until

from end_to_end.conftest import StartCluster

SCRIPTS = Path(__file__).parents[2] / "scripts"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def add_task(tmp_path: Path) -> Run:
    """Runs the client in an empty folder."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        script = str(SCRIPTS / "add_task.py")
        return processes.run(sys.executable, script, *arguments, folder=tmp_path, **settings)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Run:
    """Runs a script that starts something, with a `dte` that only says what it is told."""
    root = tmp_path / "a folder"
    shutil.copytree(SCRIPTS, root / "scripts", ignore=lambda *_: ["setup", "benchmarks"])
    said = 'echo "$@ $CACHE_DIR $DTE_WORKER_PORT"'
    for name, text in (("scripts/setup", "true"), (".venv/bin/dte", said)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return processes.run(str(root / "scripts" / script), *arguments, folder=root, **settings)

    return run


def test_the_tasks_that_it_submits_are_done_by_the_workers(
    add_task: Run, start_cluster: StartCluster
) -> None:
    cluster: Cluster = start_cluster(workers=1)
    done = add_task("2", "100", "trial_division", WORKER_DISPATCHER_URL=cluster.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "submitted task 1: id=1" in done.stdout
    assert "submitted task 2: id=2" in done.stdout
    for number in (1, 2):
        until(
            lambda number=number: task(cluster, number)["status"] == "completed",  # type: ignore[misc]
            "the task is completed",
        )
        found = task(cluster, number)
        assert (len(found["primes"]), found["method"]) == (25, "trial_division")
        assert (found["task_type"], found["assigned_to"]) == ("compute", "worker-1")


def task(cluster: Cluster, number: int) -> dict[str, object]:
    return dict(cluster.client.get(f"/task/{number}")["data"])


def test_it_takes_its_settings_from_a_file(add_task: Run, tmp_path: Path) -> None:
    with MasterThread() as master:
        text = (
            f"WORKER_DISPATCHER_URL={master.url}   # here\nPRIMES_DEFAULT_METHOD=trial_division\n"
        )
        (tmp_path / ".env").write_text(text)
        done = add_task("1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "limit 100000, method trial_division" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "COUNT"),
        (["0"], 2, "'0' is not a whole number"),
        (["1", "many"], 2, "'many' is not a whole number"),
        (["1", "10", "guess"], 2, "trial_division"),
        (["1", "10", "--dispatcher", "localhost"], 2, "is not a URL like http://localhost:5000"),
        (["1", "10", "--dispatcher", "http://127.0.0.1:1"], 3, "scripts/start_dispatcher.sh"),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(
    add_task: Run, arguments: list[str], code: int, words: str
) -> None:
    done = add_task(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_why_a_master_refuses(add_task: Run) -> None:
    with MasterThread(jobs_waiting_max=1) as master:
        done = add_task("2", "10", "--dispatcher", master.url)
    assert done.returncode == 3
    assert "jobs_waiting_max" in done.stderr
    assert "try again in 1 s" in done.stderr
    assert "submitted 1 of 2 tasks" in done.stderr


@pytest.mark.parametrize("script", ["start_dispatcher.sh", "start_worker.sh"])
def test_the_names_of_the_queues_settings_are_taken(
    start: Run, tmp_path: Path, script: str
) -> None:
    (tmp_path / "a folder" / ".venv" / "bin" / "dte").write_text(
        "#!/bin/sh\nprintenv DTE_QUEUE_NAMES"
    )
    assert start(script, "w").stdout == "1\n"


def test_the_dispatcher_is_a_master(start: Run) -> None:
    done = start("start_dispatcher.sh", "--port", "5005")
    assert (done.returncode, done.stdout.split()) == (0, ["master", "--port", "5005"])


def test_a_worker_has_a_name_a_spool_and_any_port(start: Run) -> None:
    done = start("start_worker.sh", "worker-1", "--slots", "2")
    words = ["worker", "--name", "worker-1", "--slots", "2", "cache", "0"]
    assert (done.returncode, done.stdout.split()) == (0, words)


def test_a_worker_keeps_to_the_settings(start: Run, tmp_path: Path) -> None:
    (tmp_path / "a folder" / ".env").write_text("CACHE_DIR=elsewhere\n")
    done = start("start_worker.sh", "w", DTE_WORKER_PORT="6001")
    assert done.stdout.split() == ["worker", "--name", "w", "6001"]


@pytest.mark.parametrize("arguments", [[], ["--slots"]])
def test_a_worker_without_a_name_is_told_how(start: Run, arguments: list[str]) -> None:
    done = start("start_worker.sh", *arguments)
    assert done.returncode == 2
    assert "scripts/start_worker.sh worker-1" in done.stderr
