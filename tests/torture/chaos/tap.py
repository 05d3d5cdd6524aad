"""Reads along what passes through a link, as whole requests and replies."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.http import content_length

HEAD_END = b"\r\n\r\n"
HEAD_BYTES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and its reply once it is there.

    Attributes:
        link: the name of the link.
        path: without the query.
        asked_at: when the request began.
        at: when the request was whole, or the reply.
        status: of the reply; 0 while there is none.
    """

    link: str
    path: str
    body: bytes
    asked_at: float
    at: float
    status: int = 0
    reply: bytes = b""

    @property
    def request_json(self) -> Any:
        """The request's body."""
        return json.loads(self.body)

    @property
    def reply_json(self) -> Any:
        """The reply's body."""
        return json.loads(self.reply)


Listener = Callable[[Exchange], None]


class _Messages:
    """Cuts a stream of bytes into messages that have a Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._began_at = 0.0
        self.lost = False

    def feed(self, data: bytes, now: float) -> list[tuple[str, bytes, float]]:
        """The messages that are whole now: first line, body, the moment of their beginning."""
        found: list[tuple[str, bytes, float]] = []
        if self.lost:
            return found
        if not self._buffer:
            self._began_at = now
        self._buffer += data
        while (end := self._buffer.find(HEAD_END)) >= 0:
            head = bytes(self._buffer[:end])
            if b"transfer-encoding" in head.lower():
                self.lost = True  # None of dte's own programs sends one to another.
                break
            size = end + len(HEAD_END) + content_length(head)
            if len(self._buffer) < size:
                break
            body = bytes(self._buffer[end + len(HEAD_END) : size])
            first = head.partition(b"\r\n")[0].decode("latin-1")
            found.append((first, body, self._began_at))
            del self._buffer[:size]
            self._began_at = now
        self.lost = self.lost or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX)
        return found


class Tap:
    """Reads along one connection, and tells a listener of requests and of their replies.

    Args:
        link: the name of the link.
        listener: is told twice of each exchange: of its request, and of its reply.
    """

    def __init__(self, link: str, listener: Listener) -> None:
        self._link = link
        self._listener = listener
        self._requests = _Messages()
        self._replies = _Messages()
        self._open: deque[Exchange] = deque()
        self._early: deque[tuple[int, bytes]] = deque()

    def request(self, data: bytes, now: float) -> None:
        """Bytes of a request came from the client."""
        for first, body, began_at in self._requests.feed(data, now):
            path = first.split(" ")[1].partition("?")[0]
            exchange = Exchange(self._link, path, body, began_at, now)
            self._listener(exchange)
            if self._early:
                self._answer(exchange, *self._early.popleft(), now)
            else:
                self._open.append(exchange)

    def reply(self, data: bytes, now: float) -> None:
        """Bytes of a reply came from the server."""
        for first, body, _ in self._replies.feed(data, now):
            status = int(first.split(" ")[1])
            if status < 200:
                continue
            if self._open:
                self._answer(self._open.popleft(), status, body, now)
            else:
                self._early.append((status, body))  # A refusal does not wait for the whole request.

    def _answer(self, asked: Exchange, status: int, body: bytes, now: float) -> None:
        self._listener(replace(asked, at=now, status=status, reply=body))
