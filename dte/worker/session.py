"""The session of a worker: by what the worker and its master know each other.

The worker shows the master its session, which the master has replied. Whoever calls the worker
shows its secret, which the worker has announced.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

HEADER = "X-Dte-Session"


class Session:
    """One start of a worker.

    A master of an earlier release replies no session, and shows no secret. Such a master is let in
    as long as no reply has had a session: a newer one is never taken for an older.

    Args:
        serves_earlier: masters of earlier releases are let in: the worker's is on this machine, and
            the worker has no token for it.

    Attributes:
        incarnation, secret: texts that differ for each start, and that nobody else is shown.
        is_known: the master has replied, so the worker has its session if there is one.
        demands: whoever calls the worker must show the secret.
    """

    def __init__(self, serves_earlier: bool = True) -> None:
        self._serves_earlier = serves_earlier
        self.incarnation = secrets.token_hex(16)
        self.secret = secrets.token_urlsafe(32)
        self.is_known = False
        self.demands = True
        self._session = ""

    def __repr__(self) -> str:
        return f"Session(is_known={self.is_known})"

    @property
    def text(self) -> str:
        """The session; "" if there is none, or none yet."""
        return self._session

    def replied(self, session: str | None) -> None:
        """Take in the session of a reply to an announcement or a claim; None for none."""
        self.is_known = True
        if session:
            self._session, self.demands = session, True
        elif not self._session:
            self.demands = not self._serves_earlier

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by which the master knows the worker."""
        return headers_of(self._session)

    def lets_in(self, authorization: str) -> bool:
        """True if a caller with this header Authorization may use the worker."""
        if not self.demands:
            return True
        scheme, _, shown = authorization.partition(" ")
        is_shown = hmac.compare_digest(shown.strip().encode(), self.secret.encode())
        return is_shown and scheme.lower() == "bearer"

    def prove(self, challenge: str) -> str:
        """Return what only the owner of the secret can reply to a challenge."""
        return hmac.digest(self.secret.encode(), challenge.encode(), "sha256").hex()


def headers_of(session: str) -> Mapping[str, str]:
    """The headers that show a session; "" for none."""
    return {HEADER: session} if session else {}


def without_session() -> Session:
    """The session of a worker whose master has replied that it knows none."""
    session = Session()
    session.incarnation = ""
    session.replied(None)
    return session
