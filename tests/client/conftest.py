"""Masters to ask: real ones, and impostors that answer something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from end_to_end.live import MasterThread

from dte.client import asynchronous, blocking, calls
from dte.client.blocking import Client

from .impostor import Answer, Impostor


@pytest.fixture(scope="session")
def master() -> Iterator[MasterThread]:
    """A master with two workers."""
    with MasterThread(workers=2) as running:
        yield running


@pytest.fixture(scope="session")
def idle_master() -> Iterator[MasterThread]:
    """A master without workers: a formula with an operation waits for ever."""
    with MasterThread() as running:
        yield running


@pytest.fixture
def client(master: MasterThread) -> Iterator[Client]:
    with Client(master.url) as connected:
        yield connected


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients try again at once."""
    for module in (blocking, asynchronous):
        monkeypatch.setattr(module, "RETRY_PAUSES_S", (0.0,) * 5)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients give up a request after a tenth of a second of silence."""
    request = calls.Request
    monkeypatch.setattr(
        calls, "Request", lambda *args, **more: replace(request(*args, **more), timeout_s=0.1)
    )


@pytest.fixture
def impostor() -> Iterator[Callable[..., Impostor]]:
    """Starts an `Impostor` with the given answers."""
    started: list[Impostor] = []

    def start(*answers: Answer) -> Impostor:
        started.append(Impostor(*answers))
        return started[-1]

    yield start
    for each in started:
        each.stop()
