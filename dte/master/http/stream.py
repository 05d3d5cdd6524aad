"""A client's connection: counts the bytes that the client has not taken, and sends bit by bit."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from http import HTTPStatus
from typing import Any

from tornado.concurrent import Future
from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, UnsatisfiableReadError

from dte.core.errors import DteError, TooLarge
from dte.core.shares import OWN_USER
from dte.logs import one_line
from dte.master.http.meters import Budget
from dte.wire.codec import encode
from dte.wire.http.lingering import linger
from dte.wire.http.reader import FIELDS_MAX, HEAD_BYTES_MAX

SENT_A_TURN = 262_144
"""Bytes that are sent on one connection in an iteration of the loop."""
DRAINED_BYTES = 1_000_000
SLOW_BYTES = 100_000
"""Bytes that a client has to send or take in `slow_client_s`, while the master waits for it."""
AHEAD_BYTES = 16_384
"""Bytes that are received ahead, before anything reads them."""
BODY_S = 120.0
"""Longest time for a whole body."""


def error_reply(
    error: str, code: str, retry_after_s: int | None = None
) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a reply that refuses a request."""
    body = encode({"error": error, "code": code}) + b"\n"
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return headers, body


def last_reply(status: int, error: str, code: str, retry_after_s: int | None = None) -> bytes:
    """A whole refusal, for a connection that is closed with it."""
    headers, body = error_reply(error, code, retry_after_s)
    headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class NotHttp(DteError):
    """What a client sends is not HTTP."""

    status = 400
    code = "http"


class LongHead(TooLarge):
    """The head of a request exceeds a bound."""

    status = 431


NO_HTTP = "this is not HTTP/1.1"
NOT_HTTP = last_reply(400, NO_HTTP, "http")
NOT_HTTP_OF_TORNADO = b"HTTP/1.1 400 Bad Request\r\n\r\n"
FAULTS = {
    "Missing Host": "the Host header is missing",
    "Multiple host": "there are several Host headers; one is expected",
    "Multiple unequal Content-Length": "there are several Content-Length headers that differ",
    "Only integer Content-Length": "Content-Length is not a number",
    "Message with both": "there are both Content-Length and Transfer-Encoding; one is expected",
    "Unsupported Transfer-Encoding": "the only Transfer-Encoding is chunked",
    "invalid chunk size": "a chunk begins with its size alone; extensions are not supported",
    "improperly terminated chunked": "the last chunk ends the body; trailers are not supported",
    "header line cannot start": "a header begins with a space; it has to be one line",
    "no colon in header": "a header has no colon",
}
"""What is wrong with a request, by the beginnings of Tornado's messages."""
LONG_HEAD = f"the path and the headers have more than {HEAD_BYTES_MAX} bytes"
MANY_FIELDS = f"there are more than {FIELDS_MAX} headers"
LINE_BYTES_SHOWN = 200
EMPTY_LINES = b"\n\r\n", b"\n\n"
"""The ends of a head, with the end of the line before."""
LINES_MAX = FIELDS_MAX + 2
HEAD_SHORT = 2 * LINES_MAX
"""A shorter head cannot have so many lines."""
HEAD_SMALL = 2_048
"""Reading a longer head takes up to 3 ms, so few of them are read in an iteration of the loop."""


class ManyFields(UnsatisfiableReadError):
    """A head has more fields than allowed."""


def _not_http(error: BaseException | None) -> bytes:
    """Make the reply to what Tornado refused with an error."""
    fault = next((text for words, text in FAULTS.items() if str(error).startswith(words)), None)
    return (
        NOT_HTTP if fault is None else last_reply(400, f"malformed HTTP request: {fault}", "http")
    )


class Awaited(Enum):
    """The input that the master waits for on a connection."""

    HEAD = "the next request"
    BODY = "a request's body"
    NOTHING = "nothing: the request is being answered"


def certified_name(request: HTTPServerRequest) -> str:
    """The common name in the certificate of the client that makes a request; "" if it has none."""
    stream = getattr(request.connection, "stream", None)
    return stream.peer_name if isinstance(stream, BoundedStream) else ""


class BoundedStream(IOStream):
    """A client's connection.

    Args:
        replies: counts the bytes that the client has not taken.
        on_close: called with the stream when its descriptor is closed.
        admit_head: called when a long head has come; returns None if it may be read now, or a
            future that is done when it may.
        on_refused: called when input is refused here, with what it was and the error.

    Attributes:
        owner: whose share of the bounds it uses.
        peer_name: the common name in the client's certificate; "" if it showed none.
        unsent: bytes of replies that the system has not taken yet.
        lingers: a request is refused before its body has come.
        when_closed: called too when its descriptor is closed.
    """

    def __init__(
        self,
        connection: socket.socket,
        replies: Budget,
        on_close: Callable[[BoundedStream], None],
        admit_head: Callable[[], asyncio.Future[None] | None] = lambda: None,
        on_refused: Callable[[str, DteError], None] = lambda what, error: None,
        owner: str = OWN_USER,
        **options: Any,
    ) -> None:
        super().__init__(connection, **options)
        self.replies = replies
        self._on_close = on_close
        self._admit_head = admit_head
        self._on_refused = on_refused
        self._head_searched = 0
        self._head_waits = False
        self._has_refused = False
        self.owner = owner
        self.peer_name = ""
        self._sent_now = False
        self._moved = 0
        self._moved_before = 0
        self._window: tuple[float, int] | None = None
        self._nodelay = False
        self.awaited = Awaited.HEAD
        self._awaited_since = asyncio.get_running_loop().time()
        self.unsent = 0
        self.lingers = False
        self.when_closed: Callable[[], None] | None = None

    def await_now(self, awaited: Awaited) -> None:
        """Wait for another input from now on."""
        self.awaited = awaited
        self._awaited_since = asyncio.get_running_loop().time()
        self._moved_before = self._moved
        self._window = None

    def is_too_slow(self, now: float, slow_s: float) -> bool:
        """True if the client takes too long, judged by regular calls.

        A client does that has begun a request, or is being sent a reply, and takes longer than
        `slow_s` seconds for `SLOW_BYTES` or the rest of it, or longer than `BODY_S` for a body.
        """
        if self.awaited is Awaited.BODY and now - self._awaited_since > BODY_S:
            return True
        began = (
            self.unsent > 0
            or self.awaited is Awaited.BODY
            or (self.awaited is Awaited.HEAD and self._moved > self._moved_before)
        )
        if not began or self._window is None or self._moved - self._window[1] >= SLOW_BYTES:
            self._window = (now, self._moved) if began else None
            return False
        return now - self._window[0] > slow_s

    def say(self, reply: bytes) -> None:
        """Send a last reply as far as the system takes it; close the stream afterwards."""
        with suppress(OSError):
            # A system that closes with something unread resets the connection, reply and all.
            for _ in range(DRAINED_BYTES // self.read_chunk_size):
                if not self.socket.recv(self.read_chunk_size):
                    break
        with suppress(OSError):
            self.socket.send(reply)
            self.socket.shutdown(socket.SHUT_WR)

    def write(self, data: bytes | memoryview) -> Future[None]:
        if data == NOT_HTTP_OF_TORNADO:
            data = _not_http(sys.exc_info()[1])
        if not self.closed():
            # New bytes wait behind unsent ones.
            self._sent_now = self.unsent > 0
            self._count(len(data))
        return super().write(data)

    def write_to_fd(self, data: memoryview) -> int:
        if self._sent_now:
            self._sent_now = False
            return 0  # This makes a stream try again later.
        with data[:SENT_A_TURN] as part:
            sent = super().write_to_fd(part)
        self._sent_now = sent < len(data)
        self._count(-sent)
        self._moved += sent
        return sent

    def _count(self, count: int) -> None:
        self.unsent += count
        self.replies.add(count, self.owner)

    def set_nodelay(self, value: bool) -> None:
        # Tornado would switch it on and off with each reply.
        if value and not self._nodelay:
            self._nodelay = True
            super().set_nodelay(True)

    def reading(self) -> bool:
        # Nobody reads for a moment between the head of a request and its body. To remove the socket
        # from the loop and to add it again would take longer than to receive a few bytes.
        pause = not self.writing() and self._read_buffer_size < AHEAD_BYTES
        return pause or super().reading()

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        if not super().reading() and self._read_buffer_size >= AHEAD_BYTES:
            return None  # This makes a stream wait for more.
        try:
            count = super().read_from_fd(buf)
        finally:
            del buf  # An error would keep it, with this frame.
        self._moved += count or 0
        return count

    def _find_read_pos(self) -> int | None:
        if self._has_refused:
            return None
        try:
            # Only a head is read up to a pattern, a search for which would take long.
            return super()._find_read_pos() if self._read_regex is None else self._find_head_end()
        except UnsatisfiableReadError as error:
            # Tornado would log it without the request.
            self._has_refused = True
            self.close(error)
            return None

    def _find_head_end(self) -> int | None:
        """Find the end of a head in what has come; raise an error for one beyond a bound."""
        received, start = self._read_buffer, max(0, self._head_searched - 2)
        found = ((received.find(line, start), len(line)) for line in EMPTY_LINES)
        place, length = min((each for each in found if each[0] >= 0), default=(-1, 0))
        size = place + length if length else self._read_buffer_size
        if size > HEAD_SHORT and received.count(b"\n", 0, min(size, HEAD_BYTES_MAX)) > LINES_MAX:
            raise ManyFields
        if size > HEAD_BYTES_MAX:
            raise UnsatisfiableReadError
        self._head_searched = 0 if length else size
        return size if length else None

    def _read_from_buffer(self, pos: int) -> None:
        if pos > HEAD_SMALL and self._read_regex is not None:
            if self._head_waits:
                return
            admitted = self._admit_head()
            if admitted is not None:
                self._head_waits = True
                admitted.add_done_callback(lambda _: self._read_head(pos))
                return
        super()._read_from_buffer(pos)

    def _read_head(self, pos: int) -> None:
        """Read a head that had to wait, unless its client has hung up."""
        self._head_waits = False
        if self._read_future is not None and not self.closed():
            super()._read_from_buffer(pos)

    def close(self, exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self._refuse_input(exc_info)
        super().close(exc_info)
        if self.error is not None:
            # It refers to frames, and they to this stream: a cycle for each reset connection.
            self.error.__traceback__ = None

    def _refuse_input(self, reason: UnsatisfiableReadError) -> None:
        """Reply to input that cannot be read to its end."""
        error: DteError
        if self.awaited is Awaited.HEAD:
            error = LongHead(MANY_FIELDS if isinstance(reason, ManyFields) else LONG_HEAD)
            begin = bytes(self._read_buffer[:LINE_BYTES_SHOWN]).decode("latin-1")
            what = one_line(begin.partition("\n")[0].partition(" HTTP/")[0].partition("?")[0])
        else:
            what, error = "a malformed body", NotHttp(NO_HTTP)
        self._on_refused(what, error)
        self.say(last_reply(error.status, str(error), error.code))

    def close_fd(self) -> None:
        self._count(-self.unsent)
        if self.lingers:
            linger(self.socket)
        super().close_fd()
        self._on_close(self)
        if self.when_closed is not None:
            self.when_closed()
