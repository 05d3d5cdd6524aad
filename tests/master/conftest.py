"""Masters to ask, and workers whose conduct a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tornado.ioloop import IOLoop
from wire.plain import Conduct, PlainServer, ServePlainly

from .rig import Hire, Rig, StartMaster


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in the log is a bug: neither clients nor workers can make a master fail."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelname == "ERROR"]
    assert not errors


@pytest.fixture
def start_master(cleanup: AsyncExitStack) -> StartMaster:
    """Starts a master with the given bounds, whose invariants are checked after the test."""

    async def start(**bounds: Any) -> Rig:
        rig = Rig(**bounds)
        cleanup.push_async_callback(rig.server.stop)
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
        worker = await serve_plainly(conduct)
        await rig.announce(worker, **said)
        return worker

    return start
