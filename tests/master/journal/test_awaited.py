"""Protects: who waits for facts goes on when all of them are recorded, and not before."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from dte.core.errors import JournalDamaged, Unavailable
from dte.core.graph.call import Call
from dte.core.jobs.facts import Facts, Step
from dte.master.journal import awaited as module
from dte.master.journal.awaited import AwaitedFacts


@pytest.fixture
def awaited() -> AwaitedFacts:
    return AwaitedFacts(Mock(), Mock())


def step(name: str) -> Step:
    call = Call(name, "f", [])
    return Step(call, call.record.copy())


def steps(*some: Step) -> Facts:
    return Facts([], [], steps=list(some))


async def wait_for(awaited: AwaitedFacts, *facts: Step) -> asyncio.Task[None]:
    """A wait that has begun."""
    waiting = asyncio.create_task(awaited.until_recorded(facts))
    await turns()
    return waiting


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_waits_goes_on_when_the_last_fact_is_recorded(awaited: AwaitedFacts) -> None:
    first, second = step("a"), step("b")
    waiting = await wait_for(awaited, first, second)
    awaited.recorded(steps(first))
    await turns()
    assert not waiting.done()
    awaited.recorded(steps(second))
    await waiting


async def test_facts_are_recorded_and_the_core_is_woken_when_someone_waits() -> None:
    recorder, wake = Mock(), Mock()
    awaited = AwaitedFacts(recorder, wake)
    await awaited.until_recorded([])
    wake.assert_called_once_with()
    recorder.wake.assert_called_once_with()
    fact = step("a")
    recorder.wake = lambda: awaited.recorded(steps(fact))
    await awaited.until_recorded([fact])


async def test_several_may_wait_for_the_same_fact(awaited: AwaitedFacts) -> None:
    fact = step("a")
    waits = [await wait_for(awaited, fact) for _ in range(2)]
    awaited.recorded(steps(step("of nobody"), fact))
    for wait in waits:
        await wait


@pytest.mark.parametrize(
    ("failure", "text"),
    [(None, "the disk of the master's journal is slow"), (Unavailable("disk I/O error"), "I/O")],
)
async def test_who_waits_too_long_hears_why_and_the_fact_is_recorded_all_the_same(
    monkeypatch: pytest.MonkeyPatch, failure: Unavailable | None, text: str
) -> None:
    """A journal that is only slow is not said to have failed."""
    monkeypatch.setattr(module, "RECORD_TIMEOUT_S", 0.01)
    awaited = AwaitedFacts(Mock(failure=failure), Mock())
    fact = step("a")
    awaited.note(7, fact)
    with pytest.raises(Unavailable, match=rf"not recorded after 0\.01 s.*{text}"):
        await awaited.until_recorded([fact])
    assert awaited.of(7) is fact
    awaited.recorded(steps(fact))
    assert awaited.of(7) is None


async def test_a_report_is_known_by_its_lease_until_it_is_recorded(awaited: AwaitedFacts) -> None:
    fact = step("a")
    awaited.note(7, fact)
    wait = await wait_for(awaited, fact)
    assert list(awaited.reported) == [7]
    assert (awaited.of(7), awaited.of(8)) == (fact, None)
    awaited.recorded(steps(fact))
    assert not awaited.reported
    await wait


async def test_nobody_waits_for_what_damage_keeps_from_being_recorded() -> None:
    recorder = Mock(failure=None)
    awaited = AwaitedFacts(recorder, Mock())
    fact = step("a")
    waiting = await wait_for(awaited, fact)
    recorder.failure = JournalDamaged("it is damaged")
    awaited.give_up()
    with pytest.raises(JournalDamaged):
        await waiting
    with pytest.raises(JournalDamaged):
        await awaited.until_recorded([fact])
