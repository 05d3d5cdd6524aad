from __future__ import annotations

import asyncio

import pytest
from harness.until import until

from dte.master.http import admission
from dte.master.http.admission import Admission

MOST, LEAST = 8, 2


@pytest.fixture
def gate() -> Admission:
    return Admission(MOST, LEAST)


def entered(gate: Admission, count: int) -> list[asyncio.Future[None] | None]:
    return [gate.enter() for _ in range(count)]


def begun(places: list[asyncio.Future[None] | None]) -> list[int]:
    """The numbers of those that may begin."""
    return [number for number, place in enumerate(places) if place is None or place.done()]


async def test_some_begin_at_once_and_the_others_stand_in_line(gate: Admission) -> None:
    places = entered(gate, MOST + 3)
    assert begun(places) == list(range(MOST))
    assert len(gate) == 3
    await until(lambda: not len(gate), "all may begin")


async def test_each_turn_lets_some_more_begin_in_the_order_they_came(gate: Admission) -> None:
    places = entered(gate, 3 * MOST + 1)
    for turn in range(1, 4):
        assert begun(places) == list(range(turn * MOST))
        await asyncio.sleep(0)
    assert begun(places) == list(range(3 * MOST + 1))


async def test_nobody_overtakes_those_that_stand_in_line(gate: Admission) -> None:
    places = entered(gate, 2 * MOST + 1)
    await asyncio.sleep(0)
    places += entered(gate, 1)
    assert begun(places) == list(range(2 * MOST))


async def test_who_has_gone_takes_no_place(gate: Admission) -> None:
    places = entered(gate, 2 * MOST + 1)
    gone = places[MOST]
    assert gone is not None
    gone.cancel()
    await asyncio.sleep(0)
    assert begun(places) == list(range(2 * MOST + 1))


async def test_in_the_next_turn_as_many_may_begin_again(gate: Admission) -> None:
    for _ in range(3):
        assert begun(entered(gate, MOST)) == list(range(MOST))
        await asyncio.sleep(0)


async def test_fewer_begin_when_turns_get_long_and_more_when_they_are_short_again(
    gate: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LONG_ITERATION_S", -1)
    places = entered(gate, 1_000)
    for _ in range(10):
        await asyncio.sleep(0)
    before = len(begun(places))
    await asyncio.sleep(0)
    assert len(begun(places)) == before + LEAST
    monkeypatch.setattr(admission, "LONG_ITERATION_S", 1_000)
    for _ in range(10):
        await asyncio.sleep(0)
    before = len(begun(places))
    await asyncio.sleep(0)
    assert len(begun(places)) == before + MOST


async def test_when_nobody_comes_it_rests(gate: Admission) -> None:
    """Else the loop would never sleep."""
    entered(gate, MOST + 1)
    for _ in range(4):
        await asyncio.sleep(0)
    assert not gate._scheduled
