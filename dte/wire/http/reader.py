"""Reads HTTP/1.1 messages from the bytes of a connection as they arrive. There are no sockets here.

Requests and replies differ in their start lines, and the body of a reply may end with its
connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES_MAX = 16_384
"""The longest head of a message, and the longest trailer."""
FIELDS_MAX = 100
"""The most fields of a head."""
INTERIM_MAX = 8
"""The most interim replies (1xx) before a reply."""
PATH_CHARS_MAX = 4_096
"""A longer path is that of no route, however it is written."""
LENGTH_DIGITS_MAX = 20
CHUNK_LINE_BYTES_MAX = 4_096
"""The longest line before a chunk."""
QUOTED_CHARS_MAX = 100
CHUNKS_A_READ = 250
"""Chunks that are read at a time: 0.2 ms, however small they are."""

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
        if len(path) > PATH_CHARS_MAX:
            return target
        return _escaped.sub(lambda match: chr(int(match[1], 16)), path) + mark + query
    return target


class NotHttp(ValueError):
    """The bytes are not an HTTP message. The text says why.

    It quotes requests alone: what another program says, where a worker was expected, is shown to
    nobody.

    Attributes:
        status: the status of a reply that says so.
    """

    status = 400


class BeyondBound(NotHttp):
    """A message exceeds a bound, which the text names."""


class LongHead(BeyondBound):
    status = 431


class LongBody(BeyondBound):
    status = 413


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
        self.body_bytes_max = body_bytes_max
        self._replies = replies
        self._ahead = b""
        self._searched = 0
        self._empty_bytes = 0
        self._interim = 0
        self._message: Message | None = None
        self._body = bytearray()
        self._missing: int | None = 0
        self._chunks: _Chunks | None = None

    @property
    def is_idle(self) -> bool:
        """True between messages: no bytes have arrived that `read` has not returned."""
        return self._message is None and not self._ahead

    @property
    def held(self) -> int:
        """The bytes in memory of a message that is not complete yet."""
        ahead = 0 if self._chunks is None else len(self._chunks.ahead)
        return len(self._ahead) + len(self._body) + ahead

    @property
    def is_behind(self) -> bool:
        """True if `read` has to be called again for bytes that it got: they are many chunks."""
        return self._chunks is not None and self._chunks.is_behind

    @property
    def status(self) -> int | None:
        """The status of a reply that is not complete yet; None before the end of its head."""
        return None if self._message is None else int(self._message.start_line[1])

    @property
    def begun(self) -> Message | None:
        """The message whose head is complete and whose body is not; None if there is none."""
        return self._message

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
            BeyondBound: the message exceeds a bound.
        """
        if self._message is None:
            data = self._read_head(self._ahead + data if self._ahead else data)
            if self._message is None:
                self._ahead, self._searched = data, len(data)
                return None
            self._ahead, self._searched = b"", 0
        return self._read_body(self._message, data)

    def end(self) -> Message | None:
        """Return the last message if the end of the connection completes it."""
        if self._message is None or self._missing is not None or self._chunks is not None:
            return None
        return self._finish(self._message, bytes(self._body), b"")

    def _read_head(self, data: bytes) -> bytes:
        """Begin the next message if its head is complete, and return the bytes after the head."""
        searched = self._searched  # They hold no end of a head.
        while True:
            if data[:1] in (b"\r", b"\n"):  # Some peers send an empty line after a body.
                stripped = data.lstrip(b"\r\n")
                self._empty_bytes += len(data) - len(stripped)
                data, searched = stripped, 0
            end = _head_end.search(data, max(0, searched - 3), HEAD_BYTES_MAX)
            head_bytes = len(data) if end is None else end.end()
            if self._empty_bytes + head_bytes > HEAD_BYTES_MAX:
                raise LongHead(f"the headers have more than {HEAD_BYTES_MAX} bytes")
            if end is None:
                return data
            message = _parse_head(data[: end.start()], quotes=not self._replies)
            data, searched = data[end.end() :], 0
            self._empty_bytes = 0
            if self._replies:
                status = _status(message.start_line)
                if status < 200:
                    self._count_interim()
                    continue
                self._interim = 0
                has_none = status in (204, 304)
            else:
                _check_request(message.start_line)
                has_none = False
            self._message = message
            self._begin_body(message.headers, has_none)
            return data

    def _count_interim(self) -> None:
        """Count a reply that the final one follows."""
        self._interim += 1
        if self._interim > INTERIM_MAX:
            raise BeyondBound(f"more than {INTERIM_MAX} interim replies came")

    def _begin_body(self, headers: dict[str, str], has_none: bool) -> None:
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        self._chunks = None
        if encoding is not None:
            if length is not None or encoding.lower() != "chunked":
                raise NotHttp(f"an unknown transfer encoding{self._quoted(encoding)}")
            self._chunks = _Chunks(self._body, self.body_bytes_max)
        elif length is not None:
            if not (length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS_MAX):
                raise NotHttp(f"Content-Length is not a number{self._quoted(length)}")
            self._missing = int(length)
            _ensure_short(self._missing, self.body_bytes_max)
        else:
            self._missing = None if self._replies else 0
        if has_none:
            self._missing, self._chunks = 0, None

    def _quoted(self, text: str) -> str:
        return "" if self._replies else f": {text[:QUOTED_CHARS_MAX]}"

    def _read_body(self, message: Message, data: bytes) -> Message | None:
        if self._chunks is not None:
            after = self._chunks.read(data)
            return None if after is None else self._finish(message, bytes(self._body), after)
        body = self._body
        if self._missing is None:
            _ensure_short(len(body) + len(data), self.body_bytes_max)
            body += data
            return None
        if len(data) < self._missing:
            body += data
            self._missing -= len(data)
            return None
        last, after = data[: self._missing], data[self._missing :]
        if not body:
            return self._finish(message, last, after)
        body += last
        return self._finish(message, bytes(body), after)

    def _finish(self, message: Message, body: bytes, after: bytes) -> Message:
        message.body = body
        if self._body:
            self._body = bytearray()
        self._chunks = None
        self._ahead = after
        self._message = None
        return message


def _ensure_short(body_bytes: int, bytes_max: int) -> None:
    if body_bytes > bytes_max:
        raise LongBody(f"the body has more than {bytes_max} bytes")


class _Chunks:
    """Reads a body with chunked transfer encoding.

    Args:
        body: takes the contents of the chunks.

    Attributes:
        ahead: the bytes that are not read yet.
        is_behind: more of them could be read.
    """

    def __init__(self, body: bytearray, bytes_max: int) -> None:
        self._body = body
        self._bytes_max = bytes_max
        self.ahead = b""
        self.is_behind = False
        self._missing = 0
        self._line_end_due = False
        self._trailer_bytes = -1
        """The length of the trailer so far; negative before it."""

    def read(self, data: bytes) -> bytes | None:
        """Read more bytes. Once the body is complete, return the bytes after it."""
        if self.ahead:
            data, self.ahead = self.ahead + data, b""
        self.is_behind = False
        place = 0
        for _ in range(2 * CHUNKS_A_READ):  # A chunk has two lines.
            if self._missing:
                part = data[place : place + self._missing]
                self._body += part
                place += len(part)
                self._missing -= len(part)
                if self._missing:
                    return None
                self._line_end_due = True
            end = data.find(b"\n", place, place + CHUNK_LINE_BYTES_MAX)
            if end < 0:
                self.ahead = data[place:]
                if len(self.ahead) >= CHUNK_LINE_BYTES_MAX:
                    most = CHUNK_LINE_BYTES_MAX
                    raise LongHead(f"the line before a chunk has more than {most} bytes")
                return None
            if self._ends(data[place:end]):
                return data[end + 1 :]
            place = end + 1
        self.ahead, self.is_behind = data[place:], True
        return None

    def _ends(self, line: bytes) -> bool:
        """Take a line besides the contents of chunks; return True if it is the last."""
        if self._line_end_due:
            if line != b"\r":
                raise NotHttp("a chunk does not end after its size")
            self._line_end_due = False
        elif self._trailer_bytes < 0:
            self._begin(line)
        elif not line.strip():
            return True
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > HEAD_BYTES_MAX:
                raise LongHead(f"the trailer has more than {HEAD_BYTES_MAX} bytes")
        return False

    def _begin(self, line: bytes) -> None:
        """Begin a chunk. A chunk of 0 bytes is the last, and the trailer follows."""
        size = line.partition(b";")[0].strip()
        if not _chunk_size.fullmatch(size):
            raise NotHttp("a chunk has no size")
        self._missing = int(size, 16)
        _ensure_short(len(self._body) + self._missing, self._bytes_max)
        if not self._missing:
            self._trailer_bytes = 0


def _parse_head(head: bytes, quotes: bool) -> Message:
    if head.count(b"\n") > FIELDS_MAX:
        raise LongHead(f"there are more than {FIELDS_MAX} headers")
    lines = head.decode("latin-1").split("\n")
    start_line = lines[0].rstrip().split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            quoted = f": {line[:QUOTED_CHARS_MAX]!r}" if quotes else ""
            raise NotHttp(f"not a header{quoted}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Message(start_line, headers)


def _status(start_line: list[str]) -> int:
    version, status = start_line[0], start_line[1] if len(start_line) > 1 else ""
    if version not in _VERSIONS or len(status) != 3 or not status.isdecimal():
        raise NotHttp(f"not a status line ({sum(map(len, start_line))} characters)")
    return int(status)


def _check_request(start_line: list[str]) -> None:
    method, target, version = start_line if len(start_line) == 3 else ("", "", "")
    if version not in _VERSIONS or not method.isalpha() or not target:
        raise NotHttp(f"not a request line: {' '.join(start_line)[:QUOTED_CHARS_MAX]!r}")
