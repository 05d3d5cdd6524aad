"""Protects: who waits for facts goes on when all of them are recorded, and not before."""

from __future__ import annotations

import asyncio

import pytest

from dte.core.errors import Unavailable
from dte.core.graph.call import Call
from dte.core.jobs.facts import Facts, Step
from dte.master.journal.awaited import AwaitedFacts


def step(name: str) -> Step:
    call = Call(name, "f", [])
    return Step(call, call.record.copy())


def steps(*some: Step) -> Facts:
    return Facts([], [], steps=list(some))


async def test_who_waits_goes_on_when_the_last_fact_is_recorded() -> None:
    awaited, first, second = AwaitedFacts(), step("a"), step("b")
    waiting = asyncio.create_task(awaited.expect([first, second]).until_recorded(20.0))
    awaited.recorded(steps(first))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    awaited.recorded(steps(second))
    await waiting


async def test_several_may_wait_for_the_same_fact() -> None:
    awaited, fact = AwaitedFacts(), step("a")
    waits = [awaited.expect([fact]) for _ in range(2)]
    awaited.recorded(steps(step("of nobody"), fact))
    for wait in waits:
        await wait.until_recorded(20.0)


async def test_who_waits_too_long_hears_so_and_the_fact_is_recorded_all_the_same() -> None:
    awaited, fact = AwaitedFacts(), step("a")
    awaited.note(7, fact)
    with pytest.raises(Unavailable, match="cannot be written for the time being"):
        await awaited.expect([fact]).until_recorded(0.01)
    assert awaited.of(7) is fact
    awaited.recorded(steps(fact))
    assert awaited.of(7) is None


async def test_a_report_is_known_by_its_lease_until_it_is_recorded() -> None:
    awaited, fact = AwaitedFacts(), step("a")
    awaited.note(7, fact)
    wait = awaited.expect([fact])
    assert list(awaited.reported) == [7]
    assert (awaited.of(7), awaited.of(8)) == (fact, None)
    awaited.recorded(steps(fact))
    assert not awaited.reported
    await wait.until_recorded(20.0)
