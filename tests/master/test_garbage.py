from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from wire.until import until

from dte.master import garbage
from dte.master.garbage import GarbageCollector

from .rig import Rig, StartMaster


class Knot:
    """Refers to itself, so that only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    """Python's own, which are to be there again after each test."""
    before = gc.get_threshold()
    yield before
    assert gc.get_threshold() == before


async def test_a_running_master_does_not_look_through_all_objects_at_any_moment(rig: Rig) -> None:
    assert gc.get_threshold()[2] == garbage.NEVER
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(100_000)]
    assert gc.get_stats()[2]["collections"] == before
    del kept


async def test_after_stopping_python_decides_again(rig: Rig) -> None:
    await rig.server.stop()
    assert gc.get_threshold()[2] < garbage.NEVER


async def test_of_several_masters_the_last_one_leaves_it_to_python(
    rig: Rig, start_master: StartMaster
) -> None:
    other = await start_master()
    await rig.server.stop()
    await rig.server.stop()
    assert gc.get_threshold()[2] == garbage.NEVER
    await other.server.stop()
    assert gc.get_threshold()[2] < garbage.NEVER


async def test_young_objects_are_looked_through_as_ever(thresholds: tuple[int, int, int]) -> None:
    collector = GarbageCollector()
    collector.start()
    assert gc.get_threshold()[:2] == thresholds[:2]
    collector.stop()


async def test_old_garbage_is_freed_in_the_end(
    thresholds: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "EVERY_S", 0.001)
    knot = Knot()
    gc.collect()
    known = weakref.ref(knot)
    collector = GarbageCollector()
    collector.start()
    del knot
    await until(lambda: known() is None, "it is freed")
    collector.stop()


async def test_stopping_what_was_not_started_changes_nothing(
    thresholds: tuple[int, int, int],
) -> None:
    GarbageCollector().stop()
