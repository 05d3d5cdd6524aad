"""The record of harms."""

from __future__ import annotations

from torture.chaos.harms import MASTER, Harms, Kind


def test_a_harm_is_found_in_its_time_and_for_its_node() -> None:
    harms = Harms()
    harms.over(harms.begin(Kind.STOPPED, "w1", 10.0), 12.0)
    assert [harm.kind for harm in harms.to("w1", 11.0, 20.0)] == [Kind.STOPPED]
    assert [*harms.to("w1", 12.5, 20.0)] == []
    assert [*harms.to("w1", 0.0, 9.5)] == []
    assert [*harms.to("w2", 0.0, 20.0)] == []
    assert [*harms.to("w1", 0.0, 20.0, (Kind.KILLED,))] == []


def test_that_everything_is_late_harms_every_node() -> None:
    harms = Harms()
    harms.over(harms.begin(Kind.LATE, "", 10.0), 11.0)
    assert [harm.kind for harm in harms.to("w2", 0.0, 20.0)] == [Kind.LATE]


def test_a_node_is_present_but_for_its_stops_and_deaths() -> None:
    harms = Harms()
    harms.over(harms.begin(Kind.STOPPED, MASTER, 2.0), 5.0)
    harms.begin(Kind.KILLED, MASTER, 4.0)
    assert harms.presence_s(MASTER, 0.0, 10.0) == 2.0
    harms.revived(MASTER, 7.0)
    assert harms.presence_s(MASTER, 0.0, 10.0) == 5.0
    assert harms.presence_s(MASTER, 5.0, 6.0) == 0.0
    assert harms.presence_s("w1", 0.0, 10.0) == 10.0


def test_a_node_that_begins_another_life_is_not_stopped_any_more() -> None:
    harms = Harms()
    harms.begin(Kind.STOPPED, "w1", 2.0)
    harms.revived("w1", 3.0)
    assert [*harms.to("w1", 4.0, 5.0)] == []
