"""Requests to the master, on a connection that is kept alive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus

from dte.core.errors import Unauthorized
from dte.logs import one_line
from dte.wire.access import Access
from dte.wire.codec import Decoder, Malformed
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection, Reply
from dte.wire.messages.batches import Refusal

log = logging.getLogger("dte.worker")

TIMEOUT_S = 10.0
"""The timeout of a request; the answer may have to wait for a slow disk."""
BYTES_A_S = 1_000_000
"""The timeout grows with the body: a busy master reads a long one slowly, and one that is sent
again delays all others."""

PAUSE_FIRST_S = 0.1
REMIND_EVERY_S = 60.0
"""The time after which a token that is still refused is logged again."""
REASON_CHARS_MAX = 500
PASSING = (401, 408, 421, 425, 429)
"""Statuses of replies, besides 5xx, after which the same request may be accepted later."""
LOST_WAY = (400, 403, 404, 405)
"""Statuses of proxies that lead elsewhere; they say nothing of a request."""
NEEDS_TLS = b'"code": "tls"'
"""In the reply to plain HTTP of a port that speaks TLS."""
TOKEN_ADVICE = (
    "a worker takes its token from DTE_TOKEN, or from a file that DTE_TOKEN_FILE or --token-file "
    "names; dte token new worker NAME makes one"
)


_refusal: Decoder[Refusal] = Decoder(Refusal)


class MasterAway(OSError):
    """The master cannot be reached, or cannot take the request now. The text gives the reason."""


class Refused(ValueError):
    """The master refuses the request for good. The text gives the reason."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def _is_by_proxy(status: int, reply: bytes) -> bool:
    """True for the reply of a proxy that does not know the way to the master, or nobody's."""
    is_masters = reply.lstrip().startswith(b"{") and NEEDS_TLS not in reply
    return status < 400 or (status in LOST_WAY and not is_masters)


class MasterClient:
    """A client of a master, for one request at a time.

    What it shows there comes from the environment (`dte.wire.access`).
    """

    def __init__(self, master_url: str) -> None:
        self._url = master_url
        self._access: Access | None = None
        self._connection: KeptAliveConnection | None = None
        self._refused_at: float | None = None

    async def post(
        self,
        path: str,
        body: bytes,
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Post a body and return the body of the reply.

        Args:
            timeout_s: the timeout of a short request. A long one has a second more for each
                `BYTES_A_S` of its body.
            headers: headers besides those of every request.

        Raises:
            MasterAway: no reply arrived in time, or its status is 5xx or one of `PASSING`.
            Refused: the reply has another error status.
        """
        timeout_s += len(body) // BYTES_A_S
        return await self._send("POST", path, body, timeout_s, headers or {})

    async def get(self, path: str, timeout_s: float = TIMEOUT_S) -> bytes:
        """Get a path and return the body of the reply.

        Raises:
            MasterAway, Refused: as `post`.
        """
        return await self._send("GET", path, b"", timeout_s, {})

    async def _send(
        self, method: str, path: str, body: bytes, timeout_s: float, headers: Mapping[str, str]
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                status, _, reply = await self._request(method, path, body, headers)
        except TimeoutError:
            raise MasterAway(f"no reply within {timeout_s:g} s") from None
        except ConnectionFailed as error:
            if error.insecure:
                self._begin_anew()  # A file of TLS may be replaced meanwhile.
            raise MasterAway(str(error)) from None
        except (Unauthorized, ValueError) as error:
            self._begin_anew()
            raise MasterAway(str(error)) from None
        if 200 <= status < 300:
            self._refused_at = None
            return reply
        reason = f"HTTP {status} {_said_in(reply)}"
        is_forbidden = status == HTTPStatus.FORBIDDEN and "token" in reason
        if status == HTTPStatus.UNAUTHORIZED or is_forbidden:
            reason = "; ".join(filter(None, (reason, self._doubt(), TOKEN_ADVICE)))
            self._remind(reason)
        if status in PASSING or status >= 500 or _is_by_proxy(status, reply):
            raise MasterAway(reason)
        raise Refused(reason, status)

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self._connection is not None:
            self._connection.close()

    async def _request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Reply:
        """Send a request; send it again if its token was refused and has been replaced."""
        access = self._access = self._access or Access(self._url)
        place = access.address
        self._connection = self._connection or KeptAliveConnection(
            place.host, place.port, secure=access.tls
        )
        while True:
            shown = access.headers()
            more = {**headers, **shown}
            reply = await self._connection.request(method, access.path(path), body, more)
            if reply.status != HTTPStatus.UNAUTHORIZED or not access.renew(shown):
                return reply

    def _doubt(self) -> str:
        return self._access.doubt() if self._access is not None else ""

    def _remind(self, reason: str) -> None:
        """Log now and then that the token is still refused; callers log that it is."""
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at = now
        elif now - self._refused_at >= REMIND_EVERY_S:
            self._refused_at = now
            log.warning("%s still refuses the token of this worker: %s", self._url, reason)

    def _begin_anew(self) -> None:
        """Read the files that the master is shown again for the next request."""
        self.close()
        self._access = self._connection = None


def _said_in(reply: bytes) -> str:
    """The error in a master's reply; of another program's reply nothing but its length."""
    try:
        return one_line(_refusal.decode(reply).error, REASON_CHARS_MAX)
    except Malformed:
        return f"with {len(reply)} bytes that are not from a dte master"
