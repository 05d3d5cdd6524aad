"""Services are stopped: every process of a master, a worker or `dte run` gets a signal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.machine import alive, free_port
from harness.processes import DTE, Process, Processes, until
from harness.services import family, read_unit, signal_all, stop, unit_environment

import dte

from .conftest import StartCluster

DEPLOY = Path(__file__).parents[2] / "deploy"
HANDLERS = """
import asyncio, time
from pathlib import Path
import dte

def begin(name):
    Path(name + ".begun").touch()
    return Path(name + ".end")

@dte.handler("plain", retries=0)
def plain(name):
    end = begin(name)
    while not end.exists():
        time.sleep(0.01)
    return "finished"

@dte.handler("asynchronous", retries=0)
async def asynchronous(name):
    end = begin(name)
    while not end.exists():
        await asyncio.sleep(0.01)
    return "finished"

@dte.handler("late", retries=0)
def late(name):
    plain(name)
    time.sleep(0.2)
    return "finished"
"""

StartService = Callable[..., Cluster]


@pytest.fixture
def start_service(start_cluster: StartCluster, tmp_path: Path) -> StartService:
    """Starts a master, and a worker with `HANDLERS`; its options are the arguments."""

    def start(*options: str) -> Cluster:
        (tmp_path / "mine.py").write_text(HANDLERS)
        return start_cluster(
            1, options=("--handlers", "mine", "--slots", "2", "--grace-s", "60", *options)
        )

    return start


@pytest.fixture
def client() -> Iterator[Callable[[Cluster], dte.Client]]:
    """Makes clients of masters."""
    made: list[dte.Client] = []

    def make(cluster: Cluster) -> dte.Client:
        made.append(dte.Client(cluster.url))
        return made[-1]

    yield make
    for each in made:
        each.close()


Connect = Callable[[Cluster], dte.Client]


def begin(client: dte.Client, folder: Path, handler: str, name: str) -> dte.Job:
    """Submit a call that lasts until `finish`, and return when it runs."""
    job = client.submit_call(handler, name)
    until((folder / f"{name}.begun").exists, f"{handler} has begun")
    return job


def finish(folder: Path, name: str) -> None:
    (folder / f"{name}.end").touch()


def is_leaving(cluster: Cluster) -> bool:
    (worker,) = cluster.client.workers().values()
    return bool(worker["state"] == "draining")


@pytest.mark.parametrize("options", [(), ("--pull",)], ids=["listens", "claims"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=str)
def test_calls_end_in_the_grace_when_all_processes_of_a_worker_get_a_signal(
    start_service: StartService,
    client: Connect,
    number: signal.Signals,
    options: tuple[str, ...],
) -> None:
    cluster = start_service(*options)
    here = client(cluster)
    jobs = {name: begin(here, cluster.folder, name, name) for name in ("plain", "asynchronous")}
    worker = cluster.workers["worker-1"]
    signal_all(worker.pid, number)
    until(lambda: is_leaving(cluster), "the worker leaves")
    for name in jobs:
        finish(cluster.folder, name)
    assert [here.wait(job, 60).result() for job in jobs.values()] == ["finished"] * 2
    assert [node.attempts for job in jobs.values() for node in here.nodes(job)] == [1, 1]
    assert worker.exit_code() == 0
    assert "Traceback" not in worker.output


def test_a_second_signal_returns_the_calls_of_a_worker(
    start_service: StartService, client: Connect
) -> None:
    cluster = start_service()
    here = client(cluster)
    job = begin(here, cluster.folder, "plain", "a")
    worker = cluster.workers["worker-1"]
    signal_all(worker.pid, signal.SIGTERM)
    until(lambda: is_leaving(cluster), "the worker leaves")
    signal_all(worker.pid, signal.SIGHUP)  # Some managers send it as well; it hurries nobody.
    members = list(family(worker.pid))
    signal_all(worker.pid, signal.SIGINT)
    assert worker.exit_code() == 128 + signal.SIGINT
    until(lambda: not any(map(alive, members)), "its processes have ended")
    (node,) = here.nodes(job)
    assert (node.state, node.error) == ("ready", "the worker left")
    finish(cluster.folder, "a")
    cluster.start_worker("worker-2", "--handlers", "mine")
    assert here.wait(job, 60).result() == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_supervisor_that_signals_twice_does_not_hurry_a_worker(
    start_service: StartService, client: Connect, number: signal.Signals
) -> None:
    """It may signal the worker and its group, or a program in between passes the signal on."""
    cluster = start_service()
    here = client(cluster)
    job = begin(here, cluster.folder, "plain", "a")
    worker = cluster.workers["worker-1"]
    for _ in range(2):
        signal_all(worker.pid, number)
    until(lambda: is_leaving(cluster), "the worker leaves")
    finish(cluster.folder, "a")
    assert here.wait(job, 60).result() == "finished"
    assert [node.attempts for node in here.nodes(job)] == [1]
    assert worker.exit_code() == 0


def test_a_call_outlives_a_stop_of_its_master_and_worker_together(
    start_service: StartService, client: Connect, tmp_path: Path
) -> None:
    """The master ends at once. The result is kept in the spool until both are started again."""
    cluster = start_service("--spool", str(tmp_path / "spool"))
    here = client(cluster)
    job = begin(here, cluster.folder, "late", "a")
    worker = cluster.workers["worker-1"]
    for service in (cluster.master, worker):
        signal_all(service.pid, signal.SIGTERM)
    assert cluster.master.exit_code() == 0
    finish(cluster.folder, "a")
    assert worker.exit_code() == 0
    cluster.start_master()
    worker.start()
    assert here.wait(job, 60).result() == "finished"
    assert [node.attempts for node in here.nodes(job)] == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=str)
def test_dte_run_ends_in_order_when_all_of_its_processes_get_a_signal(
    processes: Processes, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    port = free_port()
    journal = str(tmp_path / "run.db")
    options = ("--port", str(port), "--workers", "1", "--handlers", "mine", "--journal", journal)
    run = processes.start("run", *options)
    until(lambda: "Ctrl-C" in run.output, "it serves")
    with dte.Client(f"http://127.0.0.1:{port}") as here:
        job = begin(here, tmp_path, "plain", "a")
        members = list(family(run.pid))
        signal_all(run.pid, number)
        codes = {signal.SIGTERM: 0, signal.SIGINT: 130, signal.SIGHUP: 129}
        assert run.exit_code(30) == codes[number]
        until(lambda: not any(map(alive, members)), "its processes have ended")
        assert "Traceback" not in run.output
        if number == signal.SIGTERM:
            finish(tmp_path, "a")
            run.start()
            assert here.wait(job, 60).result() == "finished"
            assert run.end() == 0


@pytest.mark.parametrize("kill_mode", ["", "control-group"], ids=["its own", "the default"])
def test_the_units_of_systemd_let_calls_end(
    processes: Processes, tmp_path: Path, kill_mode: str
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    port = free_port()
    units = [read_unit(DEPLOY / f"dte-{name}.service") for name in ("master", "worker")]
    places = {"DTE_MASTER_HOST": "127.0.0.1", "DTE_MASTER_PORT": str(port), "DTE_HANDLERS": "mine"}
    places |= {"DTE_WORKER_HOST": "127.0.0.1", "DTE_WORKER_PORT": "0"}
    places |= {"DTE_MASTER": f"http://127.0.0.1:{port}", "DTE_JOURNAL": str(tmp_path / "dte.db")}
    places |= {"DTE_WORKER_SPOOL": str(tmp_path / "spool")}
    services: list[Process] = []
    for unit in units:
        program, *arguments = unit["ExecStart"][0].split()
        assert program == "/opt/dte/bin/dte"
        settings = unit_environment(unit) | places
        services.append(processes.start(*arguments, program=DTE, **settings))
    master, worker = services
    with dte.Client(places["DTE_MASTER"]) as here:
        until(lambda: "announced to" in worker.output, "the worker is announced")
        job = begin(here, tmp_path, "late", "a")
        finish(tmp_path, "a")
        timeouts_s = [float(unit["TimeoutStopSec"][0]) for unit in units]
        mode = kill_mode or units[1]["KillMode"][0]
        assert stop(worker, mode, timeouts_s[1]) == 0
        assert here.job(job).result() == "finished"
    assert stop(master, "control-group", timeouts_s[0]) == 0
    graces_s = [unit_environment(unit)["DTE_GRACE_S"] for unit in units[:1]]
    graces_s += [unit_environment(unit)["DTE_WORKER_GRACE_S"] for unit in units[1:]]
    assert all(
        timeout > float(grace) + 10 for timeout, grace in zip(timeouts_s, graces_s, strict=True)
    )


def test_a_worker_that_was_told_to_ignore_a_signal_ignores_it(
    start_cluster: StartCluster, client: Connect, processes: Processes, tmp_path: Path
) -> None:
    """This is ``nohup dte worker &``."""
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(0)
    ignoring = ("/bin/sh", "-c", 'trap "" HUP; exec "$0" -m dte "$@"', sys.executable)
    worker = processes.start_worker(
        cluster.port, "worker-1", "--handlers", "mine", program=ignoring
    )
    here = client(cluster)
    job = begin(here, tmp_path, "plain", "a")
    signal_all(worker.pid, signal.SIGHUP)
    finish(tmp_path, "a")
    assert here.wait(job, 60).result() == "finished"
    assert worker.end() == 0
