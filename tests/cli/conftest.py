"""The command line in this process, and in processes of its own; masters for it to ask."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness import processes as programs
from harness.master_thread import MasterThread
from harness.processes import DTE

from dte.cli.main import main
from dte.client import patience

Dte = Callable[..., Result]
DteProcess = Callable[..., subprocess.CompletedProcess[str]]


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
def dte_process(tmp_path: Path) -> DteProcess:
    """Runs a command in a process, in an empty folder, to its end."""

    def run(*arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return programs.run(*DTE, *arguments, folder=tmp_path, stdin=stdin, **settings)

    return run
