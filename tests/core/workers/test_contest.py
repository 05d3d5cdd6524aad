"""Who gets the name or the address of a worker that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dte.core.workers.contest import Contest, contest
from dte.core.workers.worker import Announcement, Claim, Delivery, Worker

LEASE_S = 10.0
TOKEN, OTHER = "token:t", "token:u"
PULLS = Announcement("w", "", incarnation="a", delivery=Delivery.PULL, session="A")
IS_CALLED = Announcement("w", "10.0.0.1:6000", incarnation="a", session="A", secret="s" * 43)
EARLIER = Announcement("w", "", incarnation="a", delivery=Delivery.PULL)
NONE, ASK, LOST = Contest.NONE, Contest.ASK, Contest.LOST


def known(said: Announcement, **more: Any) -> Worker:
    """A worker that announced itself at 0."""
    worker = Worker(said, 0.0, 0.0)
    for name, value in more.items():
        setattr(worker, name, value)
    return worker


def of(said: Announcement, worker: Worker | None, now: float = 1.0, **more: Any) -> Contest:
    return contest(now, worker, said, LEASE_S, **more)


@pytest.mark.parametrize("said", [PULLS, IS_CALLED, EARLIER])
def test_nobody_contests_a_new_name_or_a_worker_s_own(said: Announcement) -> None:
    assert of(said, None) is NONE
    assert of(said, known(said)) is NONE
    assert of(said, known(said), begins=False) is NONE


def test_a_stranger_gets_no_name_while_its_worker_gives_signs_of_life() -> None:
    stranger = replace(PULLS, incarnation="b", session="B")
    worker = known(PULLS)
    assert of(stranger, worker, 4.9) is LOST
    assert of(stranger, worker, 5.0) is NONE, "it is silent for half a lease"
    worker.claim = Claim(worker, 1)
    assert of(stranger, worker, 1000.0) is LOST, "it waits for work"


def test_a_worker_that_hung_up_without_work_may_be_replaced_at_once() -> None:
    stranger = replace(PULLS, incarnation="b", session="B")
    worker = known(PULLS, hung_up_at=0.5)
    assert of(stranger, worker) is NONE
    worker.call_leases.add(7)
    assert of(stranger, worker) is LOST, "it may still be at work"
    worker.call_leases.clear()
    worker.last_seen_at = 0.9
    assert of(stranger, worker) is LOST, "it is back"


@pytest.mark.parametrize("incarnation", ["", "b"])
def test_a_claim_without_a_session_gets_no_name_of_one_that_has_one(incarnation: str) -> None:
    assert of(replace(EARLIER, incarnation=incarnation), known(PULLS)) is LOST


@pytest.mark.parametrize("incarnation", ["", "b"])
def test_a_worker_without_sessions_keeps_its_name_while_it_is_at_work(incarnation: str) -> None:
    other = replace(EARLIER, incarnation=incarnation)
    assert of(other, known(EARLIER)) is NONE
    worker = known(EARLIER, call_leases={7})
    assert of(other, worker) is LOST
    assert of(other, worker, 5.0) is NONE
    worker.announcement = replace(EARLIER, draining=True)
    assert of(other, worker) is NONE


def test_an_address_is_asked_which_process_listens_there() -> None:
    for other in (
        replace(IS_CALLED, incarnation="b", session="B", secret="t" * 43),
        replace(IS_CALLED, incarnation="", session="", secret=""),
        replace(IS_CALLED, name="another", session="B"),
    ):
        assert of(other, known(IS_CALLED), 1000.0) is ASK
        assert of(other, known(IS_CALLED, gone=True)) is NONE


def test_only_its_own_session_lets_a_worker_drain() -> None:
    for said in (PULLS, IS_CALLED):
        own = replace(said, draining=True)
        assert of(own, known(said)) is NONE
        assert of(replace(own, session=""), known(said)) is LOST
        assert of(replace(own, session="B"), known(said)) is LOST


def test_a_restart_under_the_same_token_gets_the_name_at_once() -> None:
    for said in (replace(PULLS, owner=TOKEN), replace(IS_CALLED, owner=TOKEN)):
        new = replace(said, incarnation="b", session="B")
        assert of(new, known(said)) is NONE


def test_a_process_that_had_a_session_does_not_take_the_name_back() -> None:
    """Two workers of one name and token would take each other's calls away for ever."""
    said = replace(PULLS, owner=TOKEN)
    second = replace(said, incarnation="b", session="B")
    assert of(said, known(second), begins=False) is LOST
    assert of(said, known(second, gone=True), begins=False) is NONE


def test_another_token_never_gets_a_worker_that_is_alive() -> None:
    for said in (replace(PULLS, owner=TOKEN), replace(IS_CALLED, owner=TOKEN)):
        for owner in ("", "10.0.0.9", OTHER):
            other = replace(said, owner=owner, incarnation="b", session="B")
            assert of(other, known(said)) is LOST
            assert of(other, known(said, gone=True)) is NONE
    dialect = replace(EARLIER, owner=TOKEN, dialect="queue", incarnation="")
    assert of(replace(dialect, owner=OTHER), known(dialect)) is LOST


def test_a_worker_without_a_session_is_no_bar_to_one_that_has_one() -> None:
    """A program that anybody may announce must not keep a worker from its address."""
    seed = replace(IS_CALLED, session="", secret="", incarnation="")
    assert of(replace(IS_CALLED, owner=TOKEN), known(seed)) is NONE
    assert of(replace(seed, owner=TOKEN), known(seed)) is NONE
