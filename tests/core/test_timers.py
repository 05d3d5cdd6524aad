"""Timers: items come at their moments, in order, unless they are stale."""

from __future__ import annotations

from random import Random

from dte.core.timers import Timers


def test_items_come_at_their_moments_in_any_order_of_being_added() -> None:
    timers: Timers[str] = Timers(lambda item, moment: True)
    for moment, item in ((3.0, "c"), (1.0, "a"), (3.0, "d"), (2.0, "b")):
        timers.add(moment, item)
    assert timers.next_moment() == 1.0
    assert list(timers.due(0.9)) == []
    assert list(timers.due(2.0)) == ["a", "b"]
    assert sorted(timers.items()) == ["c", "d"]
    assert list(timers.due(9.0)) == ["c", "d"]
    assert timers.next_moment() is None
    assert list(timers.due(99.0)) == []


def test_stale_entries_are_neither_given_nor_waited_for() -> None:
    waits = {"a": 5.0, "b": 2.0}
    timers: Timers[str] = Timers(lambda item, moment: waits.get(item) == moment)
    for moment, item in ((3.0, "a"), (5.0, "a"), (1.0, "b"), (2.0, "b"), (4.0, "gone")):
        timers.add(moment, item)
    assert timers.next_moment() == 2.0
    assert list(timers.due(4.5)) == ["b"]
    assert timers.items() == ["a"]
    del waits["a"]
    assert timers.next_moment() is None


def test_an_item_that_becomes_stale_while_others_are_given_is_left_out() -> None:
    stale: set[str] = set()
    timers: Timers[str] = Timers(lambda item, moment: item not in stale)
    for item in "abc":
        timers.add(1.0, item)
    given = []
    for item in timers.due(1.0):
        given.append(item)
        stale.add("b")
    assert given == ["a", "c"]


def test_many_items_come_in_the_order_of_their_moments() -> None:
    random = Random(7)
    timers: Timers[float] = Timers(lambda item, moment: True)
    moments = [random.choice((random.random(), number / 1000)) for number in range(1000)]
    for moment in moments:
        timers.add(moment, moment)
    given: list[float] = []
    for now in (0.1, 0.1, 0.5, 2.0):
        given += timers.due(now)
    assert given == sorted(moments)
