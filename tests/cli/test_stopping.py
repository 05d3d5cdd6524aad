"""Requests to stop: which signal is a second one, and which belongs to the first."""

from __future__ import annotations

from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from dte.cli.stopping import SAME_STOP_S, StopRequests


def counts(*signals: tuple[Signals, float]) -> list[int]:
    requests = StopRequests()
    found = []
    for number, now in signals:
        before = requests.count
        assert requests.add(number, now) == (requests.count > before)
        found.append(requests.count)
    return found


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=str)
def test_a_signal_that_comes_again_at_once_is_the_same_stop(number: Signals) -> None:
    assert counts((number, 5.0), (number, 5.0), (number, 5.99)) == [1, 1, 1]


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=str)
def test_a_signal_that_comes_again_later_hurries(number: Signals) -> None:
    later = 5.0 + SAME_STOP_S
    assert counts((number, 5.0), (number, 5.5), (number, later)) == [1, 1, 2]


def test_a_second_signal_that_comes_twice_is_no_third() -> None:
    assert counts((SIGTERM, 5.0), (SIGTERM, 7.0), (SIGTERM, 7.1), (SIGTERM, 9.0)) == [1, 2, 2, 3]


def test_another_signal_hurries_at_once() -> None:
    assert counts((SIGTERM, 5.0), (SIGINT, 5.1), (SIGTERM, 5.2)) == [1, 2, 3]


def test_sighup_after_another_signal_does_not_hurry() -> None:
    assert counts((SIGTERM, 5.0), (SIGHUP, 5.0), (SIGHUP, 50.0)) == [1, 1, 1]
    assert counts((SIGHUP, 5.0), (SIGTERM, 7.0)) == [1, 2]


def test_a_signal_after_the_end_of_stdin_hurries() -> None:
    requests = StopRequests()
    requests.add_end_of_stdin()
    assert requests.add(SIGTERM, 5.0)
    assert requests.count == 2
    requests.add_end_of_stdin()
    assert requests.count == 2
