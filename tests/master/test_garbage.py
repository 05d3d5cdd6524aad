from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from harness.until import until

from dte.master import garbage
from dte.master.garbage import GarbageCollector

from .rig import StartMaster


class Knot:
    """Refers to itself, so that only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


PYTHONS = (700, 10, 10)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other masters of this process, which other tests keep, are left out of it."""
    before = gc.get_threshold()
    monkeypatch.setattr(GarbageCollector, "_running", set())
    monkeypatch.setattr(GarbageCollector, "_thresholds", PYTHONS, raising=False)
    gc.set_threshold(*PYTHONS)
    yield
    assert gc.get_threshold() == PYTHONS
    gc.set_threshold(*before)


async def test_while_a_master_runs_python_does_not_look_through_all_objects_by_itself(
    alone: None, start_master: StartMaster
) -> None:
    rig = await start_master()
    assert gc.get_threshold()[2] == garbage.NEVER
    await rig.server.stop()
    assert gc.get_threshold() == PYTHONS


async def test_young_objects_are_looked_through_as_ever() -> None:
    collector = GarbageCollector()
    collector.start()
    assert gc.get_threshold()[:2] == PYTHONS[:2]
    collector.stop()


async def test_of_several_the_last_one_leaves_it_to_python() -> None:
    one, other = GarbageCollector(), GarbageCollector()
    one.start()
    other.start()
    one.stop()
    one.stop()
    assert gc.get_threshold()[2] == garbage.NEVER
    other.stop()
    assert gc.get_threshold() == PYTHONS


async def test_old_garbage_is_freed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERY_S", 0.001)
    knot = Knot()
    gc.collect()
    known = weakref.ref(knot)
    collector = GarbageCollector()
    collector.start()
    del knot
    await until(lambda: known() is None, "it is freed")
    collector.stop()


async def test_it_is_freed_early_when_much_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.001)
    ended = [garbage.ENDED_BYTES]
    collector = GarbageCollector(ended_bytes=lambda: sum(ended))
    collector.start()
    for _ in range(2):
        knot = Knot()
        gc.collect()
        known = weakref.ref(knot)
        del knot
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert known() is not None, "it is not more than that"
        monkeypatch.setattr(garbage, "SHARE", 1e9)
        ended.append(garbage.ENDED_BYTES + 1)
        await until(lambda known=known: known() is None, "it is freed")
        ended[:] = [sum(ended)]
    collector.stop()


async def test_stopping_what_was_not_started_changes_nothing() -> None:
    GarbageCollector().stop()


async def test_while_much_waits_what_is_old_is_set_aside_and_searched_when_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "EVERY_S", 0.001)
    waiting = [garbage.MUCH_WAITS + 1]
    knot = Knot()
    gc.collect()
    known = weakref.ref(knot)
    collector = GarbageCollector(waiting=lambda: waiting[0])
    before = gc.get_freeze_count()
    collector.start()
    del knot
    await until(lambda: gc.get_freeze_count() > before, "what is there is set aside")
    assert known() is not None
    waiting[0] = 0
    await until(lambda: known() is None, "it is freed")
    collector.stop()
