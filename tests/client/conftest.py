"""Masters to ask: real ones, and impostors that answer something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.master_thread import MasterThread

from dte.client import patience
from dte.client.blocking import Client
from dte.client.patience import Patience

from .impostor import Answer, Impostor


@pytest.fixture(scope="package")
def master() -> Iterator[MasterThread]:
    """A master with two workers."""
    with MasterThread(workers=2) as running:
        yield running


@pytest.fixture(scope="package")
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
    """Have clients try again at once, and give up a master that never answered soon."""
    monkeypatch.setattr(patience, "PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "PAUSE_MAX_S", 0.01)
    monkeypatch.setattr(patience, "STRANGER_PATIENCE_S", 0.1)
    monkeypatch.setattr(patience, "RETRY_AFTER_MAX_S", 0.01)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch, no_pauses: None) -> list[float]:
    """The pauses that clients make before they try again, which are short."""
    made: list[float] = []
    pause_s = Patience.pause_s

    def recorded(self: Patience, *args: Any) -> float | None:
        pause = pause_s(self, *args)
        if pause is not None:
            made.append(pause)
        return pause

    monkeypatch.setattr(Patience, "pause_s", recorded)
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients give up a request after a tenth of a second of silence."""
    monkeypatch.setattr(patience, "SILENCE_S", 0.1)
    monkeypatch.setattr(patience, "SILENCE_MIN_S", 0.1)


@pytest.fixture
def impostor() -> Iterator[Callable[..., Impostor]]:
    """Starts an `Impostor` with the given answers."""
    started: list[Impostor] = []

    def start(*answers: Answer, port: int = 0) -> Impostor:
        started.append(Impostor(*answers, port=port))
        return started[-1]

    yield start
    for each in started:
        each.stop()
