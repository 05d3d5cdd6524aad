"""Sessions are made from what a worker says of itself, and kept nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dte.core.errors import InvalidRequest
from dte.core.workers.worker import Announcement, Delivery, Worker
from dte.master.sessions import SESSION, Sessions, checked, digest_of, is_of_another_token

SAID = Announcement("w", "", incarnation="a", delivery=Delivery.PULL)
SESSION_OF_BEFORE = "b" * 43


def known(said: Announcement) -> Worker:
    return Worker(said, 0.0, 0.0)


def test_a_lost_reply_is_replied_again() -> None:
    sessions = Sessions()
    said, session = sessions.open(SAID, "", None)
    assert SESSION.fullmatch(session)
    assert said.session == digest_of(session) != session
    assert sessions.open(SAID, "", known(said)) == (said, session)


@pytest.mark.parametrize(
    "other",
    [
        replace(SAID, incarnation="b"),
        replace(SAID, name="v"),
        replace(SAID, owner="token:t"),
        replace(SAID, address="h:1", delivery=Delivery.PUSH),
    ],
)
def test_any_other_start_gets_another_session(other: Announcement) -> None:
    sessions = Sessions()
    first, second = sessions.open(SAID, "", None), sessions.open(other, "", None)
    assert first[1] != second[1]
    assert first[0].session != second[0].session


def test_who_does_not_tell_starts_apart_gets_a_new_session_each_time() -> None:
    sessions, said = Sessions(), replace(SAID, incarnation="")
    assert sessions.open(said, "", None)[1] != sessions.open(said, "", None)[1]


def test_a_session_is_another_with_another_token() -> None:
    sessions = Sessions()
    said, session = sessions.open(replace(SAID, owner="token:a"), "", None)
    assert said.session == digest_of(session, "a")
    assert sessions.open(said, session, None) == (said, session)
    for token in ("token:b", ""):
        stolen, _ = sessions.open(replace(SAID, owner=token), session, None)
        assert stolen.session != said.session
    assert is_of_another_token(said.session, digest_of(session, "b"))
    for shown in (said.session, digest_of("c" * 43, "b"), digest_of(session), ""):
        assert not is_of_another_token(said.session, shown)


def test_two_masters_make_different_sessions() -> None:
    assert Sessions().open(SAID, "", None)[1] != Sessions().open(SAID, "", None)[1]


def test_a_worker_brings_its_session_along_when_the_master_has_been_restarted() -> None:
    sessions = Sessions()
    said, session = sessions.open(SAID, SESSION_OF_BEFORE, None)
    assert (said.session, session) == (digest_of(SESSION_OF_BEFORE), SESSION_OF_BEFORE)
    late, unknown = sessions.open(SAID, "", known(said))
    assert (late, unknown) == (said, ""), "a request from before it had its session comes late"


def test_a_worker_that_leaves_is_given_no_session() -> None:
    said, session = Sessions().open(replace(SAID, draining=True), "", None)
    assert (said.session, session) == ("", "")


@pytest.mark.parametrize("session", ["a", "b" * 42, "b" * 44, "b" * 42 + "é", "b" * 42 + "\n"])
def test_what_no_master_makes_is_no_session(session: str) -> None:
    with pytest.raises(InvalidRequest, match="X-Dte-Session"):
        checked(session)
