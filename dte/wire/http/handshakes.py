"""TLS handshakes of a server: bounded in time, in number, and in each iteration of the loop.

A handshake takes about a millisecond of the loop, and a connection during one takes memory. So few
take place in an iteration, and beyond the bound a new one replaces the oldest of its own group. A
server gets a connection once its handshake is over; all that went wrong before costs it nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dte.wire.http.certificates import ServerTls
from dte.wire.http.lingering import linger

log = logging.getLogger("dte.wire")

HANDSHAKE_S = 10.0
"""The longest time for a handshake, from the connection to its end."""
HANDSHAKES_MAX = 100
"""Handshakes at a time, unless a server says otherwise; a group has half of them at most."""
STEPS_MAX = 4
"""Steps of handshakes in an iteration of the loop."""
TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that speaks TLS."""
PLAIN = b'{"error": "this port speaks TLS; use https://", "code": "tls"}\n'
PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(PLAIN), PLAIN)
)


class Handshakes:
    """Receives connections, and hands on those whose handshake has succeeded.

    Args:
        tls: the certificate to show.
        succeeded: called with a connection over which TLS is spoken from then on, and the address.
        group_of: whose share of the bound the connections from an address use.
        most: the bound.
    """

    def __init__(
        self,
        tls: ServerTls,
        succeeded: Callable[[ssl.SSLSocket, Any], None],
        group_of: Callable[[Any], str] = lambda address: "",
        most: int = 0,
    ) -> None:
        self._most = most or HANDSHAKES_MAX
        self._tls = tls
        self._succeeded = succeeded
        self._group_of = group_of
        self._under_way: dict[_Handshake, str] = {}
        self._groups: Counter[str] = Counter()
        self._left = STEPS_MAX
        self._plain_logged = False

    def __len__(self) -> int:
        """The number of handshakes that are under way."""
        return len(self._under_way)

    def begin(self, connection: socket.socket, address: Any) -> None:
        """Receive a connection that was accepted."""
        group = self._group_of(address)
        if self._groups[group] >= self._most // 2:
            self._drop_oldest(group)
        if len(self._under_way) >= self._most:
            self._drop_oldest(self._groups.most_common(1)[0][0])
        self._under_way[_Handshake(self, connection, address)] = group
        self._groups[group] += 1

    def close(self) -> None:
        """End all that are under way."""
        for handshake in list(self._under_way):
            handshake.end()

    def _drop_oldest(self, group: str) -> None:
        next(each for each, its in self._under_way.items() if its == group).end()

    def may_step(self) -> bool:
        """True if this iteration of the loop has time for one more step."""
        if self._left == STEPS_MAX:
            asyncio.get_running_loop().call_soon(self._renew)
        self._left -= 1
        return self._left >= 0

    def _renew(self) -> None:
        self._left = STEPS_MAX

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        return self._tls.context.wrap_socket(
            connection, True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def left(self, handshake: _Handshake) -> None:
        group = self._under_way.pop(handshake)
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]

    def succeed(self, connection: ssl.SSLSocket, address: Any) -> None:
        self._succeeded(connection, address)

    def note_plain(self, address: Any) -> None:
        """Log that somebody does not speak TLS; the first time only."""
        if not self._plain_logged:
            self._plain_logged = True
            text = "%s does not speak TLS to a port that does; this is logged once"
            log.warning(text, address[0])


class _Handshake:
    """A connection until its handshake has succeeded or failed."""

    def __init__(self, all_of_them: Handshakes, connection: socket.socket, address: Any) -> None:
        self._all = all_of_them
        self._raw: socket.socket | None = connection
        self._wrapped: ssl.SSLSocket | None = None
        self._address = address
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._number = connection.fileno()
        self._loop.add_reader(self._number, self._step)
        self._timer = self._loop.call_later(HANDSHAKE_S, self._fail, "it took too long")

    def end(self) -> None:
        """Close the connection."""
        connection = self._release()
        connection.close()

    def _release(self) -> socket.socket:
        self._timer.cancel()
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)
        self._all.left(self)
        connection = self._wrapped or self._raw
        assert connection is not None
        return connection

    def _step(self) -> None:
        if not self._all.may_step():
            return  # The loop reports the connection again in its next iteration.
        try:
            if self._wrapped is None and not self._begin():
                return
            assert self._wrapped is not None
            self._loop.remove_writer(self._number)
            self._wrapped.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._number, self._step)
        except (OSError, ValueError, AttributeError) as error:
            # What the ssl module raises for a connection that was reset in between.
            self._fail(_reason(error))
        else:
            connection = self._wrapped
            self._release()
            self._all.succeed(connection, self._address)

    def _begin(self) -> bool:
        """Look at the first byte; return True if it is one of TLS."""
        assert self._raw is not None
        try:
            first = self._raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not first:
            self.end()
            return False
        if first != TLS_HANDSHAKE:
            self._refuse_plain(self._raw, first)
            return False
        raw, self._raw = self._raw, None
        try:
            self._wrapped = self._all.wrap(raw)
        except BaseException:
            self._raw = raw
            raise
        return True

    def _refuse_plain(self, connection: socket.socket, first: bytes) -> None:
        """Reply to what may be plain HTTP that https is needed, and close the connection."""
        self._all.note_plain(self._address)
        if first.isalpha():
            with suppress(OSError):
                connection.send(PLAIN_HTTP)
            linger(connection)
        self.end()

    def _fail(self, reason: str) -> None:
        log.info("no TLS with %s: %s", self._address[0], reason)
        if self._wrapped is not None:
            linger(self._wrapped)  # OpenSSL has said why.
        self.end()


def _reason(error: Exception) -> str:
    """The reason why a handshake failed, in the words of OpenSSL or of the system."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(error)
