from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pebble.common.types import CONSTS
from tornado.ioloop import IOLoop

from dte.handlers import registry

from .fakes import FakeMaster
from .rig import DEEDS, Rig, StartRig


@pytest.fixture(autouse=True)
def no_error_is_logged(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """An error in the log is a bug: nobody else hears of an exception in a callback."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelname == "ERROR"]
    assert bool(errors) == ("errors_are_logged" in request.fixturenames), errors


@pytest.fixture
def errors_are_logged() -> None:
    """For a test of something that is to be logged as an error."""


@pytest.fixture
def fake_master(io_loop: IOLoop, cleanup: AsyncExitStack) -> FakeMaster:
    """A master that takes whatever it is told."""
    master = FakeMaster()
    io_loop.run_sync(master.server.start)
    cleanup.push_async_callback(master.server.stop)
    return master


@pytest.fixture
def own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded in a test is forgotten after it."""
    registry.load()
    monkeypatch.setattr(registry, "_handlers", registry.handlers())
    monkeypatch.delitem(sys.modules, DEEDS, raising=False)  # It is to be loaded anew.
    # Pools are to look more often whether they are to end.
    monkeypatch.setattr(CONSTS, "sleep_unit", 0.01)


@pytest.fixture
def rig(cleanup: AsyncExitStack, own_handlers: None) -> StartRig:
    """Starts an executor, on the test's loop: ``rig(slots, memory_mb)``."""

    def start(slots: int = 1, memory_mb: int | None = None, **more: Any) -> Rig:
        made = Rig(slots, memory_mb, **more)
        cleanup.push_async_callback(made.executor.close)
        return made

    return start
