"""The settings of the clock over time."""

from __future__ import annotations

from torture.chaos.effects.clock import ClockHistory

NOON = 1_000_000.0


def test_a_time_is_reached_by_the_right_clock_or_by_one_that_is_ahead() -> None:
    clock = ClockHistory(NOON, now=0.0)
    assert clock.reached(NOON + 5, since=0.0, until=5.0)
    assert not clock.reached(NOON + 5, since=0.0, until=4.9)
    clock.set(100.0, now=2.0)
    clock.set(0.0, now=3.0)
    assert clock.reached(NOON + 50, since=0.0, until=10.0)
    assert not clock.reached(NOON + 50, since=4.0, until=10.0)
    assert not clock.reached(NOON + 50, since=0.0, until=1.0)


def test_a_clock_that_was_set_is_known() -> None:
    clock = ClockHistory(NOON, now=0.0)
    clock.set(-100.0, now=2.0)
    clock.set(0.0, now=3.0)
    assert clock.was_set(0.0, 2.5)
    assert not clock.was_set(0.0, 1.9)
    assert not clock.was_set(3.5, 9.0)
