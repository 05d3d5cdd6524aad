"""The time of a master's loop: it stands still while the loop does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from dte.master import loop as loops
from dte.master.loop import TURN_S, WAIT_S, LoopTime, MasterLoop
from dte.master.turns import Turns


class Stopwatch:
    """A monotonic clock that a test moves, and the time that follows from it."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.time = LoopTime(lambda: self.at)

    def passes(self, seconds: float) -> float:
        """Let time pass in a wait or in what follows it; how much of it counts."""
        before = self.time.now()
        self.at += seconds
        self.time.turn()
        return self.time.now() - before


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


def test_time_passes_as_the_loop_turns(stopwatch: Stopwatch) -> None:
    assert stopwatch.time.now() == 1_000.0
    counted = sum(stopwatch.passes(seconds) for seconds in (0.001, WAIT_S, 0.0, TURN_S, 0.1))
    assert counted == pytest.approx(0.001 + WAIT_S + TURN_S + 0.1)
    assert stopwatch.time.now() == pytest.approx(stopwatch.at)


@pytest.mark.parametrize("pause_s", [0.3, 1.0, 12.0, 60.0, 86_400.0])
def test_of_a_pause_no_more_passes_than_of_a_turn(stopwatch: Stopwatch, pause_s: float) -> None:
    assert stopwatch.passes(pause_s) == pytest.approx(TURN_S)
    assert stopwatch.passes(0.1) == pytest.approx(0.1), "it goes on"


def test_time_stands_still_within_a_turn_that_is_long(stopwatch: Stopwatch) -> None:
    """What is asked for the time meanwhile must not find any deadline passed."""
    for _ in range(10):
        stopwatch.at += 0.2
        assert stopwatch.time.now() <= 1_000.0 + TURN_S


def test_time_never_goes_back(stopwatch: Stopwatch) -> None:
    last = stopwatch.time.now()
    for seconds in (0.1, 5.0, 0.0, 0.2, 0.3, 60.0, 0.01):
        stopwatch.at += seconds
        assert stopwatch.time.now() >= last
        stopwatch.time.turn()
        assert stopwatch.time.now() >= last
        last = stopwatch.time.now()


def test_short_pauses_in_a_row_end_a_lease_only_over_many_turns(stopwatch: Stopwatch) -> None:
    turns = 0
    while stopwatch.time.now() < 1_015.0:
        stopwatch.passes(0.9)
        turns += 1
    assert turns >= 60


def test_a_slow_loop_keeps_nothing_alive_for_ever(stopwatch: Stopwatch) -> None:
    began_at = stopwatch.at
    while stopwatch.time.now() < 1_015.0:
        stopwatch.passes(1.0)
    assert stopwatch.at - began_at <= 15.0 * 1.0 / TURN_S + 1


# The loop


@pytest.fixture
def loop() -> Iterator[MasterLoop]:
    with asyncio.Runner(loop_factory=MasterLoop) as runner:
        made = runner.get_loop()
        assert isinstance(made, MasterLoop)
        yield made


def test_what_came_during_a_pause_is_read_before_deadlines_pass(loop: MasterLoop) -> None:
    ours, theirs = socket.socketpair()
    events: list[str] = []

    async def live() -> None:
        done = asyncio.Event()

        def read() -> None:
            events.append(ours.recv(9).decode())

        def deadline() -> None:
            events.append("deadline")
            done.set()

        loop.add_reader(ours, read)
        loop.call_later(0.6, deadline)
        await asyncio.sleep(0)
        theirs.send(b"alive")
        time.sleep(1.0)
        await done.wait()
        loop.remove_reader(ours)

    with ours, theirs:
        loop.run_until_complete(live())
    assert events == ["alive", "deadline"]


@pytest.mark.parametrize(
    ("pause_s", "looks"), [(0.0, 1), (0.01, 1), (0.05, 2), (0.2, 2), (12.0, 2)]
)
def test_a_wait_that_was_longer_than_it_was_to_be_is_followed_by_another_look(
    pause_s: float, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause ends the wait, too, without what came meanwhile; then deadlines are looked at."""
    at, asked = [1_000.0], []

    def select(_: object, timeout: float) -> list[object]:
        at[0] += timeout + (0.0 if asked else pause_s)
        asked.append(timeout)
        return []

    monkeypatch.setattr(loops.DefaultSelector, "select", select)
    with closing(loops._Selector(LoopTime(lambda: at[0]), Turns())) as selector:
        assert selector.select(0.1) == []
    assert asked == [0.1, 0][:looks]


def test_a_loop_with_nothing_to_do_keeps_time(loop: MasterLoop) -> None:
    async def wait() -> float:
        began_at = loop.time()
        await asyncio.sleep(3 * WAIT_S)
        return loop.time() - began_at

    assert 3 * WAIT_S <= loop.run_until_complete(wait()) < 3 * WAIT_S + 2 * TURN_S
