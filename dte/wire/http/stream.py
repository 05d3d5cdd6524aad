"""The bytes of a connection: what comes is told at once, what is to be sent leaves in order.

An asyncio transport does this too. It takes 256 kB from the system for each time that something
comes, and closes its socket only when the loop turns once more, which it may never do.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

RECEIVED_BYTES = 65_536
"""Most bytes that a connection receives in a turn of the loop."""


class Stream:
    """A connected socket on the running loop.

    Args:
        connection: is closed with the stream.
        received: called with bytes that have come.
        lost: called when the other side has closed the connection, or with what broke it; the
            stream is closed then. Who closes it is not called.
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
        self._unsent = bytearray()
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._read)

    @property
    def is_silent(self) -> bool:
        """Whether it is open, and nothing has come of which nobody was told."""
        return self._socket is not None and is_silent(self._socket)

    def send(self, data: bytes) -> None:
        """Send bytes, after those that are not sent yet; what goes wrong is told later."""
        if self._socket is None or self._ending:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._loop.call_soon(self._end, error)
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._socket, self._write)
        self._unsent += data

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken yet."""
        return len(self._unsent)

    def receive(self, receives: bool) -> None:
        """Receive nothing for a while, or go on."""
        if self._socket is None:
            return
        if receives:
            self._loop.add_reader(self._socket, self._read)
        else:
            self._loop.remove_reader(self._socket)

    def finish(self) -> None:
        """Close the connection when all is sent."""
        self._ending = True
        if not self._unsent:
            self.close()

    def close(self) -> None:
        """Close the connection now."""
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
        except BlockingIOError:
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
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket)
            self.receive(True)
            if self._ending:
                self.close()

    def _end(self, error: OSError | None) -> None:
        if self._socket is not None:
            self.close()
            self._lost(error)


def _set_options(connection: socket.socket) -> None:
    """Have small messages leave at once, and a connection break when nobody is at its other end."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, option):  # Not everywhere.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def is_silent(connection: socket.socket) -> bool:
    """Whether an idle connection has nothing to read: neither its end nor what nobody asked for."""
    timeout_s = connection.gettimeout()
    try:
        if timeout_s != 0:
            connection.settimeout(0)
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        if timeout_s != 0:
            connection.settimeout(timeout_s)
        return True
    except OSError:
        return False
    return False
