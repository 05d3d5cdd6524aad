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
from .rig import DEEDS, HOSTILE, LEAKS, Rig, StartRig


@pytest.fixture(autouse=True)
def no_error_is_logged(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Fail a test that logs an error: exceptions in callbacks show only there."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelname == "ERROR"]
    assert bool(errors) == ("errors_are_logged" in request.fixturenames), errors


@pytest.fixture
def errors_are_logged() -> None:
    """Allow a test to log errors."""


@pytest.fixture
def fake_master(io_loop: IOLoop, cleanup: AsyncExitStack) -> FakeMaster:
    """A master that accepts everything."""
    master = FakeMaster()
    io_loop.run_sync(master.server.start)
    cleanup.push_async_callback(master.server.stop)
    return master


@pytest.fixture
def own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget handlers that a test loads."""
    registry.load()
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    for module in (DEEDS, HOSTILE, LEAKS):
        monkeypatch.delitem(sys.modules, module, raising=False)  # Load it again.
    # Make pools check more often if they should end.
    monkeypatch.setattr(CONSTS, "sleep_unit", 0.01)


@pytest.fixture
def rig(cleanup: AsyncExitStack, own_handlers: None) -> StartRig:
    """Starts an executor, on the test's loop: ``rig(slots, memory_mb)``."""

    def start(slots: int = 1, memory_mb: int | None = None, **more: Any) -> Rig:
        made = Rig(slots, memory_mb, **more)
        cleanup.push_async_callback(made.executor.close)
        return made

    return start
