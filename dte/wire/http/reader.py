"""Reads HTTP/1.1 messages from the bytes of a connection as they arrive. There are no sockets here.

Requests and replies differ in their start lines, and the body of a reply may end with its
connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES_MAX = 65_536
LENGTH_DIGITS_MAX = 20
CHUNK_LINE_BYTES_MAX = 4_096
"""The longest line before a chunk."""

_head_end = re.compile(rb"\r?\n\r?\n")
_absolute = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_escaped = re.compile("%(2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")
"""Letters, digits and ``-._~``, which mean the same without the escape."""
_chunk_size = re.compile(rb"[0-9a-fA-F]{1,15}")
_VERSIONS = ("HTTP/1.1", "HTTP/1.0")


def origin_form(target: str) -> str:
    """Return the target of a request as a path with its query.

    A client of a proxy writes a whole URL, and any client may escape letters that need no escape.
    """
    if target[:4].lower() == "http" and (match := _absolute.match(target)) is not None:
        target = target[match.end() :]
        target = target if target[:1] == "/" else f"/{target}"
    if "%" in target:
        path, mark, query = target.partition("?")
        return _escaped.sub(lambda match: chr(int(match[1], 16)), path) + mark + query
    return target


class NotHttp(ValueError):
    """The bytes are not an HTTP message, or the message exceeds a bound. The text says which.

    Attributes:
        status: the status of a reply that says so.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Message:
    """A request or a reply.

    Attributes:
        start_line: the three parts of the start line.
        headers: the values by names in lower case; repeated headers are joined by a comma.
    """

    start_line: list[str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def closes(self) -> bool:
        """True if the sender announces that it closes the connection after this message."""
        connection = self.headers.get("connection")
        if connection is not None:
            options = [option.strip() for option in connection.lower().split(",")]
            if "close" in options:
                return True
            if "keep-alive" in options:
                return False
        return "HTTP/1.0" in self.start_line


class MessageReader:
    """Reads the messages of one connection, one after the other.

    Args:
        replies: reads replies if True, requests if False.
        body_bytes_max: the longest body; a message with a longer one is refused.
    """

    def __init__(self, *, replies: bool, body_bytes_max: int) -> None:
        self._replies = replies
        self._body_bytes_max = body_bytes_max
        self._ahead = b""
        self._message: Message | None = None
        self._parts: list[bytes] = []
        self._missing: int | None = 0
        self._chunks: _Chunks | None = None

    @property
    def is_idle(self) -> bool:
        """True between messages: no bytes have arrived that `read` has not returned."""
        return self._message is None and not self._ahead

    @property
    def expects_continue(self) -> bool:
        """True if a request has begun whose sender may wait for a reply before it sends a body."""
        message = self._message
        return (
            message is not None
            and message.headers.get("expect", "").lower() == "100-continue"
            and message.start_line[2] == "HTTP/1.1"
        )

    def read(self, data: bytes = b"") -> Message | None:
        """Return the next message if it is complete. Further bytes are kept for the next one.

        Raises:
            NotHttp: the bytes are not a message; the connection is of no further use.
        """
        if self._message is None:
            data = self._read_head(self._ahead + data if self._ahead else data)
            if self._message is None:
                self._ahead = data
                return None
        return self._read_body(self._message, data)

    def end(self) -> Message | None:
        """Return the last message if the end of the connection completes it."""
        if self._message is None or self._missing is not None or self._chunks is not None:
            return None
        return self._finish(self._message, b"")

    def _read_head(self, data: bytes) -> bytes:
        """Begin the next message if its head is complete, and return the bytes after the head."""
        while True:
            if data[:1] in (b"\r", b"\n"):  # Some peers send an empty line after a body.
                data = data.lstrip(b"\r\n")
            end = _head_end.search(data)
            if (len(data) if end is None else end.end()) > HEAD_BYTES_MAX:
                raise NotHttp(f"the headers have more than {HEAD_BYTES_MAX} bytes", 431)
            if end is None:
                return data
            message = _parse_head(data[: end.start()])
            data = data[end.end() :]
            if self._replies:
                status = _status(message.start_line)
                if status < 200:
                    continue  # An interim response; the final one follows.
                has_none = status in (204, 304)
            else:
                _check_request(message.start_line)
                has_none = False
            self._message = message
            self._begin_body(message.headers, has_none)
            return data

    def _begin_body(self, headers: dict[str, str], has_none: bool) -> None:
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        self._chunks = None
        if encoding is not None:
            if length is not None or encoding.lower() != "chunked":
                raise NotHttp(f"an unknown transfer encoding: {encoding[:100]}")
            self._chunks = _Chunks(self._body_bytes_max)
        elif length is not None:
            if not (length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS_MAX):
                raise NotHttp(f"Content-Length is not a number: {length[:100]}")
            self._missing = int(length)
            self._ensure_short(self._missing)
        else:
            self._missing = None if self._replies else 0
        if has_none:
            self._missing, self._chunks = 0, None

    def _read_body(self, message: Message, data: bytes) -> Message | None:
        if self._chunks is not None:
            after = self._chunks.read(data)
            if after is None:
                return None
            self._parts = self._chunks.parts
            return self._finish(message, after)
        if self._missing is None:
            self._parts.append(data)
            self._ensure_short(sum(map(len, self._parts)))
            return None
        if len(data) < self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            return None
        self._parts.append(data[: self._missing])
        return self._finish(message, data[self._missing :])

    def _finish(self, message: Message, after: bytes) -> Message:
        message.body = b"".join(self._parts)
        self._parts = []
        self._ahead = after
        self._message = None
        return message

    def _ensure_short(self, body_bytes: int) -> None:
        if body_bytes > self._body_bytes_max:
            raise NotHttp(f"the body has more than {self._body_bytes_max} bytes", 413)


class _Chunks:
    """A body with chunked transfer encoding. `parts` are the chunks so far."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._raw = bytearray()
        self._size: int | None = None
        self._bytes = 0
        self._trailer_bytes = 0
        self.parts: list[bytes] = []

    def read(self, data: bytes) -> bytes | None:
        """Read more bytes. Once the body is complete, return the bytes after it."""
        raw = self._raw
        raw += data
        while True:
            if self._size:
                if len(raw) < self._size + 2:
                    return None
                if raw[self._size : self._size + 2] != b"\r\n":
                    raise NotHttp("a chunk does not end after its size")
                self.parts.append(bytes(raw[: self._size]))
                del raw[: self._size + 2]
                self._size = None
            line = self._line()
            if line is None:
                return None
            if self._size is None:
                self._begin(line)
            elif not line:
                return bytes(raw)
            else:
                self._trailer_bytes += len(line)
                if self._trailer_bytes > HEAD_BYTES_MAX:
                    raise NotHttp(f"the trailer has more than {HEAD_BYTES_MAX} bytes")

    def _line(self) -> bytes | None:
        end = self._raw.find(b"\n", 0, CHUNK_LINE_BYTES_MAX)
        if end < 0:
            if len(self._raw) >= CHUNK_LINE_BYTES_MAX:
                raise NotHttp(f"the line before a chunk has more than {CHUNK_LINE_BYTES_MAX} bytes")
            return None
        line = bytes(self._raw[:end])
        del self._raw[: end + 1]
        return line.strip()

    def _begin(self, line: bytes) -> None:
        """Begin a chunk. A chunk of 0 bytes is the last."""
        size = line.partition(b";")[0].strip()
        if not _chunk_size.fullmatch(size):
            raise NotHttp("a chunk has no size")
        self._size = int(size, 16)
        self._bytes += self._size
        if self._bytes > self._bytes_max:
            raise NotHttp(f"the body has more than {self._bytes_max} bytes", 413)


def _parse_head(head: bytes) -> Message:
    lines = head.decode("latin-1").split("\n")
    start_line = lines[0].rstrip().split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise NotHttp(f"not a header: {line[:100]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Message(start_line, headers)


def _status(start_line: list[str]) -> int:
    version, status = start_line[0], start_line[1] if len(start_line) > 1 else ""
    if version not in _VERSIONS or len(status) != 3 or not status.isdecimal():
        raise NotHttp(f"not a status line: {' '.join(start_line)[:100]!r}")
    return int(status)


def _check_request(start_line: list[str]) -> None:
    method, target, version = start_line if len(start_line) == 3 else ("", "", "")
    if version not in _VERSIONS or not method.isalpha() or not target:
        raise NotHttp(f"not a request line: {' '.join(start_line)[:100]!r}")
