"""An HTTP/1.1 server whose answers are computed without waiting.

It answers a request in the iteration of the loop that received it. Tornado's server needs several
futures and iterations for that, which take longer than a small answer itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from dte.wire.codec import encode
from dte.wire.http.accepting import Acceptor
from dte.wire.http.encodings import encoding_fault
from dte.wire.http.reader import Message, MessageReader, NotHttp, origin_form
from dte.wire.http.stream import Stream

log = logging.getLogger("dte.wire")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ASTERISK = "GET, POST, HEAD, OPTIONS"
"""The methods of all paths together: the asterisk as a path stands for the server as a whole."""
ALLOWED = b"HTTP/1.1 204 No Content\r\nAllow: %s\r\n\r\n"


class Request(NamedTuple):
    """A complete request. The query is what comes after the question mark."""

    method: str
    path: str
    body: bytes
    query: str = ""


Answer = Callable[[Request], tuple[int, bytes]]
"""Returns a status and JSON."""


class HttpServer:
    """Serves HTTP on the running loop, on any number of connections.

    Args:
        answer: answers a request.
        body_bytes_max: the longest body; a longer one ends its connection.
        methods: the methods of each path, as the header Allow lists them.

    Attributes:
        closed_by_peer: called when the peer has closed a connection.
    """

    def __init__(
        self, answer: Answer, body_bytes_max: int, methods: Mapping[str, str] | None = None
    ) -> None:
        self.answer = answer
        self.methods = {**methods, "*": ASTERISK} if methods else {}
        self.body_bytes_max = body_bytes_max
        self.closed_by_peer: Callable[[], None] = lambda: None
        self._acceptor = Acceptor(self._take, self._cannot_accept)
        self._open: set[_Connection] = set()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._acceptor.add(listening)

    def stop(self) -> None:
        """Stop accepting, and close each connection once its answers are sent."""
        self._acceptor.stop()
        for connection in tuple(self._open):
            connection.finish()

    def _take(self, connection: socket.socket, address: object) -> None:
        self._open.add(_Connection(self, connection))

    def _cannot_accept(self, error: OSError) -> None:
        log.warning("cannot accept connections: %s", error.strerror)

    def left(self, connection: _Connection, *, by_peer: bool) -> None:
        self._open.discard(connection)
        if by_peer:
            self.closed_by_peer()


class _Connection:
    def __init__(self, server: HttpServer, connection: socket.socket) -> None:
        self._server = server
        self._reader = MessageReader(replies=False, body_bytes_max=server.body_bytes_max)
        self._stream = Stream(connection, self._received, self._lost)
        self._closing = False
        self._continued = False
        self._reads_later = False

    def finish(self) -> None:
        self._closing = True
        self._stream.finish()
        self._server.left(self, by_peer=False)

    def _received(self, data: bytes) -> None:
        try:
            request = self._reader.read(data)
            while request is not None and not self._closing:
                self._continued = False
                self._serve(request)
                request = self._reader.read()
            if not self._continued and self._reader.expects_continue:
                self._continued = True
                self._stream.send(CONTINUE)
        except NotHttp as error:
            log.info("malformed HTTP request: %s", error)
            what = "malformed HTTP request: " if error.status == HTTPStatus.BAD_REQUEST else ""
            body = _error(f"{what}{error}")
            self._stream.send(_head(error.status, len(body), closes=True) + body)
            self.finish()
        if self._reader.is_behind and not self._closing:
            self._stream.receive(False)
            self._read_later()
        elif self._stream.unsent:
            self._stream.receive(False)  # Until the peer has taken the answers.

    def _read_later(self) -> None:
        """Read more of what has been received in the next iteration of the loop."""
        if not self._reads_later:
            self._reads_later = True
            asyncio.get_running_loop().call_soon(self._read_more)

    def _read_more(self) -> None:
        self._reads_later = False
        if not self._closing:
            self._stream.receive(True)
            self._received(b"")

    def _lost(self, error: OSError | None) -> None:
        self._server.left(self, by_peer=True)

    def _serve(self, message: Message) -> None:
        method, target, _ = message.start_line
        path, _, query = origin_form(target).partition("?")
        request = Request(method, path, message.body, query)
        allowed = self._server.methods.get(request.path, "OPTIONS")
        fault = _encoding_fault(message.headers)
        if method == "OPTIONS" and request.path in self._server.methods:
            head, body = ALLOWED % allowed.encode(), b""
        else:
            status, body = self._answer(request) if fault is None else (415, _error(fault))
            allow = f"\r\nAllow: {allowed}" if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
            head = _head(status, len(body), message.closes, allow)
        self._stream.send(head + body if method != "HEAD" else head)
        if message.closes:
            self.finish()

    def _answer(self, request: Request) -> tuple[int, bytes]:
        try:
            return self._server.answer(request)
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return 500, b"{}"


def _encoding_fault(headers: Mapping[str, str]) -> str | None:
    """Name the encoding of a body that cannot be read; None for all others."""
    encoding, content_type = headers.get("content-encoding", ""), headers.get("content-type", "")
    if not encoding and ";" not in content_type:
        return None
    return encoding_fault(encoding, content_type)


def _error(text: str) -> bytes:
    return encode({"error": text}) + b"\n"


@lru_cache
def _start(status: int, closes: bool) -> str:
    connection = "Connection: close\r\n" if closes else ""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\n{connection}Content-Length: "
    )


def _head(status: int, body_bytes: int, closes: bool, more: str = "") -> bytes:
    return f"{_start(status, closes)}{body_bytes}{more}\r\n\r\n".encode()
