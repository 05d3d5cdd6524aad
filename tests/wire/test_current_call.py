"""The call in which code runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from dte.wire.current_call import (
    CALL_HEADER,
    CurrentCall,
    call_header,
    current_call,
    set_current_call,
)

CALL, OTHER = CurrentCall(7, 1, "call"), CurrentCall(8, 2, "call")


@pytest.fixture(autouse=True)
def _outside() -> Iterator[None]:
    yield
    set_current_call(None)


def test_outside_of_calls_there_is_none() -> None:
    assert current_call() is None
    assert call_header() == {}


def test_a_call_is_that_of_all_threads() -> None:
    set_current_call(CALL)
    found: list[CurrentCall | None] = []
    thread = threading.Thread(target=lambda: found.append(current_call()))
    thread.start()
    thread.join()
    assert found == [CALL]
    assert call_header() == {CALL_HEADER: "7"}


async def test_tasks_have_calls_of_their_own_and_so_have_their_tasks_and_threads() -> None:
    async def run(call: CurrentCall) -> list[CurrentCall | None]:
        set_current_call(call, here=True)
        await asyncio.sleep(0)
        inner = asyncio.create_task(asyncio.to_thread(current_call))
        return [current_call(), await inner]

    found = await asyncio.gather(*(asyncio.create_task(run(each)) for each in (CALL, OTHER)))
    assert found == [[CALL, CALL], [OTHER, OTHER]]
    assert current_call() is None
