"""The command line in this process, and in processes of its own; masters for it to ask."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from harness import machine
from harness import processes as programs
from harness.master_thread import MasterThread
from harness.processes import DTE, Process, Processes, until

import dte as package
from dte.cli import servers
from dte.cli.main import main
from dte.client import patience
from dte.master import server as master_server
from dte.master.settings import Settings
from dte.worker import server as worker_server
from dte.worker.server import WorkerSettings

Dte = Callable[..., Result]
Shown = Result | subprocess.CompletedProcess[str]
Signalled = Callable[[Callable[[], object], signal.Signals], None]
StartWorker = Callable[..., Process]
DteProcess = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def levels_of_loggers() -> Iterator[None]:
    """Sets the levels back that commands set in this process, so that later tests see records."""
    loggers = [logging.getLogger(name) for name in ("dotenv", "dte.master")]
    before = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)


@pytest.fixture(scope="package")
def master() -> Iterator[MasterThread]:
    """A master with two workers."""
    with MasterThread(workers=2) as running:
        yield running


@pytest.fixture
def idle_master() -> Iterator[MasterThread]:
    """A master without jobs, and without workers: a formula with an operation waits for ever."""
    with MasterThread() as running:
        yield running


@pytest.fixture
def _signals() -> Iterator[None]:
    """Puts back what signals do."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def dte(monkeypatch: pytest.MonkeyPatch, _signals: None) -> Dte:
    """Runs a command in this process: ``dte("jobs", DTE_MASTER=...)``."""
    for name in list(os.environ):
        if name.startswith("DTE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(patience, "STRANGER_PATIENCE_S", 0.0)

    def run(*arguments: str, stdin: str | bytes | None = None, **settings: str) -> Result:
        # Whatever is raised but an exit comes out, so that no traceback goes unnoticed.
        return CliRunner(catch_exceptions=False).invoke(
            main, arguments, stdin, settings, prog_name="dte"
        )

    return run


@pytest.fixture
def ask(dte: Dte, master: MasterThread) -> Dte:
    """Runs a command for the master with workers."""
    return lambda *arguments, **more: dte(*arguments, DTE_MASTER=master.url, **more)


@pytest.fixture
def ask_idle(dte: Dte, idle_master: MasterThread) -> Dte:
    """Runs a command for a fresh master without workers."""
    return lambda *arguments, **more: dte(*arguments, DTE_MASTER=idle_master.url, **more)


@pytest.fixture
def idle_client(idle_master: MasterThread) -> Iterator[package.Client]:
    """A client of the master without workers."""
    with package.Client(idle_master.url) as client:
        yield client


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings with which commands would serve a master or a worker; none is served."""
    found: list[Settings | WorkerSettings] = []

    async def serve(settings: Settings | WorkerSettings, stop: object) -> None:
        found.append(settings)

    monkeypatch.setattr(master_server, "serve", serve)
    monkeypatch.setattr(worker_server, "serve", serve)
    monkeypatch.setattr(servers, "_allow_many_connections", lambda: None)
    monkeypatch.delenv("CACHE_DIR", raising=False)
    return found


@pytest.fixture
def signalled() -> Iterator[Signalled]:
    """Sends this process a signal when a condition holds and the signal is awaited."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    senders: list[threading.Thread] = []

    def send(condition: Callable[[], object], number: signal.Signals) -> None:
        def wait_and_send() -> None:
            until(condition, "the condition for the signal")
            until(lambda: signal.getsignal(number) != before[number], "the signal is awaited")
            os.kill(os.getpid(), number)

        senders.append(threading.Thread(target=wait_and_send))
        senders[-1].start()

    yield send
    for sender in senders:
        sender.join()


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another socket listens."""
    with machine.taken_port() as port:
        yield port


@pytest.fixture
def dte_process(tmp_path: Path) -> DteProcess:
    """Runs a command in a process, in an empty folder, to its end."""

    def run(*arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return programs.run(*DTE, *arguments, folder=tmp_path, stdin=stdin, **settings)

    return run


@pytest.fixture
def start_worker(processes: Processes) -> StartWorker:
    """Starts a worker, and waits until its log has some words: ``start_worker(port, "…")``."""

    def start(port: int, words: str = "announced to", *options: str, **settings: Any) -> Process:
        worker = processes.start_worker(port, "mine", *options, **settings)
        until(lambda: words in worker.output, f"the worker logs {words!r}")
        return worker

    return start


def check_refused(result: Shown, code: int, *words: str, lines: int | None = None) -> None:
    """Check that a command printed nothing but an error with these words, and its exit code."""
    exit_code = result.exit_code if isinstance(result, Result) else result.returncode
    assert (exit_code, result.stdout) == (code, "")
    for each in words:
        assert each in result.stderr
    assert lines in (None, len(result.stderr.splitlines()))
