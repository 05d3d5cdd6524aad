"""Requests to the master, on a connection that is kept alive."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from dte.wire.http.client import ConnectionFailed, KeptAliveConnection

TIMEOUT_S = 10.0
"""The timeout of a request; the answer may have to wait for a slow disk."""
BYTES_A_S = 1_000_000
"""The timeout grows with the body: a busy master reads a long one slowly, and one that is sent
again delays all others."""

PAUSE_FIRST_S = 0.1


class MasterAway(OSError):
    """The master cannot be reached, or cannot take the request now. The text gives the reason."""


class Refused(ValueError):
    """The master refuses the request for good. The text gives the reason."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class MasterClient:
    """A client of a master, for one request at a time."""

    def __init__(self, master_url: str) -> None:
        self._url = master_url
        self._connection: KeptAliveConnection | None = None

    async def post(self, path: str, body: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """Send a request and return the body of its reply.

        Args:
            timeout_s: the timeout of a short request. A long one has a second more for each
                `BYTES_A_S` of its body.

        Raises:
            MasterAway: no reply arrived in time, or its status is 5xx, 408, 425 or 429.
            Refused: the reply has another error status.
        """
        timeout_s += len(body) // BYTES_A_S
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._connection = self._connection or _open(self._url)
                status, _, reply = await connection.request("POST", path, body)
        except TimeoutError:
            raise MasterAway(f"no reply within {timeout_s:g} s") from None
        except (ConnectionFailed, ValueError) as error:
            raise MasterAway(str(error)) from None
        if 200 <= status < 300:
            return reply
        reason = f"HTTP {status} {reply[:500].decode(errors='replace')}".strip()
        if status in (408, 425, 429) or status >= 500:
            raise MasterAway(reason)
        raise Refused(reason, status)

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self._connection is not None:
            self._connection.close()


def _open(url: str) -> KeptAliveConnection:
    """Return an unopened connection to the host of a URL."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
    return KeptAliveConnection(parts.hostname, parts.port or 80)
