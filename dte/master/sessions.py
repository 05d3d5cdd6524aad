"""Sessions: each start of a worker has one, and shows it in the requests that only it may make.

A session is a text that the master makes, and the core knows its SHA-256, with the token that it
was opened with: with another one it is another session. A worker whose reply was lost announces
itself again and gets the same text, as that follows from what it says of itself. The text is kept
nowhere: after a restart of the master the worker brings it along.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import replace

from dte.core.errors import InvalidRequest
from dte.core.workers.worker import Announcement, Worker

HEADER = "X-Dte-Session"
SESSION = re.compile(r"[A-Za-z0-9_-]{43}")
"""256 bits in Base64."""


def digest_of(session: str, token: str = "") -> str:
    """The SHA-256 of a session, and its token; "" for no session.

    Args:
        token: that of the worker, as `Announcement` has it.
    """
    if not session:
        return ""
    digest = hashlib.sha256(session.encode()).hexdigest()
    return f"{digest} {token}" if token else digest


def is_of_another_token(digest: str, shown: str) -> bool:
    """True if two digests are of one session, with different tokens."""
    (session, _, token), (same, _, other) = digest.partition(" "), shown.partition(" ")
    return session == same and bool(token and other) and token != other


def checked(session: str) -> str:
    """Check the form of a session that a request shows; "" is none.

    Raises:
        InvalidRequest: no master makes such a session.
    """
    if session and SESSION.fullmatch(session) is None:
        raise InvalidRequest(f"{HEADER} must be the session that the master replied")
    return session


class Sessions:
    """Makes sessions."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def open(
        self, said: Announcement, shown: str, known: Worker | None
    ) -> tuple[Announcement, str]:
        """Give an announcement its session.

        Args:
            shown: the session that its request shows; "" if it shows none.
            known: the worker that is known by the identity of the announcement.

        Returns:
            The announcement with the session's digest, and the session for the reply; "" if that
            is not known.
        """
        if shown or said.draining:
            return replace(said, session=digest_of(shown, said.token)), shown
        session = self._session_of(said)
        digest = digest_of(session, said.token)
        had = known.announcement if known is not None else None
        if had is not None and had.session not in ("", digest) and _is_same_start(had, said):
            # It was sent before the first reply, and a restart of the master has come between.
            return replace(said, session=had.session), ""
        return replace(said, session=digest), session

    def _session_of(self, said: Announcement) -> str:
        if not said.incarnation:
            return secrets.token_urlsafe(32)
        parts = (said.token, said.identity, said.name, said.incarnation)
        text = "\0".join(parts).encode()
        return urlsafe_b64encode(hmac.digest(self._key, text, "sha256")).rstrip(b"=").decode()


def _is_same_start(had: Announcement, said: Announcement) -> bool:
    is_same = (had.token, had.name, had.incarnation) == (said.token, said.name, said.incarnation)
    return bool(said.incarnation) and is_same
