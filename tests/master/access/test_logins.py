"""A cookie stands for a token, and ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dte.master.access import logins
from dte.master.access.logins import LINK_S, SESSION_S, Logins
from dte.master.access.tokens import Role, TokenFile, Tokens


class Office:
    """A file of tokens, and the sessions of a master that uses it."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.file = TokenFile(str(folder / "dte.tokens"))
        self.secret = self.file.new(Role.READER, "anna")
        self.tokens = Tokens(self.file.path, lambda: self.now)
        self.logins = Logins(self.tokens, lambda: self.now)
        token = self.tokens.find(self.secret, 0.0)
        assert token is not None
        self.token = token


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_session_is_found_by_its_cookie_until_it_ends(office: Office) -> None:
    cookie = office.logins.begin(office.token)
    assert office.logins.find(cookie, 0.0) == office.token
    assert office.logins.find(cookie + "x", 0.0) is None
    assert office.logins.find(office.secret, 0.0) is None
    office.logins.end(cookie)
    assert office.logins.find(cookie, 0.0) is None


def test_a_session_ends_by_its_age(office: Office) -> None:
    cookie = office.logins.begin(office.token)
    office.now = SESSION_S
    assert office.logins.find(cookie, 0.0) is None


def test_a_session_ends_with_its_token(office: Office) -> None:
    cookie = office.logins.begin(office.token)
    office.file.remove("anna")
    office.file.new(Role.ADMIN, "anna")
    office.now = 2.0
    assert office.logins.find(cookie, 0.0) is None


def test_a_link_works_once_and_for_a_minute(office: Office) -> None:
    code = office.logins.link(office.token)
    assert office.logins.find(code, 0.0) is None
    assert office.logins.follow(code, 0.0) == office.token
    assert office.logins.follow(code, 0.0) is None
    late = office.logins.link(office.token)
    office.now = LINK_S
    assert office.logins.follow(late, 0.0) is None


def test_the_oldest_session_goes_first(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "KEPT_MAX", 2)
    cookies = [office.logins.begin(office.token) for _ in range(3)]
    found = [office.logins.find(cookie, 0.0) is not None for cookie in cookies]
    assert found == [False, True, True]
