"""A worker and its master know each other."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from dte.worker.session import Session, headers_of, without_session


def shown(secret: str) -> str:
    return f"Bearer {secret}"


def test_each_start_has_texts_of_its_own() -> None:
    first, second = Session(), Session()
    assert first.secret != second.secret
    assert first.incarnation != second.incarnation
    assert len(first.secret) == 43


def test_only_who_shows_the_secret_is_let_in() -> None:
    session = Session()
    for wrong in ("", session.secret, f"Basic {session.secret}", shown("é"), shown("x" * 43)):
        assert not session.lets_in(wrong)
    for right in (shown(session.secret), f"bearer  {session.secret}"):
        assert session.lets_in(right)


def test_a_master_that_replies_no_session_shows_no_secret() -> None:
    session = Session()
    assert (session.is_known, session.demands) == (False, True)
    session.replied(None)
    assert (session.is_known, session.demands, session.headers) == (True, False, {})
    assert session.lets_in("")


def test_with_a_token_or_a_master_elsewhere_no_earlier_master_is_let_in() -> None:
    session = Session(serves_earlier=False)
    session.replied(None)
    assert session.is_known
    assert not session.lets_in("")


def test_a_master_that_knows_sessions_is_never_taken_for_an_earlier_one() -> None:
    session = Session()
    session.replied("S")
    session.replied(None)
    assert session.demands
    assert session.text == "S"
    assert session.headers == headers_of("S") == {"X-Dte-Session": "S"}
    earlier = Session()
    earlier.replied(None)
    earlier.replied("S")
    assert earlier.demands, "the master has been upgraded"


def test_the_proof_is_an_hmac_of_the_challenge() -> None:
    session = Session()
    proof = hmac.new(session.secret.encode(), b"challenge", hashlib.sha256).hexdigest()
    assert session.prove("challenge") == proof


@pytest.mark.parametrize("session", [Session(), without_session()])
def test_no_repr_shows_a_secret(session: Session) -> None:
    session.replied("SESSION")
    assert session.secret not in repr(session)
    assert "SESSION" not in repr(session)
