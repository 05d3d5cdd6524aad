"""Asks the master something, on a connection that is kept for the next time."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from dte.wire.http.client import ConnectionFailed, KeptAliveConnection

TIMEOUT_S = 10.0
"""An answer may have to wait for a slow disk."""

PAUSE_FIRST_S = 0.1


class MasterAway(OSError):
    """The master cannot be reached, or cannot take the request now; the text says why."""


class Refused(ValueError):
    """The master will not take this request, however often it is sent; the text says why.

    Attributes:
        status: of its reply.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class MasterConnection:
    """A connection to a master, for one request at a time.

    Args:
        master_url: where the master is, as ``http://host:port``.
    """

    def __init__(self, master_url: str) -> None:
        self._url = master_url
        self._connection: KeptAliveConnection | None = None

    async def post(self, path: str, body: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """The body of the reply, if its status tells of success.

        Raises:
            MasterAway: no reply came in time, or one with a status of 5xx or 429.
            Refused: one with another status.
        """
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._connection = self._connection or _open(self._url)
                status, _, reply = await connection.request("POST", path, body)
        except TimeoutError:
            raise MasterAway(f"no reply in {timeout_s:g} s") from None
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
    """A connection to the host of a URL, not opened yet.

    Raises:
        ValueError: it is no URL of a master.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
    return KeptAliveConnection(parts.hostname, parts.port or 80)
