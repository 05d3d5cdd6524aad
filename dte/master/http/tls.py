"""A client's connection over which TLS is spoken."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from tornado.iostream import IOStream

from dte.master.http.stream import BoundedStream
from dte.wire.http.certificates import common_name

RECORD_BYTES = 16_384
"""What TLS encrypts at a time."""


class _Encrypted(IOStream):
    """A stream whose socket speaks TLS, and has done its handshake."""

    socket: ssl.SSLSocket

    def write_to_fd(self, data: memoryview) -> int:
        sent = 0
        try:
            while sent < len(data):
                with data[sent : sent + RECORD_BYTES] as record:
                    sent += self.socket.send(record)
        except ssl.SSLWantWriteError:
            pass
        finally:
            del data
        return sent

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        try:
            return self.socket.recv_into(buf, len(buf))
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        finally:
            del buf

    def _is_connreset(self, exc: BaseException) -> bool:
        # A peer that garbles what is encrypted is as good as gone.
        return isinstance(exc, ssl.SSLError) or super()._is_connreset(exc)


class TlsStream(BoundedStream, _Encrypted):
    """A `BoundedStream` over TLS."""

    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        assert isinstance(connection, ssl.SSLSocket)
        self.peer_name = common_name(connection)
