"""Protects: who waits for facts goes on when all of them are recorded, and not before."""

from __future__ import annotations

import asyncio

import pytest

from dte.core.errors import Unavailable
from dte.core.graph.call import Call
from dte.core.jobs.facts import Facts, Step, record_of
from dte.master.journal import awaited as module
from dte.master.journal.awaited import AwaitedFacts


def nothing() -> None:
    """Wake nobody."""


def step(name: str) -> Step:
    call = Call(name, "f", [])
    return Step(call, record_of(call))


def steps(*some: Step) -> Facts:
    return Facts([], [], steps=list(some))


async def test_who_waits_goes_on_when_the_last_fact_is_recorded() -> None:
    awaited, first, second = AwaitedFacts(nothing), step("a"), step("b")
    waiting = asyncio.create_task(awaited.until_recorded([first, second]))
    await asyncio.sleep(0)
    awaited.recorded(steps(first))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    awaited.recorded(steps(second))
    await waiting


async def test_several_may_wait_for_the_same_fact() -> None:
    awaited, fact = AwaitedFacts(nothing), step("a")
    waits = [asyncio.create_task(awaited.until_recorded([fact])) for _ in range(2)]
    await asyncio.sleep(0)
    awaited.recorded(steps(step("of nobody"), fact))
    await asyncio.gather(*waits)


async def test_who_waits_too_long_hears_so_and_the_fact_is_recorded_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RECORD_TIMEOUT_S", 0.01)
    awaited, fact = AwaitedFacts(nothing), step("a")
    awaited.note(7, fact)
    with pytest.raises(Unavailable, match="cannot be written for the time being"):
        await awaited.until_recorded([fact])
    assert awaited.of(7) is fact
    awaited.recorded(steps(fact))
    assert awaited.of(7) is None


async def test_a_report_is_known_by_its_lease_until_it_is_recorded() -> None:
    awaited, fact = AwaitedFacts(nothing), step("a")
    awaited.note(7, fact)
    waiting = asyncio.create_task(awaited.until_recorded([fact]))
    await asyncio.sleep(0)
    assert list(awaited.reported) == [7]
    assert (awaited.of(7), awaited.of(8)) == (fact, None)
    awaited.recorded(steps(fact))
    assert not awaited.reported
    await waiting


async def test_waiting_for_nothing_wakes_the_master_and_returns() -> None:
    woken: list[bool] = []
    await AwaitedFacts(lambda: woken.append(True)).until_recorded([])
    assert woken == [True]
