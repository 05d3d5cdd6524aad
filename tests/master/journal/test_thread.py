"""The thread beside the loop in which the journal is used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from harness.until import until

from dte.master.journal.thread import JournalThread


async def test_what_is_done_is_told_on_the_loop_in_its_order() -> None:
    thread = JournalThread()
    told: list[tuple[object, int]] = []

    def tell(outcome: object) -> None:
        told.append((outcome, threading.get_ident()))

    for number in range(100):
        thread.do(lambda number=number: (number, threading.get_ident()), tell)  # type: ignore[misc]
    await until(lambda: len(told) == 100, "all is told")
    assert [outcome[0] for outcome, _ in told] == list(range(100))  # type: ignore[index]
    assert {ident for _, ident in told} == {threading.get_ident()}
    (beside,) = {outcome[1] for outcome, _ in told}  # type: ignore[index]
    assert beside != threading.get_ident()
    thread.close()


async def test_what_is_raised_is_told_and_the_next_is_done() -> None:
    thread = JournalThread()
    told: list[object] = []
    thread.do(lambda: 1 // 0, told.append)
    thread.do(lambda: "next", told.append)
    await until(lambda: len(told) == 2, "both are told")
    assert isinstance(told[0], ZeroDivisionError)
    assert told[1] == "next"
    thread.close()


async def test_closing_waits_for_what_is_due() -> None:
    thread = JournalThread()
    done: list[int] = []
    for number in range(10):
        thread.do(lambda number=number: done.append(number), lambda _: None)  # type: ignore[misc]
    thread.close()
    assert done == list(range(10))
    await asyncio.sleep(0)


@pytest.mark.parametrize("fails", [False, True], ids=["done", "raises"])
def test_when_the_loop_is_closed_nobody_is_told(fails: bool) -> None:
    may_go_on = threading.Event()
    told: list[object] = []

    def work() -> None:
        assert may_go_on.wait(timeout=20)
        assert not fails

    async def start(work: Callable[[], None]) -> JournalThread:
        thread = JournalThread()
        thread.do(work, told.append)
        return thread

    thread = asyncio.run(start(work))
    may_go_on.set()
    thread.close()
    assert not told
