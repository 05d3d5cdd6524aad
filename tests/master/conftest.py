"""Masters to ask, and workers whose conduct a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from harness.http import Conduct, Line, Message, PlainServer, ServePlainly
from tornado.ioloop import IOLoop

from dte.master import server

from .rig import Hire, Rig, StartMaster


@pytest.fixture
def expected_errors() -> list[str]:
    """How errors begin that a test may have in its log; it adds them."""
    return []


@pytest.fixture(autouse=True)
def no_error_is_logged(
    caplog: pytest.LogCaptureFixture, expected_errors: list[str]
) -> Iterator[None]:
    """An error in the log is a bug: neither clients nor workers can make a master fail."""
    yield
    records = [record for record in caplog.get_records("call") if record.levelname == "ERROR"]
    assert [each for each in records if not each.message.startswith(tuple(expected_errors))] == []


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have masters end without waiting for replies that nobody waits for."""
    monkeypatch.setattr(server, "REPLY_S", 0.0)


@pytest.fixture
def start_master(cleanup: AsyncExitStack) -> StartMaster:
    """Starts a master with the given bounds, whose invariants are checked after the test."""

    async def start(**bounds: Any) -> Rig:
        rig = Rig(**bounds)
        cleanup.push_async_callback(rig.stop)
        cleanup.callback(rig.master.core.check)
        return rig

    return start


@pytest.fixture
def rig(io_loop: IOLoop, start_master: StartMaster) -> Rig:
    """A master with its default bounds."""
    return io_loop.run_sync(start_master)


@pytest.fixture
def hire(serve_plainly: ServePlainly) -> Hire:
    """Starts a worker and announces it: ``await hire(rig, conduct, slots=2, ...)``."""

    async def start(rig: Rig, conduct: Conduct, **said: Any) -> PlainServer:
        async def without_health(request: Message, line: Line) -> None:
            await (line.reply(404, {}) if request.path == "/health" else conduct(request, line))

        worker = await serve_plainly(without_health)
        await rig.announce(worker, **said)
        return worker

    return start
