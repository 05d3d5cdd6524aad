"""What explains that a call was begun again, and what does not."""

from __future__ import annotations

import pytest
from torture.chaos.effects.begun import Begun
from torture.chaos.effects.causes import Causes
from torture.chaos.effects.holds import SUCCEEDED, Hold
from torture.chaos.effects.marks import Mark, What
from torture.chaos.harms import MASTER, Harms, Kind

LEASE_S, PID = 2.0, 99
HANDED, RENEWED, AGAIN = 100.0, 101.0, 110.0


@pytest.fixture
def harms() -> Harms:
    return Harms()


def hold(said: str = "", accepted_at: float | None = None) -> Hold:
    return Hold(1, 1, "a", "w1", HANDED, [RENEWED], said, accepted_at)


def cause(
    harms: Harms, held: Hold, until: float = AGAIN, raised_at: float | None = None
) -> str | None:
    mark = Mark("effect-1/a", What.BEGUN, HANDED, held.lease, held.worker, PID)
    return Causes(harms, LEASE_S).of(held, Begun(mark, held, raised_at), until)


def had(harms: Harms, kind: Kind, name: str, since: float, until: float) -> None:
    harms.over(harms.begin(kind, name, since), until)


def test_nothing_explains_it_where_nothing_was_done(harms: Harms) -> None:
    assert cause(harms, hold()) is None


@pytest.mark.parametrize("kind", [Kind.KILLED, Kind.ENDED])
def test_the_end_of_its_worker_explains_it(harms: Harms, kind: Kind) -> None:
    had(harms, kind, "w1", 103.0, 104.0)
    assert cause(harms, hold()) == "worker lost"


def test_the_end_of_another_worker_does_not(harms: Harms) -> None:
    had(harms, Kind.KILLED, "w2", 103.0, 104.0)
    assert cause(harms, hold()) is None


def test_an_end_of_its_worker_before_or_after_does_not(harms: Harms) -> None:
    had(harms, Kind.KILLED, "w1", 90.0, 92.0)
    had(harms, Kind.KILLED, "w1", 111.0, 112.0)
    assert cause(harms, hold()) is None


@pytest.mark.parametrize("kind", [Kind.STOPPED, Kind.KILLED, Kind.ENDED])
def test_an_absence_of_the_master_does_not(harms: Harms, kind: Kind) -> None:
    had(harms, kind, MASTER, 101.5, 109.0)
    assert cause(harms, hold()) is None


@pytest.mark.parametrize("kind", [Kind.STOPPED, Kind.CUT])
def test_the_silence_of_its_worker_explains_it(harms: Harms, kind: Kind) -> None:
    had(harms, kind, "w1", 104.0, 109.0)
    assert cause(harms, hold()) == "worker silent"


def test_a_silence_in_the_absence_of_the_master_does_not(harms: Harms) -> None:
    had(harms, Kind.STOPPED, "w1", 104.0, 109.0)
    had(harms, Kind.STOPPED, MASTER, 101.5, 109.5)
    assert cause(harms, hold()) is None


def test_a_silence_that_is_shorter_than_a_lease_does_not(harms: Harms) -> None:
    had(harms, Kind.STOPPED, "w1", 104.0, 104.5)
    held = hold()
    held.renewed = [101.0, 102.0, 103.0, 104.4]
    assert cause(harms, held, until=105.5) is None


def test_a_silence_explains_it_although_a_master_said_later_that_the_lease_goes_on(
    harms: Harms,
) -> None:
    had(harms, Kind.STOPPED, "w1", 101.2, 104.0)
    held = hold()
    held.renewed = [RENEWED, 109.5]
    assert cause(harms, held) == "worker silent"


def test_what_was_done_to_a_worker_when_the_call_was_lost_already_does_not(harms: Harms) -> None:
    had(harms, Kind.STOPPED, "w1", 104.0, 109.0)
    held = hold()
    held.lost_at = 102.0
    assert cause(harms, held) is None


def test_a_connection_that_broke_as_it_was_handed_over_explains_it(harms: Harms) -> None:
    had(harms, Kind.CUT, "w1", 100.1, 100.3)
    assert cause(harms, hold(), until=100.9) == "connection broken"


def test_a_connection_that_broke_long_after_does_not(harms: Harms) -> None:
    had(harms, Kind.CUT, "w1", 105.0, 105.2)
    held = hold()
    held.renewed = [101.0, 102.0, 103.0, 104.0, 105.1]
    assert cause(harms, held, until=106.0) is None


def test_a_failure_explains_it(harms: Harms) -> None:
    assert cause(harms, hold("failed", 103.0)) == "retried"


def test_a_failure_explains_it_although_its_acknowledgement_was_not_seen(harms: Harms) -> None:
    assert cause(harms, hold(), raised_at=103.0) == "retried"
    assert cause(harms, hold(), raised_at=AGAIN + 1) is None


def test_a_failure_that_was_lost_with_its_worker_is_no_failure(harms: Harms) -> None:
    had(harms, Kind.KILLED, "w1", 103.1, 104.0)
    assert cause(harms, hold(), raised_at=103.0) == "worker lost"


def test_the_end_of_its_process_explains_it_as_a_failure_does(harms: Harms) -> None:
    harms.processes[PID] = 103.0
    assert cause(harms, hold()) == "retried"


def test_an_acknowledged_success_excuses_nothing(harms: Harms) -> None:
    had(harms, Kind.KILLED, "w1", 104.0, 105.0)
    assert cause(harms, hold(SUCCEEDED, 103.0)) is None


def test_a_report_that_came_after_it_was_given_away_is_none(harms: Harms) -> None:
    had(harms, Kind.KILLED, "w1", 104.0, 105.0)
    assert cause(harms, hold(SUCCEEDED, 112.0)) == "worker lost"


def test_a_call_is_returned_only_by_a_worker_that_ends(harms: Harms) -> None:
    assert cause(harms, hold("returned", 103.0)) is None
    had(harms, Kind.ENDED, "w1", 102.0, 104.0)
    assert cause(harms, hold("returned", 103.0)) == "returned"


def test_a_process_is_lost_only_if_it_was_killed(harms: Harms) -> None:
    assert cause(harms, hold("lost", 103.0)) is None
    harms.processes[PID] = 102.0
    assert cause(harms, hold("lost", 103.0)) == "process lost"


def test_that_a_worker_stopped_a_call_that_nobody_cancelled_explains_nothing(harms: Harms) -> None:
    had(harms, Kind.STOPPED, "w1", 101.0, 102.0)
    assert cause(harms, hold("cancelled", 103.0)) is None
