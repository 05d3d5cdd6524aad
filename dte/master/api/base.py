"""What all routes share: JSON bodies within bounds, errors as JSON, numbers in the query."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from http import HTTPStatus
from math import isfinite
from types import TracebackType
from typing import Any, TypeVar

from tornado.web import HTTPError, RequestHandler, stream_request_body

from dte.core.errors import (
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    TooLarge,
    TryAgain,
    WaitTooLong,
)
from dte.master.http.meters import Budget
from dte.master.http.server import URGENT
from dte.master.http.stream import BoundedStream
from dte.master.master import Master
from dte.wire.codec import Decoder, Malformed, encode

log = logging.getLogger("dte.master")

T = TypeVar("T")

LIST_LONG = 100
"""A longer list is made with few others at a time."""
HELD_BYTES = 25
"""What a request that is held takes for each of the jobs that it waits for."""
REPLY_SLICE_BYTES = 32_768
"""How much of a long reply is written in a slice; an integer of 4,300 digits takes 0.2 ms."""
REPLY_SLICE_S = 0.005
"""A slice ends after so long, however little is written in it."""
REPLY_PART_BYTES = 1_000_000
"""A long reply is in parts of about this size, each of which is freed when it has been sent."""
BODY_SLICE_BYTES = 1_000_000
"""A larger body is read in slices: put together in one, decoded in the next."""
REFUSED_BYTES_MAX = 500_000_000
"""How much of a body is read that is refused already, before the connection is closed."""
ERROR_CHARS_MAX = 2_000
"""Where the text of an error is cut; some quote what the client sent."""


@stream_request_body
class JsonHandler(RequestHandler):
    """Base of every route. Subclasses raise a `DteError`, and the client gets it as JSON."""

    def initialize(self, master: Master, bodies: Budget) -> None:
        self.master = master
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self._size = 0
        self._refused_size = 0
        self._refusal: DteError | None = None
        stream: BoundedStream = self.request.connection.stream  # type: ignore[union-attr]
        self._replies = stream.replies
        self._reply_size = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the client has hung up."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")

    def body_bytes_max(self) -> int:
        """Most bytes of a body that this route takes."""
        return self.master.settings.body_bytes_max

    def compute_etag(self) -> None:
        """No tag: hashing each reply would cost more than a client can save by it."""

    def prepare(self) -> None:
        length = self.request.headers.get("Content-Length", "")
        # One of more digits than int takes is refused by Tornado.
        if length.isdecimal() and int(length[:20]) > self.body_bytes_max():
            self._refusal = self._too_large()
            if self.request.headers.get("Expect", "").lower() == "100-continue":
                raise self._refusal  # The client asks before it sends.

    def data_received(self, chunk: bytes) -> None:
        if self._refusal is not None:
            # Read and thrown away: a client that still sends would not hear why.
            self._refused_size += len(chunk)
            if self._refused_size > REFUSED_BYTES_MAX:
                self.request.connection.close()  # type: ignore[union-attr]
            return
        try:
            self._size += len(chunk)
            self._bodies.add(len(chunk))
            if self.request.path not in URGENT:
                self._bodies.ensure_room(begun=True)
            if self._size > self.body_bytes_max():
                raise self._too_large()
        except DteError as error:
            self._refusal = error
            self.release_body()
        else:
            self._chunks.append(chunk)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body has up to {self.body_bytes_max()} bytes here (body_bytes_max)")

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name or 'the path'} is not in UTF-8: {value!r}") from None

    def release_body(self) -> None:
        """Count the body no more: nothing is left of it."""
        self._bodies.remove(self._size)
        self._size = 0
        self._chunks.clear()

    def on_finish(self) -> None:
        self.release_body()
        self._release_reply()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.release_body()
        if not self.gone.done():
            self.gone.set_result(None)

    def body_count(self, byte: bytes) -> int:
        """How often a byte stands in the request's body."""
        return sum(chunk.count(byte) for chunk in self._chunks)

    def body_digest(self) -> str:
        """What tells the request's body from others."""
        digest = blake2b(digest_size=16)
        for chunk in self._chunks:
            digest.update(chunk)
        return digest.hexdigest()

    def body(self, decoder: Decoder[T]) -> T:
        """The request's body.

        Raises:
            InvalidRequest: it is not JSON, or not of the decoder's shape.
            TooLarge: it has more bytes than the bound.
            Busy: too many bodies are being received.
        """
        return _decoded(self._put_together(), decoder)

    async def body_in_slices(self, decoder: Decoder[T]) -> T:
        """As `body`; a large one is read in slices, and no other meanwhile."""
        if self._size <= BODY_SLICE_BYTES:
            return self.body(decoder)
        async with self._bodies.long_ones:
            return await self.master.slices.run(self._body_slices(decoder))

    def _body_slices(self, decoder: Decoder[T]) -> Generator[None, None, T]:
        raw = self._put_together()
        yield
        value = _decoded(raw, decoder)
        yield
        return value

    def _put_together(self) -> bytes:
        if self._refusal is not None:
            raise self._refusal
        raw = b"".join(self._chunks)
        self._chunks.clear()
        return raw

    def wait_s(self) -> float:
        """The query's ``wait=SECONDS``; 0 when there is none.

        Raises:
            WaitTooLong: it is longer than the bound, or no number of seconds.
        """
        return self.checked_wait_s(self.get_query_argument("wait", "0"))

    def checked_wait_s(self, wait: str | float) -> float:
        """How long a request asks to be held, in seconds.

        Raises:
            WaitTooLong: it is longer than the bound, or no number of seconds.
        """
        wait_max_s = self.master.settings.wait_max_s
        try:
            wait_s = float(wait)
        except ValueError:
            wait_s = -1.0
        if not isfinite(wait_s) or not 0 <= wait_s <= wait_max_s:
            raise WaitTooLong(str(wait), wait_max_s)
        return wait_s

    def ensure_room_for_reply(self) -> None:
        """Check that there is room for a long reply, before what cannot be undone is done.

        Raises:
            Busy: clients have not taken too much of other replies yet.
        """
        self._replies.ensure_room()

    @asynccontextmanager
    async def room_for_list(self, count: int) -> AsyncIterator[None]:
        """Get a list of so many values, and answer with it, in this: few long ones at a time.

        Of many that grow together, none would be whole before the bound is met.

        Raises:
            Busy: it is long, and clients have not taken too much of other replies yet.
        """
        if count <= LIST_LONG:
            yield
            return
        self._replies.ensure_room()
        async with self._replies.long_ones:
            self._replies.ensure_room()
            yield

    def count_held(self, count: int) -> None:
        """Count what a request takes that is held for so many jobs, until it is answered.

        Raises:
            Busy: there is no room for it.
        """
        self._count_reply(count * HELD_BYTES)

    def reply(self, value: Any) -> None:
        """Answer with 200 and the JSON of a value.

        Raises:
            Busy: it is long, there is no room for it, and nothing has been done but to ask.
        """
        whole = encode(value)
        if len(whole) > REPLY_SLICE_BYTES and self.request.method == "GET":
            self._replies.ensure_room()
        self._send([whole])

    async def reply_list(
        self, values: Iterable[Any], before: bytes = b"", after: bytes = b""
    ) -> None:
        """Answer with 200 and the JSON of a list, written in slices if it is long.

        Args:
            before: the JSON that stands before the list.
            after: the JSON that stands after it.

        Raises:
            Busy: as for `reply`.
        """
        self._send(await self.master.slices.run(self._encode_list(values, before, after)))

    def _encode_list(
        self, values: Iterable[Any], before: bytes, after: bytes
    ) -> Generator[None, None, list[bytes]]:
        parts: list[bytes] = []
        texts: list[bytes] = []
        start, part_size, slice_size = before + b"[", 0, 0
        began = time.monotonic()
        for value in values:
            texts.append(encode(value))
            slice_size += len(texts[-1])
            # What is short may have been long in the making.
            if slice_size > REPLY_SLICE_BYTES or time.monotonic() - began > REPLY_SLICE_S:
                self._count_reply(slice_size)
                part_size += slice_size
                slice_size = 0
                if part_size > REPLY_PART_BYTES:
                    parts.append(start + b",".join(texts))
                    texts.clear()
                    start, part_size = b",", 0
                yield
                began = time.monotonic()
                if self.gone.done():
                    break  # Nobody reads the rest.
        if texts or not parts:
            parts.append(start + b",".join(texts))
        parts.append(b"]" + after)
        return parts

    def _count_reply(self, count: int) -> None:
        self._reply_size += count
        self._replies.add(count)
        if self.request.method == "GET":
            self._replies.ensure_room(begun=True)

    def _release_reply(self) -> None:
        """Count the reply no more: there is none, or the connection counts it."""
        self._replies.remove(self._reply_size)
        self._reply_size = 0

    def _send(self, parts: Sequence[bytes]) -> None:
        self._release_reply()
        size = sum(map(len, parts))
        if size <= REPLY_SLICE_BYTES:
            self.finish(b"".join(parts))
            return
        # Not by `finish`, which would copy everything together.
        self.set_header("Content-Length", size)
        self.flush()
        for part in parts:
            self.request.connection.write(part)  # type: ignore[union-attr]
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        reply: dict[str, Any]
        if isinstance(error, DteError):
            reply = {"error": _cut(str(error)), "code": error.code}
        elif status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(self._methods())
            path, method = self.request.path, str(self.request.method)
            self.set_header("Allow", allowed)
            reply = {
                "error": f"{_cut(path)} does not take {_cut(method)} but {allowed}",
                "code": "method",
            }
        else:
            reply = {"error": HTTPStatus(status_code).phrase, "code": "http"}
        if isinstance(error, FormulaError):
            reply |= {"reason": error.reason, "column": error.column, "caret": error.caret}
            if error.index is not None:
                reply["index"] = error.index
        if isinstance(error, WaitTooLong):
            reply["wait_max_s"] = error.wait_max_s
        if isinstance(error, TryAgain):
            self.set_header("Retry-After", str(error.retry_after_s))
        self.finish(encode(reply))

    def _methods(self) -> list[str]:
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        super().send_error(error.status if isinstance(error, DteError) else status_code, **kwargs)

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log what is the master's fault; a client hears of its own faults in the reply."""
        if not isinstance(value, (DteError, HTTPError)):
            log.error("%s %s", self.request.method, self.request.uri, exc_info=(typ, value, tb))  # type: ignore[arg-type]


def _decoded(raw: bytes, decoder: Decoder[T]) -> T:
    try:
        return decoder.decode(raw)
    except Malformed as error:
        if not raw.strip():
            raise InvalidRequest("the body is empty; a JSON object is expected") from None
        raise InvalidRequest(str(error)) from None


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_CHARS_MAX else text[:ERROR_CHARS_MAX] + "…"


class UnknownPath(JsonHandler):
    """Answers every path that no route serves."""

    def get(self) -> None:
        raise NotFound(f"there is nothing at {self.request.path}")

    head = post = delete = patch = put = options = get
