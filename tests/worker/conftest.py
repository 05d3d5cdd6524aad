from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from tornado.ioloop import IOLoop

from .fakes import FakeMaster


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
