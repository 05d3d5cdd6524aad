"""Logins of browsers: a cookie in place of a token, and links that set one.

They are in memory alone, so a restart of the master ends them. A session ends with its token.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dte.master.access.tokens import Token, Tokens, hash_of

COOKIE = "dte_session"
SESSION_S = 30 * 86_400.0
LINK_S = 60.0
KEPT_MAX = 1_000
"""Sessions, and links, that are kept; beyond it the oldest goes."""
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Token
    until: float


class Logins:
    """The sessions of a master's browsers.

    Args:
        clock: gives seconds.
    """

    def __init__(self, tokens: Tokens, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._clock = clock
        self._sessions: dict[str, _Kept] = {}
        self._links: dict[str, _Kept] = {}

    def begin(self, token: Token) -> str:
        """Begin a session, and return the value of its cookie."""
        return self._keep(self._sessions, token, SESSION_S)

    def find(self, cookie: str, wall_s: float) -> Token | None:
        """The token of a session; None if there is none, or if its token is valid no longer."""
        return self._valid(self._sessions.get(hash_of(cookie)), wall_s)

    def end(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(hash_of(cookie), None)

    def link(self, token: Token) -> str:
        """Return the code of a link that begins a session once, within `LINK_S`."""
        return self._keep(self._links, token, LINK_S)

    def follow(self, code: str, wall_s: float) -> Token | None:
        """The token of a link, which is used up; None if it is unknown, used or too old."""
        return self._valid(self._links.pop(hash_of(code), None), wall_s)

    def _keep(self, kept: dict[str, _Kept], token: Token, for_s: float) -> str:
        if len(kept) >= KEPT_MAX:
            del kept[next(iter(kept))]
        secret = secrets.token_urlsafe(SECRET_BYTES)
        kept[hash_of(secret)] = _Kept(token, self._clock() + for_s)
        return secret

    def _valid(self, kept: _Kept | None, wall_s: float) -> Token | None:
        if kept is None or self._clock() >= kept.until:
            return None
        token = self._tokens.named(kept.token.name, wall_s)
        # Another token of the same name is another secret.
        return token if token is not None and token.sha256 == kept.token.sha256 else None
