from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from dte.master.slices import SLICE_S, Slices, collected
from dte.master.turns import Turns


def work(name: str, count: int, diary: list[str]) -> Generator[None, None, str]:
    """Writes a line for each of `count` slices, and returns its name."""
    for number in range(count):
        diary.append(f"{name}{number}")
        if number < count - 1:
            yield
    return name


async def test_all_slices_are_run_and_the_result_given() -> None:
    diary: list[str] = []
    assert await Slices().run(work("a", 3, diary)) == "a"
    assert diary == ["a0", "a1", "a2"]


async def test_pieces_of_work_take_turns() -> None:
    """A short one ends before a long one that began earlier."""
    diary: list[str] = []
    slices = Slices()
    await asyncio.gather(*(slices.run(work(name, n, diary)) for name, n in (("a", 5), ("b", 2))))
    assert diary == ["a0", "b0", "a1", "b1", "a2", "a3", "a4"]


async def test_the_loop_does_other_things_between_slices() -> None:
    diary: list[str] = []
    loop = asyncio.get_running_loop()

    def tick() -> None:
        diary.append("tick")
        if len(diary) < 50:
            loop.call_soon(tick)

    loop.call_soon(tick)
    await Slices().run(work("a", 3, diary))
    first, second, third = (diary.index(f"a{number}") for number in range(3))
    assert "tick" in diary[first:second]
    assert "tick" in diary[second:third]


async def test_a_failure_ends_its_own_work_only() -> None:
    diary: list[str] = []
    slices = Slices()

    def fails() -> Generator[None, None, None]:
        yield
        raise KeyError("no")

    failed, done = await asyncio.gather(
        slices.run(fails()), slices.run(work("a", 3, diary)), return_exceptions=True
    )
    assert isinstance(failed, KeyError)
    assert done == "a"
    assert await slices.run(work("b", 1, diary)) == "b"


async def test_work_that_is_cancelled_lets_the_others_go_on() -> None:
    diary: list[str] = []
    slices = Slices()
    endless = asyncio.create_task(slices.run(work("a", 10**9, diary)))
    other = asyncio.create_task(slices.run(work("b", 3, diary)))
    while "b0" not in diary:
        await asyncio.sleep(0)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    assert await other == "b"


async def test_short_works_in_a_row_let_the_loop_go_on_when_a_turn_is_long() -> None:
    now = [0.0]
    slices = Slices(Turns(clock=lambda: now[0]))
    others: list[str] = []

    async def run(name: str) -> None:
        asyncio.get_running_loop().call_soon(others.append, name)
        assert await slices.run(collected([1])) == [1]

    await run("in a short turn")
    assert others == []
    now[0] = 2 * SLICE_S
    await run("in a long turn")
    assert others == ["in a short turn", "in a long turn"]
