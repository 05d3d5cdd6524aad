"""A master and workers on this machine, as `dte run` has them: they all start, and all end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness.machine import alive, children, free_port, kill, taken_port
from harness.processes import until

import dte
from dte import local, local_workers
from dte.local import LocalCluster, WorkersFailed
from dte.local_workers import WorkerOptions
from dte.master.access.tokens import Role, TokenFile
from dte.master.journal.schema import JournalRefused
from dte.master.settings import Settings
from dte.wire.http.listening import CannotListen

Impostor = Callable[[str], Path]


def master_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dte-master"]


@pytest.fixture
def sigterm() -> Iterator[None]:
    """Put back what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def worker_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Impostor:
    """Have another program started instead of a worker: give its lines, get where its pid is."""

    def install(script: str) -> Path:
        program, pid = tmp_path / "program", tmp_path / "pid"
        program.write_text(f"#!/bin/sh\necho $$ > {pid}\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(local_workers, "sys", SimpleNamespace(executable=str(program)))
        return pid

    return install


def test_a_cluster_computes_and_leaves_nothing_behind() -> None:
    before = set(children(os.getpid()))
    with LocalCluster(workers=2, port=0) as cluster:
        started = set(children(os.getpid())) - before
        with dte.Client(cluster.master_url) as client:
            assert client.compute("1+(2*3)/4-5") == -2.5
            names = {worker.worker_name for worker in client.workers()}
    assert names == {"worker-1", "worker-2"}
    assert len(started) == 2
    assert not any(map(alive, started))
    assert not master_threads()


def test_it_serves_this_machine_only_and_on_the_port_that_it_is_given() -> None:
    port = free_port()
    with LocalCluster(workers=1, port=port) as cluster:
        assert cluster.master_url == f"http://127.0.0.1:{port}"


def test_a_port_in_use_is_an_os_error_and_starts_nothing() -> None:
    before = children(os.getpid())
    with taken_port() as port, pytest.raises(OSError, match="cannot listen"), LocalCluster(1, port):
        pass
    assert children(os.getpid()) == before
    assert not master_threads()


def test_a_port_in_use_leaves_the_journal_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while jobs of the last time are being read."""
    path = str(tmp_path / "journal.db")
    settings = Settings(journal=path)
    monkeypatch.setattr(local_workers, "RESTART_FIRST_S", 60.0)
    with LocalCluster(1, 0, settings) as cluster, dte.Client(cluster.master_url) as client:
        kill(children(os.getpid())[0])
        client.map(["7"] * 10)
        waiting = client.submit("1+2").id
    with taken_port() as port, pytest.raises(CannotListen), LocalCluster(1, port, settings):
        pass
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    with LocalCluster(1, 0, settings) as cluster, dte.Client(cluster.master_url) as client:
        assert client.wait(waiting, 20).answer == 3


def test_a_journal_that_is_refused_starts_nothing(tmp_path: Path) -> None:
    before = children(os.getpid())
    settings = Settings(journal=str(tmp_path / "none" / "journal.db"))
    with pytest.raises(JournalRefused, match="cannot be opened"), LocalCluster(1, 0, settings):
        pass
    assert children(os.getpid()) == before
    assert not master_threads()


def test_a_cluster_goes_on_from_its_journal(tmp_path: Path) -> None:
    settings = Settings(journal=str(tmp_path / "journal.db"))
    with LocalCluster(1, 0, settings) as cluster, dte.Client(cluster.master_url) as client:
        client.map(["1+2", "3+4"])
    with LocalCluster(1, 0, settings) as cluster, dte.Client(cluster.master_url) as client:
        assert [job.answer for job in client.jobs()] == [7, 3]
        assert client.submit("5").id == 3


def test_a_worker_that_ends_at_once_is_named_with_its_exit_code(worker_program: Impostor) -> None:
    worker_program("exit 7")
    with pytest.raises(WorkersFailed, match="worker-1 ended with exit code 7"), LocalCluster(1, 0):
        pass
    assert not master_threads()


def test_workers_are_given_their_options(worker_program: Impostor, tmp_path: Path) -> None:
    worker_program(f'echo "$@" >> {tmp_path}/arguments\nexit 7')
    options = WorkerOptions(("a.b", "c"), slots=3, log_level="error")
    with pytest.raises(WorkersFailed), LocalCluster(1, 0, options=options):
        pass
    given = (tmp_path / "arguments").read_text()
    for words in ("--handlers a.b --handlers c", "--slots 3", "--own-log-level error"):
        assert words in given


def test_a_worker_that_never_announces_itself_is_not_waited_for_without_end(
    worker_program: Impostor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pid = worker_program("exec sleep 60")
    monkeypatch.setattr(local, "START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(local, "EXPLAIN_AFTER_S", 0.1)
    with pytest.raises(WorkersFailed, match="announced themselves"), LocalCluster(1, 0):
        pass
    assert caplog.text.count("waiting up to 0.5 s for workers to load handlers and start") == 1
    assert not alive(int(pid.read_text()))


def test_a_worker_that_does_not_heed_sigterm_is_killed(
    worker_program: Impostor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = worker_program("trap '' TERM\nwhile :; do sleep 0.05; done")
    monkeypatch.setattr(local, "START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(local_workers, "STOP_TIMEOUT_S", 0.1)
    with pytest.raises(WorkersFailed), LocalCluster(1, 0):
        pass
    assert not alive(int(pid.read_text()))


def test_workers_end_when_a_later_one_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """So they do when Ctrl-C comes while they are being started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if len(started) == 1:
            raise BlockingIOError("no more processes")
        started.append(popen(*arguments, **options))
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    try:
        with pytest.raises(BlockingIOError), LocalCluster(2, 0):
            pass
        assert not alive(started[0].pid)
    finally:
        started[0].kill()
        started[0].wait()


def test_an_exception_in_the_block_ends_the_workers_too() -> None:
    started: list[int] = []

    def fail() -> None:
        started.extend(set(children(os.getpid())) - before)
        raise RuntimeError("mine")

    before = set(children(os.getpid()))
    with pytest.raises(RuntimeError, match="mine"), LocalCluster(1, 0):
        fail()
    assert len(started) == 1
    assert not any(map(alive, started))


@pytest.mark.usefixtures("sigterm")
def test_wait_returns_on_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        until(lambda: signal.getsignal(signal.SIGTERM) is not before, "SIGTERM is awaited")
        os.kill(os.getpid(), signal.SIGTERM)

    with LocalCluster(1, 0) as cluster:
        sender = threading.Thread(target=terminate)
        sender.start()
        cluster.wait()
        sender.join()


def test_a_cluster_with_tokens_knows_its_own_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody types a token for what one command starts; others need one."""
    monkeypatch.delenv("DTE_TOKEN", raising=False)
    (tmp_path / "showing.py").write_text(
        "import os, dte\n\n"
        "@dte.handler('shown')\ndef shown():\n    return os.environ.get('DTE_TOKEN')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DTE_TOKEN", "dte_c_of_elsewhere")
    file = TokenFile(str(tmp_path / "dte.tokens"))
    secret = file.new(Role.CLIENT, "shop")
    settings = Settings(tokens=file.path)
    with LocalCluster(1, 0, settings, WorkerOptions(handlers=["showing"])) as cluster:
        assert cluster.needs_tokens
        for token in (secret, cluster.admit(Role.ADMIN, "run")):
            with dte.Client(cluster.master_url, token=token) as client:
                assert client.compute("1+2") == 3
                # Handlers get the environment, and not the token of their worker.
                assert client.call("shown") == "dte_c_of_elsewhere"
        with dte.Client(cluster.master_url) as client, pytest.raises(dte.Unauthorized):
            client.compute("1+2")


def test_a_cluster_goes_on_when_it_gets_its_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DTE_TOKEN", raising=False)
    file = TokenFile(str(tmp_path / "dte.tokens"))
    with LocalCluster(1, 0, Settings(tokens=file.path)) as cluster:
        assert not cluster.needs_tokens
        with dte.Client(cluster.master_url) as client:
            assert client.compute("1+2") == 3
        secret = file.new(Role.CLIENT, "shop")
        until(lambda: cluster.needs_tokens, "the master has read its tokens")
        with dte.Client(cluster.master_url, token=secret) as client:
            assert client.compute("2+3") == 5
