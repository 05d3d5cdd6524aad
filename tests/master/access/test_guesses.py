"""Wrong tokens are slowed down by address."""

from __future__ import annotations

import pytest

from dte.master.access import guesses
from dte.master.access.guesses import FORGET_S, FREE, PAUSE_FIRST_S, PAUSE_MAX_S, Guesses


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_pause_doubles_up_to_a_bound() -> None:
    known = Guesses(Time())
    pauses = [known.wrong("a") for _ in range(FREE + 10)]
    assert pauses[:FREE] == [0.0] * FREE
    assert pauses[FREE : FREE + 3] == [PAUSE_FIRST_S, 2 * PAUSE_FIRST_S, 4 * PAUSE_FIRST_S]
    assert pauses[-1] == PAUSE_MAX_S


def test_others_are_not_slowed_down() -> None:
    known = Guesses(Time())
    for _ in range(20):
        known.wrong("a")
    assert known.wrong("b") == 0.0


def test_wrong_tokens_are_forgotten() -> None:
    time = Time()
    known = Guesses(time)
    for _ in range(FREE + 1):
        known.wrong("a")
    known.over("a")
    time.now += FORGET_S + 1
    assert known.wrong("a") == 0.0


def test_few_refusals_of_an_address_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "WAITING_MAX", 2)
    known = Guesses(Time())
    for _ in range(FREE):
        known.wrong("a")
    assert [known.wrong("a") is None for _ in range(4)] == [False, False, True, True]
    known.over("a")
    assert known.wrong("a") is not None


def test_few_addresses_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "ADDRESSES_MAX", 3)
    known = Guesses(Time())
    for _ in range(FREE + 1):
        known.wrong("first")
    for number in range(3):
        known.wrong(str(number))
    assert known.wrong("first") == 0.0  # It was forgotten for the others.
