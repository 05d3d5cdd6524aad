"""An HTTP/1.1 server for answers that are known at once.

Each request is answered in the turn of the loop in which it comes. Tornado's server takes some
futures and turns for that, more time than a small answer itself.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from dte.wire.codec import encode
from dte.wire.http.accepting import Acceptor
from dte.wire.http.reader import Message, MessageReader, NotHttp
from dte.wire.http.stream import Stream

log = logging.getLogger("dte.wire")


class Request(NamedTuple):
    """A whole request; the query is not part of its path."""

    method: str
    path: str
    body: bytes


Answer = Callable[[Request], tuple[int, bytes]]
"""Gives a status and JSON."""


class HttpServer:
    """Serves HTTP on the running loop, in any number of connections.

    Args:
        answer: what answers requests.
        body_bytes_max: a connection with a longer body is closed.

    Attributes:
        closed_by_peer: called when the other side has closed a connection.
    """

    def __init__(self, answer: Answer, body_bytes_max: int) -> None:
        self.answer = answer
        self.body_bytes_max = body_bytes_max
        self.closed_by_peer: Callable[[], None] = lambda: None
        self._acceptor = Acceptor(self._take, self._cannot_accept)
        self._open: set[_Connection] = set()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on sockets that listen."""
        for listening in sockets:
            self._acceptor.add(listening)

    def stop(self) -> None:
        """Accept nothing more, and close each connection when what has been said is sent."""
        self._acceptor.stop()
        for connection in tuple(self._open):
            connection.finish()

    def _take(self, connection: socket.socket, address: object) -> None:
        self._open.add(_Connection(self, connection))

    def _cannot_accept(self, error: OSError) -> None:
        log.warning("no connection can be accepted: %s", error.strerror)

    def left(self, connection: _Connection, *, by_peer: bool) -> None:
        """A connection has been closed."""
        self._open.discard(connection)
        if by_peer:
            self.closed_by_peer()


class _Connection:
    def __init__(self, server: HttpServer, connection: socket.socket) -> None:
        self._server = server
        self._reader = MessageReader(replies=False, body_bytes_max=server.body_bytes_max)
        self._stream = Stream(connection, self._received, self._lost)
        self._closing = False

    def finish(self) -> None:
        """Close the connection when what has been said is sent."""
        self._closing = True
        self._stream.finish()
        self._server.left(self, by_peer=False)

    def _received(self, data: bytes) -> None:
        try:
            request = self._reader.read(data)
            while request is not None and not self._closing:
                self._serve(request)
                request = self._reader.read()
        except NotHttp as error:
            log.info("a request that is none: %s", error)
            body = encode({"error": f"no HTTP request that can be read: {error}"})
            self._stream.send(_head(400, len(body), closes=True) + body)
            self.finish()
        if self._stream.unsent:
            self._stream.receive(False)  # Until it has taken the answers.

    def _lost(self, error: OSError | None) -> None:
        self._server.left(self, by_peer=True)

    def _serve(self, message: Message) -> None:
        method, target, _ = message.first
        request = Request(method, target.partition("?")[0], message.body)
        try:
            status, body = self._server.answer(request)
        except Exception:
            log.exception("%s %s", request.method, request.path)
            status, body = 500, b"{}"
        head = _head(status, len(body), message.closes)
        self._stream.send(head + body if method != "HEAD" else head)
        if message.closes:
            self.finish()


@lru_cache
def _start(status: int, closes: bool) -> str:
    connection = "Connection: close\r\n" if closes else ""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\n{connection}Content-Length: "
    )


def _head(status: int, body_bytes: int, closes: bool) -> bytes:
    return f"{_start(status, closes)}{body_bytes}\r\n\r\n".encode()
