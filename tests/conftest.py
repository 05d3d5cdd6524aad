"""What tests of all folders share: a loop of its own for every async test."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import pytest
from tornado.ioloop import IOLoop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every async test the `io_loop`, also when it does not name it."""
    for item in items:
        if isinstance(item, pytest.Function) and iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "io_loop")


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """A fresh loop, which at the end has met no exception that nobody took.

    It replaces the fixture of pytest-tornasync, which sets the current loop in a deprecated way.
    """
    loop = IOLoop(make_current=False)
    faults: list[dict[str, Any]] = []
    loop.asyncio_loop.set_exception_handler(lambda _, context: faults.append(context))  # type: ignore[attr-defined]
    yield loop
    loop.close(all_fds=True)
    assert not faults
