"""A connection as a stream of bytes: a callback for received bytes, and a buffer for unsent ones.

An asyncio transport does this too, but it allocates 256 kB for each read, and it closes its socket
only in the next iteration of the loop, which may never come.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

RECEIVED_BYTES = 65_536
"""The most bytes that a connection receives in one iteration of the loop. It is more than the 16 kB
that TLS decrypts at once, as the loop does not see what would stay in the buffer of TLS."""
COPIED_BYTES = 65_536
"""More unsent bytes are not copied."""


NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that does not block raises instead of waiting."""


class Stream:
    """A connected socket on the running loop.

    Args:
        connection: the socket, in TLS if its handshake is over; the stream closes it.
        received: called with received bytes.
        lost: called when the peer closed the connection (None) or it broke (the error). The stream
            is closed by then. `close` and `finish` do not call it.
    """

    def __init__(
        self,
        connection: socket.socket,
        received: Callable[[bytes], None],
        lost: Callable[[OSError | None], None],
    ) -> None:
        connection.setblocking(False)
        _set_options(connection)
        self._socket: socket.socket | None = connection
        self._received = received
        self._lost = lost
        self._unsent: bytearray | memoryview = bytearray()
        self._when_sent: Callable[[], None] | None = None
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._read)

    @property
    def is_silent(self) -> bool:
        """True if the connection is open and has no bytes to read."""
        return self._socket is not None and is_silent(self._socket)

    def send(self, data: bytes) -> None:
        """Send bytes, after those that are still unsent. A failure is reported by `lost`, later."""
        if self._socket is None or self._ending:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except NOT_NOW:
                sent = 0
            except OSError as error:
                self._loop.call_soon(self._end, error)
                return
            if sent == len(data):
                return
            self._loop.add_writer(self._socket, self._write)
            left = memoryview(data)[sent:]
            self._unsent = left if len(left) > COPIED_BYTES else bytearray(left)
        elif isinstance(self._unsent, bytearray):
            self._unsent += data
        else:
            self._unsent = bytearray(self._unsent) + data

    @property
    def unsent(self) -> int:
        """The number of bytes that the system has not taken yet."""
        return len(self._unsent)

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once the system has taken all bytes; never if the connection ends before."""
        if self._unsent:
            self._when_sent = callback
        else:
            callback()

    def receive(self, receives: bool) -> None:
        if self._socket is None:
            return
        if receives:
            self._loop.add_reader(self._socket, self._read)
        else:
            self._loop.remove_reader(self._socket)

    def finish(self) -> None:
        """Close the connection once everything is sent."""
        self._ending = True
        if not self._unsent:
            self.close()

    def close(self) -> None:
        if self._socket is None:
            return
        connection, self._socket = self._socket, None
        self._loop.remove_reader(connection)
        if self._unsent:
            self._loop.remove_writer(connection)
        connection.close()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(RECEIVED_BYTES)
        except NOT_NOW:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._received(data)
        else:
            self._end(None)

    def _write(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._unsent)
        except NOT_NOW:
            return
        except OSError as error:
            self._end(error)
            return
        if isinstance(self._unsent, bytearray):
            del self._unsent[:sent]
        else:
            self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._unsent = bytearray()
            self._loop.remove_writer(self._socket)
            self.receive(True)
            if self._ending:
                self.close()
            if self._when_sent is not None:
                callback, self._when_sent = self._when_sent, None
                callback()

    def _end(self, error: OSError | None) -> None:
        if self._socket is not None:
            self.close()
            self._lost(error)


def _set_options(connection: socket.socket) -> None:
    """Send small messages at once, and let a connection break when its peer has vanished."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, option):  # Not every system has them.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def is_silent(connection: socket.socket) -> bool:
    """Return True if an idle connection has nothing to read, neither bytes nor its end."""
    timeout_s = connection.gettimeout()
    try:
        if timeout_s != 0:
            connection.settimeout(0)
        # TLS has no way to peek. What comes here answers no request, so it is not missed; but a
        # session's tickets are no answer, and are read on the way.
        connection.recv(1, 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_PEEK)
    except NOT_NOW:
        if timeout_s != 0:
            connection.settimeout(timeout_s)
        return True
    except OSError:
        return False
    return False
