"""An HTTP/1.1 server whose short answers are made without waiting.

It answers a request in the iteration of the loop that received it. Tornado's server needs several
futures and iterations for that, which take longer than a small answer itself. A long answer is made
in slices. In one iteration no more requests begin than fit into a slice.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import lru_cache, partial
from http import HTTPStatus
from typing import NamedTuple

from dte.wire.codec import encode
from dte.wire.http.accepting import Acceptor
from dte.wire.http.browsers import SAFE_HEADERS, HostNames, refusal_of
from dte.wire.http.certificates import ServerTls
from dte.wire.http.crowd import Crowd
from dte.wire.http.encodings import encoding_fault
from dte.wire.http.handshakes import Handshakes
from dte.wire.http.reader import Message, MessageReader, NotHttp, origin_form
from dte.wire.http.stream import Stream

log = logging.getLogger("dte.wire")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ASTERISK = "GET, POST, HEAD, OPTIONS"
"""The methods of all paths together: the asterisk as a path stands for the server as a whole."""
SAFE = "".join(f"{name}: {value}\r\n" for name, value in SAFE_HEADERS)
ALLOWED = b"HTTP/1.1 204 No Content\r\n%sAllow: %%s\r\n\r\n" % SAFE.encode()


class Request(NamedTuple):
    """A complete request. The query is what comes after the question mark.

    The names of its headers are in lower case.
    """

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: Mapping[str, str] = {}


Answered = tuple[int, bytes]
"""A status and JSON."""
InSlices = Generator[None, None, Answered]
"""Makes an answer, with a slice of the work between its yields."""
Answer = Callable[[Request], Answered | InSlices]
OF_BROWSERS = {"host": "Host", "origin": "Origin", "sec-fetch-site": "Sec-Fetch-Site"}
"""The headers that tell a browser's request from others, by their names in a `Message`."""
SLICE_S = 0.005
BUSY = "too many connections are open: this one replaces none of them"


class HttpServer:
    """Serves HTTP on the running loop.

    Args:
        answer: answers a request.
        body_bytes_max: the longest body; a longer one ends its connection.
        methods: the methods of each path, as the header Allow lists them.
        crowd: the bounds that all connections share.
        tls: the certificate of a server that speaks TLS.
        names: its names; requests for other hosts, and those of pages of others, are refused. None
            for a server that no browser reaches.

    Attributes:
        closed_by_peer: called when the peer has closed a connection.
        refusal: gives the answer to a request that is refused before its body is read, by its head
            alone; None for all others.
    """

    def __init__(
        self,
        answer: Answer,
        body_bytes_max: int,
        methods: Mapping[str, str] | None = None,
        crowd: Crowd | None = None,
        tls: ServerTls | None = None,
        names: HostNames | None = None,
    ) -> None:
        self.answer = answer
        self.methods = {**methods, "*": ASTERISK} if methods else {}
        self.body_bytes_max = body_bytes_max
        self.names = names
        self.closed_by_peer: Callable[[], None] = lambda: None
        self.refusal: Callable[[Request], Answered | None] = lambda head: None
        self._handshakes = Handshakes(tls, self._take) if tls is not None else None
        accepted = self._take if self._handshakes is None else self._handshakes.begin
        self._acceptor = Acceptor(accepted, self._cannot_accept)
        self._open: set[_Connection] = set()
        self.crowd = crowd or Crowd()
        self.turns = _Turns()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._acceptor.add(listening)

    def stop(self) -> None:
        """Stop accepting, and close each connection once its answers are sent."""
        self._acceptor.stop()
        if self._handshakes is not None:
            self._handshakes.close()
        for connection in tuple(self._open):
            connection.finish()

    def _take(self, connection: socket.socket, address: object) -> None:
        peer = _Connection(self, connection)
        self._open.add(peer)
        if not self.crowd.enter(peer):
            peer.refuse(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)

    def _cannot_accept(self, error: OSError) -> None:
        log.warning("cannot accept connections: %s", error.strerror)

    def new_reader(self) -> MessageReader:
        return MessageReader(replies=False, body_bytes_max=self.body_bytes_max)

    def left(self, connection: _Connection, *, by_peer: bool) -> None:
        self._open.discard(connection)
        self.crowd.leave(connection)
        if by_peer:
            self.closed_by_peer()


class _Turns:
    """Shares the time of the loop out among connections: a slice in each iteration."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_over(self) -> bool:
        """True if this iteration has had its slice."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + SLICE_S
            asyncio.get_running_loop().call_soon(self._next)
        return now >= self._until

    def later(self, go_on: Callable[[], None]) -> None:
        """Call something in one of the next iterations, behind what waits already."""
        self._waiting.append(go_on)
        if self._until is None:
            self._until = 0.0
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._until = None
        for _ in range(len(self._waiting)):
            if self.is_over:
                return
            self._waiting.popleft()()


class _Connection:
    def __init__(self, server: HttpServer, connection: socket.socket) -> None:
        self._server = server
        self._reader = server.new_reader()
        self._stream = Stream(connection, self._received, self._lost)
        self._closing = False
        self._finishing = False
        self._continued = False
        self._due: Message | None = None
        self._begun: Message | None = None
        self._work_bytes = 0
        self._ahead = b""
        self._waits = self._paused = False
        self.has_asked = False
        self.is_at_work = False

    @property
    def is_over(self) -> bool:
        return self._closing

    @property
    def held(self) -> int:
        held = self._reader.held + len(self._ahead) + self._stream.unsent + self._work_bytes
        return held + (len(self._due.body) if self._due is not None else 0)

    def receive(self, receives: bool) -> None:
        self._paused = not receives
        self._listen()

    def _listen(self) -> None:
        """Read what the peer sends, unless there is something else to do before."""
        busy = self.is_at_work or self._due is not None or self._reader.is_behind
        self._stream.receive(not (busy or self._paused or self._stream.unsent))

    def close(self) -> None:
        self._close()
        self._stream.close()
        self._server.left(self, by_peer=False)

    def finish(self) -> None:
        """Close the connection when its answers are made and sent."""
        self._finishing = True
        if self.is_at_work:
            return
        self._close()
        self._stream.finish()
        if not (self._stream.unsent and self._server.crowd.moved(self, 0)):
            self._server.left(self, by_peer=False)

    def _close(self) -> None:
        """Drop what was received, which would stay in memory until the collector finds it."""
        self._closing = True
        self._reader, self._ahead, self._due = self._server.new_reader(), b"", None

    def refuse(self, status: int, reason: str) -> None:
        body = _error(reason)
        self._stream.send(_head(status, len(body), closes=True) + body)
        self.finish()

    def _received(self, data: bytes) -> None:
        self._server.crowd.asked(self)
        self._ahead += data
        if self._due is None and not self.is_at_work:
            self._read_on()
        self._settle(len(data))

    def _read_on(self) -> None:
        """Read what has been received, and answer it as far as there is time."""
        try:
            self._serve_due()
            if self._due is None and not (self._closing or self.is_at_work):
                data, self._ahead = self._ahead, b""
                self._due = self._reader.read(data)
                self._serve_due()
            if self._due is None and self._reader.begun is not self._begun:
                self._begun = self._reader.begun
                self._refuse_begun()
            if self._closing:
                return
            if not self._continued and self._reader.expects_continue:
                self._continued = True
                self._stream.send(CONTINUE)
        except NotHttp as error:
            log.info("malformed HTTP request: %s", error)
            what = "malformed HTTP request: " if error.status == HTTPStatus.BAD_REQUEST else ""
            self.refuse(error.status, f"{what}{error}")

    def _refuse_begun(self) -> None:
        """Refuse a request whose body is still to come, if its head is reason enough."""
        if self._begun is not None:
            request = _request_of(self._begun)
            made = self._refusal_of(self._begun) or self._server.refusal(request)
            if made is not None:
                self._send(request, made, closes=True)

    def _serve_due(self) -> None:
        """Answer what has been received, as far as there is time."""
        while self._due is not None and not (self._closing or self.is_at_work):
            if self._server.turns.is_over:
                return
            request, self._due = self._due, None
            self._continued = False
            self._serve(request)
            if not (self._closing or self.is_at_work):
                self._due = self._reader.read()

    def _settle(self, moved: int) -> None:
        """See to what is left: more to read or to answer, and what is incomplete."""
        if self._closing:
            return
        is_behind = self._due is not None or self._reader.is_behind
        if is_behind and not (self.is_at_work or self._waits):
            self._waits = True
            self._server.turns.later(self._go_on)
        self._listen()
        if self.held:
            self._server.crowd.moved(self, moved)
        else:
            self._server.crowd.completed(self)

    def _go_on(self) -> None:
        """Read and answer more of what has been received."""
        self._waits = False
        if not (self._closing or self.is_at_work):
            self._read_on()
            self._settle(0)

    def _lost(self, error: OSError | None) -> None:
        self._close()
        self._server.left(self, by_peer=True)

    def _serve(self, message: Message) -> None:
        request = _request_of(message)
        method = request.method
        self.has_asked = True
        fault = _encoding_fault(message.headers)
        if method == "OPTIONS" and request.path in self._server.methods:
            allowed = self._server.methods[request.path]
            self._stream.send(ALLOWED % allowed.encode())
            if message.closes:
                self.finish()
            return
        made = self._refusal_of(message) or (
            self._answer(request) if fault is None else (415, _error(fault))
        )
        if isinstance(made, tuple):
            self._send(request, made, message.closes)
            return
        self.is_at_work, self._work_bytes = True, len(request.body)
        self._server.turns.later(partial(self._work, request, made, message.closes))

    def _send(self, request: Request, made: Answered, closes: bool) -> None:
        status, body = made
        allowed = self._server.methods.get(request.path, "OPTIONS")
        allow = f"\r\nAllow: {allowed}" if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = _head(status, len(body), closes, allow, is_work=_is_work(request, status))
        self._stream.send(head + body if request.method != "HEAD" else head)
        if closes:
            self.finish()

    def _refusal_of(self, message: Message) -> Answered | None:
        """The refusal of a request that a web page may have made behind its user's back."""
        names, headers = self._server.names, message.headers
        if names is None:
            return None
        said = {name: headers[lower] for lower, name in OF_BROWSERS.items() if lower in headers}
        refusal = refusal_of(said, names)
        return None if refusal is None else (refusal.status, _error(refusal.text))

    def _answer(self, request: Request) -> Answered | InSlices:
        try:
            return self._server.answer(request)
        except Exception:
            return _failed(request)

    def _work(self, request: Request, slices: InSlices, closes: bool) -> None:
        """Do a slice of the work for an answer; send the answer when it is made."""
        if self._closing:
            slices.close()
            return
        try:
            next(slices)
        except StopIteration as stop:
            made: Answered = stop.value
        except Exception:
            made = _failed(request)
        else:
            self._server.turns.later(partial(self._work, request, slices, closes))
            return
        self.is_at_work, self._work_bytes = False, 0
        self._send(request, made, closes or self._finishing)
        self._go_on()


def _request_of(message: Message) -> Request:
    method, target, _ = message.start_line
    path, _, query = origin_form(target).partition("?")
    return Request(method, path, message.body, query, message.headers)


def _failed(request: Request) -> Answered:
    """Log an exception of an answer, and make another answer."""
    log.exception("%s %s", request.method, request.path)
    return 500, b"{}"


def _is_work(request: Request, status: int) -> bool:
    """True if a reply goes to a program with a secret, which reads many of them.

    No page can have that sent.
    """
    return request.method == "POST" and status < 300 and "authorization" in request.headers


def _encoding_fault(headers: Mapping[str, str]) -> str | None:
    """Name the encoding of a body that cannot be read; None for all others."""
    encoding, content_type = headers.get("content-encoding", ""), headers.get("content-type", "")
    if not encoding and ";" not in content_type:
        return None
    return encoding_fault(encoding, content_type)


def _error(text: str) -> bytes:
    return encode({"error": text}) + b"\n"


@lru_cache
def _start(status: int, closes: bool, is_work: bool) -> str:
    connection = "Connection: close\r\n" if closes else ""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\n{'' if is_work else SAFE}{connection}Content-Length: "
    )


def _head(
    status: int, body_bytes: int, closes: bool, more: str = "", *, is_work: bool = False
) -> bytes:
    return f"{_start(status, closes, is_work)}{body_bytes}{more}\r\n\r\n".encode()
