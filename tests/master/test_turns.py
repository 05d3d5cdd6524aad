"""The turns of a master's loop: what counts as a long one, and what is logged of it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from dte.logs import LINES_MAX
from dte.master.loop import MasterLoop
from dte.master.turns import LONG_S, OTHER, SAMPLED_S, Turns, turns_of

READ, WRITE = ("GET", "/job/{id}/why"), ("POST", "/jobs")


class Times:
    """Turns by a clock that a test moves."""

    def __init__(self) -> None:
        self.at = self.cpu = 100.0
        self.turns = Turns(lambda: self.at, lambda: self.cpu)

    def work(self, seconds: float) -> None:
        self.at += seconds
        self.cpu += seconds

    def turn(self, *parts: tuple[tuple[str, ...], float]) -> None:
        """A turn of these parts, each with its seconds."""
        self.turns.begin()
        for what, seconds in parts:
            self.turns.note(what)
            self.work(seconds)
        self.turns.end()
        self.work(1.0)


@pytest.fixture
def times() -> Times:
    return Times()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "dte.master"]


async def test_the_longest_turn_is_known(times: Times) -> None:
    assert times.turns.longest_s == 0.0
    for seconds in (0.01, 0.08, 0.03):
        times.turn((READ, seconds))
    assert times.turns.longest_s == pytest.approx(0.08)


async def test_a_long_turn_is_logged_with_what_took_most_of_it(
    times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    times.turn((WRITE, 0.02), (READ, 0.25), (WRITE, 0.03))
    assert warnings(caplog) == [
        "a turn of the loop took 0.300 s, 0.250 s of it for GET /job/{id}/why; "
        "nobody was served meanwhile"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert vars(caplog.records[0])["what"] == "GET /job/{id}/why"


async def test_what_is_noted_ends_where_the_next_begins(
    times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    times.turn((READ, 0.05), (OTHER, 0.15))
    assert "0.150 s of it for no request or task that is known" in warnings(caplog)[0]


async def test_a_turn_knows_nothing_of_the_one_before(
    times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    times.turn((READ, LONG_S))
    times.turns.begin()
    times.work(2 * LONG_S)
    times.turns.end()
    assert warnings(caplog)[-1].endswith("known; nobody was served meanwhile")


async def test_the_wait_between_turns_is_none(
    times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    times.turn((READ, 0.01))
    times.at += 60.0
    times.turn((READ, 0.01))
    assert times.turns.longest_s == pytest.approx(0.01)
    assert not warnings(caplog)


@pytest.mark.parametrize("paused_s", [0.3, 12.0, 86_400.0])
async def test_a_paused_process_is_no_long_turn(
    times: Times, caplog: pytest.LogCaptureFixture, paused_s: float
) -> None:
    times.turns.begin()
    times.work(0.01)
    times.at += paused_s
    times.work(0.01)
    times.turns.end()
    assert times.turns.longest_s <= 0.02 + SAMPLED_S
    assert not warnings(caplog)


async def test_a_flood_of_long_turns_does_not_fill_the_log(
    times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5 * LINES_MAX):
        times.turn((READ, 0.2))
    assert len(warnings(caplog)) == LINES_MAX


def test_a_loop_measures_its_turns(caplog: pytest.LogCaptureFixture) -> None:
    async def live() -> float:
        turns = turns_of(asyncio.get_running_loop())
        await asyncio.sleep(0.3)
        assert turns.longest_s < 0.2, "a wait is no turn"
        turns.note(READ)
        end = time.process_time() + 0.25
        while time.process_time() < end:
            pass
        await asyncio.sleep(0)
        return turns.longest_s

    with asyncio.Runner(loop_factory=MasterLoop) as runner:
        assert runner.run(live()) >= 0.25
    assert "of it for GET /job/{id}/why" in warnings(caplog)[-1]


async def test_another_loop_has_no_turns() -> None:
    turns = turns_of(asyncio.get_running_loop())
    turns.note(READ)
    assert turns.longest_s == 0.0
