"""Ends connections whose peer is still sending, without the loss of the last reply.

A system that closes a socket with something unread resets the connection, and the peer may never
see the reply that was sent before. So what the peer sends is read and dropped for a while.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

LINGER_S = 2.0
BYTES_MAX = 64_000_000
AT_A_TIME = 100
"""Connections that linger at a time; more are closed at once."""
READ_BYTES = 65_536

_lingering: set[_Lingering] = set()


def linger(connection: socket.socket) -> None:
    """Let the other end of a connection that is about to be closed read what was sent to it."""
    if len(_lingering) < AT_A_TIME:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            # A socket that speaks TLS cannot be copied itself; what comes is dropped unread anyway.
            copy = socket.socket(fileno=os.dup(connection.fileno()))
            copy.setblocking(False)
            _Lingering(copy)


class _Lingering:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = BYTES_MAX
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._read)
        self._timer = self._loop.call_later(LINGER_S, self._close)
        _lingering.add(self)

    def _read(self) -> None:
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._left -= len(data)
        if not data or self._left <= 0:
            self._close()

    def _close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._connection)
        self._connection.close()
        _lingering.discard(self)
