"""HTTP/1.1 over plain sockets, for both sides of it.

Clients send what a well-behaved one would not, and the server behaves as badly as a test wants.
None of them shares code with what is tested.

    Line            one end of a connection, for messages and for bytes that are none
    PlainClient     asks on a loop, BlockingClient without one
    exchange        asks once, and tells a whole reply from a part and from nonsense
    accepting       does with connections whatever a test wants
    PlainServer     hands each request to a conduct
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

HOST = "127.0.0.1"


class NoReply(Exception):
    """No whole reply came. The request may or may not have arrived."""


class Malformed(Exception):
    """A whole reply came, and it is not HTTP with JSON."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a reply: its first line in words, its headers in lower case, its body."""

    start: list[str]
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.start[1])

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def path(self) -> str:
        return self.start[1]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def encoded(body: Any) -> bytes:
    """Bytes as they are, None as nothing, anything else as JSON."""
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def head(start: str, headers: dict[str, Any]) -> bytes:
    """The first line and the headers of a message, down to the empty line."""
    lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request_bytes(method: str, path: str, body: Any = None, **headers: Any) -> bytes:
    """A request with a Content-Length; underscores in header names become hyphens."""
    content = encoded(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Host": HOST, "Content-Length": len(content)} | named
    return head(f"{method} {path} HTTP/1.1", fields) + content


def reply_bytes(status: int, body: Any = None, version: str = "1.1", **headers: Any) -> bytes:
    """A reply with a Content-Length; a header that is None is left out."""
    content = encoded(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Content-Type": "application/json", "Content-Length": len(content)} | named
    present = {name: value for name, value in fields.items() if value is not None}
    return head(f"HTTP/{version} {status} Whatever", present) + content


def read_head(head: bytes) -> tuple[list[str], dict[str, str]]:
    """The words of the first line of a message, and its headers in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    return first.split(" ", 2), {name.lower(): value for name, _, value in pairs}


def content_length(head: bytes) -> int:
    """The Content-Length of a message with that head; 0 if it has none."""
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0] or b"0")


def body_of(received: bytes) -> bytes | None:
    """The body of a message with a Content-Length, or None while it is not whole."""
    head, end, body = received.partition(b"\r\n\r\n")
    return body if end and len(body) >= content_length(head) else None


class Line:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closed = False

    async def read(self, method: str = "") -> Message | None:
        """The next message, None when the other side has closed; `method` is what it answers."""
        try:
            start, headers = read_head(await self.reader.readuntil(b"\r\n\r\n"))
            length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
            body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Message(start, headers, body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int, body: Any = None, **more: Any) -> None:
        await self.send(reply_bytes(status, body, **more))

    async def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> Message:
        """Send a request and give its reply."""
        await self.send(request_bytes(method, path, body, **headers))
        reply = await self.read(method)
        assert reply is not None, "the connection was closed without a reply"
        return reply

    def close(self) -> None:
        self.closed = True
        self.writer.close()

    def reset(self) -> None:
        """Close so that the other side sees "connection reset by peer"."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        self.closed = True


async def open_line(port: int, host: str = HOST, source: str | None = None) -> Line:
    """Connect, from the address `source` if it is given."""
    local = None if source is None else (source, 0)
    return Line(*await asyncio.open_connection(host, port, local_addr=local))


async def exchange(
    port: int, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0, **headers: Any
) -> Message:
    """Ask a server of this machine once, on a connection of its own, for JSON.

    Args:
        timeout_s: how long to wait for the whole reply.

    Raises:
        NoReply: it did not come: refused, reset, closed or silent.
        Malformed: it makes no sense.
    """
    try:
        async with asyncio.timeout(timeout_s):
            line = await open_line(port)
            try:
                await line.send(request_bytes(method, path, body, Connection="close", **headers))
                raw = await line.reader.read()
            finally:
                line.writer.transport.abort()
    except (OSError, TimeoutError) as error:
        raise NoReply(repr(error)) from None
    return _whole(raw)


def _whole(raw: bytes) -> Message:
    """The reply that some bytes are, to the last of them."""
    head, separator, content = raw.partition(b"\r\n\r\n")
    if not separator:
        raise NoReply("it ends within its head")
    start, headers = read_head(head)
    try:
        missing = int(headers["content-length"]) - len(content)
        if missing > 0:
            raise NoReply(f"{missing} bytes are missing")
        if missing < 0:
            raise ValueError(f"{-missing} bytes too many")
        reply = Message(start, headers, content)
        _ = reply.status, reply.json  # Both can be read.
    except (ValueError, LookupError) as error:
        raise Malformed(f"{error!r}: {raw[:500]!r}") from None
    return reply


def drain(connection: socket.socket) -> None:
    """End a connection in order: one that is closed with unread bytes is reset.

    What was sent before a reset may be lost.
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while os.read(connection.fileno(), 65_536):
            pass


@contextmanager
def accepting(act: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen on the port that is given, act on each connection in a thread, and end it."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.settimeout(60.0)
                with connection, suppress(OSError):
                    act(connection)
                    drain(connection)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


class PlainClient:
    """Asks one server, on a connection for each request."""

    def __init__(self, port: int, source: str | None = None) -> None:
        self.port = port
        self._source = source

    async def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> Message:
        line = await open_line(self.port, source=self._source)
        try:
            return await line.ask(method, path, body, **headers)
        finally:
            line.close()

    async def get(self, path: str) -> Message:
        return await self.ask("GET", path)

    async def post(self, path: str, body: Any = None, **headers: Any) -> Message:
        return await self.ask("POST", path, body, **headers)


class BlockingClient:
    """Asks one server from a thread without a loop, on a connection for each request."""

    def __init__(self, port: int, timeout_s: float = 120.0) -> None:
        self.port = port
        self._timeout_s = timeout_s

    def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> Message:
        """The reply to a request; underscores in header names become hyphens."""
        connection = HTTPConnection(HOST, self.port, timeout=self._timeout_s)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, None if body is None else encoded(body), named)
            reply = connection.getresponse()
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return Message(["HTTP/1.1", str(reply.status), reply.reason], fields, reply.read())
        finally:
            connection.close()

    def value(self, method: str, path: str, body: Any = None, **headers: Any) -> Any:
        """The value of a good reply."""
        reply = self.ask(method, path, body, **headers)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.body.decode()}"
        return reply.json

    def get(self, path: str) -> Any:
        """The value of a good reply to a GET."""
        return self.value("GET", path)


Conduct = Callable[[Message, Line], Awaitable[None]]
"""The reaction of a `PlainServer` to a request."""


class PlainServer:
    """Hands each request to a `conduct`, which may be exchanged at any time.

    Attributes:
        requests: all requests so far.
        lines: all connections so far.
    """

    def __init__(self, conduct: Conduct) -> None:
        self.conduct = conduct
        self.requests: list[Message] = []
        self.lines: list[Line] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self, host: str = HOST, port: int = 0, secure: ssl.SSLContext | None = None
    ) -> None:
        self._server = await asyncio.start_server(self._accept, host, port, ssl=secure)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close all connections.

        Raises:
            What a conduct raised, an assertion that failed for example.
        """
        if self._server is not None:
            await self._stop_listening(self._server)
        for line in self.lines:
            line.close()
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _stop_listening(self, server: asyncio.Server) -> None:
        """Accept nothing more, and let what has been accepted become lines.

        A server of asyncio that is closed in between forgets about them, and leaves them open.
        """
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        self._tasks.append(asyncio.get_running_loop().create_task(self._serve(line)))

    async def _serve(self, line: Line) -> None:
        while not line.closed and (request := await line.read()) is not None:
            self.requests.append(request)
            with suppress(ConnectionError):
                await self.conduct(request, line)
        line.close()


ServePlainly = Callable[..., Awaitable[PlainServer]]
"""The fixture `serve_plainly`."""

Dial = Callable[..., Awaitable[Line]]
"""The fixture `dial`."""
