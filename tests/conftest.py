"""Fixtures of all folders: a loop for every async test, plain servers, and processes."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage
from harness.certificates import Authority, Pair
from harness.http import Conduct, Dial, Line, PlainServer, ServePlainly, open_line
from harness.processes import Processes
from harness.said_secrets import Watch
from harness.skips import reasons
from harness.until import until
from hypothesis import HealthCheck, is_hypothesis_test, settings
from tornado.ioloop import IOLoop

TORTURE = Path(__file__).parent / "torture"
CALLBACKS = 5
"""The iterations of a loop in which what the last task has called for is done."""

# An example that takes long on a busy machine is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests that this machine cannot do."""
    counts = reasons(terminalreporter.stats.get("skipped", []))
    if counts:
        terminalreporter.section("not tested here")
    for reason, count in counts.items():
        terminalreporter.line(f"{count} skipped: {reason}")


WRITES_NO_BYTECODE = sys.dont_write_bytecode


def pytest_configure() -> None:
    """Prepare this process; those that share the tests too."""
    # Pytest would compile all test files in each of them, each time: 7 s of CPU.
    sys.dont_write_bytecode = False
    _heed_signals()


def pytest_collection_finish() -> None:
    """Write bytecode of the tests alone."""
    sys.dont_write_bytecode = WRITES_NO_BYTECODE


def _heed_signals() -> None:
    """Undo ignored signals, which ``pytest &`` and ``nohup pytest`` inherit from the shell.

    Child processes would inherit them too, and a `dte` that a test interrupts would never end.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the processes that share the tests not measure those that are not to be measured.

    In each of them pytest-cov begins a measurement like that of a single process, and another one
    on top. It pauses only the other one, and then the first goes on.
    """
    first = Coverage.current()
    if first is not None and hasattr(session.config, "workerinput"):
        first.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every async test the `io_loop`, also when it does not name it.

    Random and torturous tests are not measured: what they cover varies, and measuring it makes them
    three times as slow.
    """
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)) or TORTURE in item.path.parents:
            item.add_marker(pytest.mark.no_cover)
        if isinstance(item, pytest.Function) and iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "io_loop")


SECRETS = Watch()


@pytest.fixture(autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """No log of the whole suite has a token; `Processes` checks those of programs."""
    logging.getLogger().addHandler(SECRETS)
    yield
    logging.getLogger().removeHandler(SECRETS)
    assert SECRETS.take() == []


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """A fresh loop, which must end without tasks under way and without exceptions nobody took.

    It replaces the fixture of pytest-tornasync, which sets the current loop in a deprecated way.
    """
    loop = IOLoop(make_current=False)
    faults: list[dict[str, Any]] = []
    loop.asyncio_loop.set_exception_handler(lambda _, context: faults.append(context))  # type: ignore[attr-defined]
    yield loop

    async def all_tasks_end() -> None:
        await until(lambda: len(asyncio.all_tasks()) == 1, "the end of all tasks")
        for _ in range(CALLBACKS):
            await asyncio.sleep(0)

    try:
        loop.run_sync(all_tasks_end)
    finally:
        loop.close(all_fds=True)
    assert not faults


@pytest.fixture
def cleanup(io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> Iterator[AsyncExitStack]:
    """A stack of clean-up steps, run after the test on its loop and with its patches."""
    stack = AsyncExitStack()
    yield stack
    io_loop.run_sync(stack.aclose)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts programs that go on beside the test."""
    with Processes(tmp_path) as started:
        yield started


@pytest.fixture
def serve_plainly(cleanup: AsyncExitStack) -> ServePlainly:
    """Starts a `PlainServer`: ``await serve_plainly(conduct, host=..., port=...)``."""

    async def start(conduct: Conduct, **where: Any) -> PlainServer:
        server = PlainServer(conduct)
        await server.start(**where)
        cleanup.push_async_callback(server.stop)
        return server

    return start


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    """The certificate of a server on this machine, by its name and its address."""
    return authority.issue("DNS:localhost", "IP:127.0.0.1", file="server")


@pytest.fixture
def dial(cleanup: AsyncExitStack) -> Dial:
    """Opens a connection that the test may keep: ``await dial(port, source=...)``."""

    async def start(port: int, **where: Any) -> Line:
        line = await open_line(port, **where)
        cleanup.callback(line.close)
        return line

    return start
