"""Shares: nobody but the machine's own user takes more than half of a bound."""

from __future__ import annotations

import pytest

from dte.core.errors import Busy, TooLarge
from dte.core.shares import OWN_USER, Shares


def make_shares(most: int = 10) -> Shares:
    return Shares("unfinished jobs", "jobs_waiting_max", most)


def test_an_owner_has_half_and_another_one_the_other_half() -> None:
    shares = make_shares()
    for owner in ("10.0.0.5", "10.0.0.6"):
        for _ in range(5):
            shares.ensure_room(owner)
            shares.add(owner)
        with pytest.raises(Busy):
            shares.ensure_room(owner)
        assert shares.used(owner) == 5


def test_the_error_names_the_bound_the_share_and_the_use() -> None:
    shares = make_shares(11)
    shares.add("10.0.0.5", 4)
    text = (
        r"^10\.0\.0\.5 has 4 unfinished jobs and asks for 2 more; its share is 5, half of 11 "
        r"\(jobs_waiting_max\)$"
    )
    with pytest.raises(Busy, match=text):
        shares.ensure_room("10.0.0.5", 2)


def test_what_is_more_than_a_share_is_never_possible() -> None:
    with pytest.raises(TooLarge, match="has 0 unfinished jobs and asks for 6 more; its share is 5"):
        make_shares().ensure_room("10.0.0.5", 6)


def test_the_machine_s_own_user_may_fill_all() -> None:
    shares = make_shares()
    shares.add(OWN_USER, 1_000)
    shares.ensure_room(OWN_USER, 1_000)
    assert shares.used(OWN_USER) == 0


def test_what_is_given_back_is_free_again_and_nothing_is_kept_of_its_owner() -> None:
    shares = make_shares()
    shares.add("10.0.0.5", 5)
    shares.remove("10.0.0.5", 2)
    shares.ensure_room("10.0.0.5", 2)
    shares.remove("10.0.0.5", 3)
    assert shares._used == {}


def test_of_a_bound_of_one_everybody_may_have_it() -> None:
    make_shares(1).ensure_room("10.0.0.5")
