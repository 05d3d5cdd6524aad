"""Receives a copy of the master's journal."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from dte.client.connecting import new_connection, no_reply
from dte.client.errors import MasterFault, TlsFailed, Unreachable
from dte.client.exchange import Response, advised, error_of
from dte.wire.access import Access

COPY_TIMEOUT_S = 3_600.0
"""Longest time for the master to copy its journal before it sends anything."""
SILENCE_S = 60.0
PIECE_BYTES = 262_144


class Backup:
    """A copy that the master sends, to be read once.

    Attributes:
        size: the number of its bytes.

    Raises:
        Unreachable: the master does not answer.
        Conflict: it makes another copy already, or keeps its jobs in memory.
        StorageFull: it has no room for a copy.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection = new_connection(access)
        try:
            self._connection.connect()
            self._connection.sock.settimeout(COPY_TIMEOUT_S)
            path, headers = access.path("/backup"), access.headers()
            self._connection.request("POST", path, headers=headers)
            self._reply = self._connection.getresponse()
            length = self._reply.headers.get("Content-Length", "")
            if self._reply.status != http.HTTPStatus.OK:
                retry_after = self._reply.headers.get("Retry-After")
                response = Response(self._reply.status, self._reply.read(), retry_after)
                raise advised(error_of(response), access)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._no_reply(error) from error
        except BaseException:
            self.close()
            raise
        if not length.isdecimal():
            self.close()
            raise MasterFault(f"no copy of a journal, but another reply, came from {access.url}")
        self.size = int(length)

    def close(self) -> None:
        self._connection.close()

    def pieces(self) -> Iterator[bytes]:
        """The copy, piece by piece.

        Raises:
            Unreachable: the connection was lost before the end.
        """
        left = self.size
        self._connection.sock.settimeout(SILENCE_S)
        while left:
            try:
                piece = self._reply.read(min(left, PIECE_BYTES))
            except (OSError, http.client.HTTPException) as error:
                raise self._no_reply(error) from error
            if not piece:
                received = self.size - left
                raise Unreachable(
                    f"{self._access.url} sent {received} of {self.size} bytes of the copy"
                )
            left -= len(piece)
            yield piece

    def _no_reply(self, error: Exception) -> Unreachable:
        failure = no_reply(self._access, error, sent=True)
        return (TlsFailed if failure.insecure else Unreachable)(str(failure))
