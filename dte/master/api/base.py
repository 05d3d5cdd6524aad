"""The base of all routes: bounded bodies and replies, JSON, errors, and `wait` in the query."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
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
from dte.master.api.openapi import ErrorReply, documentation
from dte.master.api.strict import check_names, check_no_body, check_query
from dte.master.http.meters import Budget
from dte.master.http.server import URGENT
from dte.master.http.stream import BoundedStream
from dte.master.master import Master
from dte.wire.codec import BOM, Decoder, Malformed, encode
from dte.wire.duplicates import PIECE_BYTES, find_duplicate, search_duplicate

log = logging.getLogger("dte.master")

T = TypeVar("T")

LIST_LONG = 100
"""Few replies with longer lists are made at once."""
WAITED_JOB_BYTES = 25
"""Memory that a waiting request takes for each of its jobs."""
REPLY_SLICE_BYTES = 32_768
"""Bytes of a long reply that are encoded in one slice; an integer of 4,300 digits takes 0.2 ms."""
REPLY_SLICE_S = 0.005
"""A slice ends after this time, however little is encoded by then."""
REPLY_PART_BYTES = 1_000_000
"""A long reply is sent in parts of about this size; each is freed as soon as it is sent."""
BODY_SLICE_BYTES = 1_000_000
"""A larger body is joined in one slice and decoded in the next."""
REFUSED_BYTES_MAX = 500_000_000
"""The connection is closed when more of a refused body than this arrives."""
ERROR_CHARS_MAX = 2_000
"""Longer error texts are cut; some quote what the client sent."""


@stream_request_body
class JsonHandler(RequestHandler):
    """Base of every route. When a subclass raises a `DteError`, the client gets it as JSON."""

    BODY_BYTES_MAX = sys.maxsize
    """Bound on the bodies of the route, besides the setting."""
    NAMES_DEPTH = sys.maxsize
    """An object of the body within more lists and objects may have a name twice, which readers of
    JSON reduce to once; 0 if any may."""
    IS_STRICT = True
    """Refuse query parameters that the method does not know, and a body if it takes none."""
    ERRORS_AS: Any = ErrorReply
    """The type that `error_body` gives, or a `Content` like `TEXT`."""

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
        """The bound on the bodies of the route, with the setting."""
        return min(self.BODY_BYTES_MAX, self.master.settings.body_bytes_max)

    def compute_etag(self) -> None:
        """Send no tag: hashing every reply costs more than a client can save."""

    def prepare(self) -> None:
        length = self.request.headers.get("Content-Length", "")
        # Tornado itself refuses a length with more digits than `int` takes.
        if length.isdecimal() and int(length[:20]) > self.body_bytes_max():
            self._refusal = self._too_large()
            if self.request.headers.get("Expect", "").lower() == "100-continue":
                raise self._refusal  # The client asks before it sends.
        if self.IS_STRICT:
            self._prepare_strictly()

    def _prepare_strictly(self) -> None:
        """Refuse an unknown query now, and a body that the method ignores when it has arrived."""
        method, headers = str(self.request.method), self.request.headers
        operation = documentation(getattr(self, method.lower(), None))
        if operation is None:
            return
        request = f"{method} {_cut(self.request.path)}"
        if self.request.query:
            try:
                check_query(request, tuple(operation.query), self.request.query_arguments)
            except InvalidRequest as error:
                self._refusal = error
                setattr(self, method.lower(), self._refuse)
                return
        has_body = headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers
        if has_body and operation.body is None:
            call = getattr(self, method.lower())
            setattr(self, method.lower(), partial(self._without_body, request, call))

    def _refuse(self, *parameters: str) -> None:
        assert self._refusal is not None
        raise self._refusal

    def _without_body(self, request: str, call: Callable[..., Any], *parameters: str) -> Any:
        check_no_body(request, self._joined())
        return call(*parameters)

    def data_received(self, chunk: bytes) -> None:
        if self._refusal is not None:
            # Read on: a client that is still sending would not see the reply.
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
        return TooLarge(f"the body has more than {self.body_bytes_max()} bytes (body_bytes_max)")

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name or 'the path'} is not UTF-8: {value!r}") from None

    def release_body(self) -> None:
        """Drop the body, and count its bytes no longer."""
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
        """Count a byte in the request's body."""
        return sum(chunk.count(byte) for chunk in self._chunks)

    def body_digest(self) -> str:
        """A hash of the request's body."""
        digest = blake2b(digest_size=16)
        for chunk in self._chunks:
            digest.update(chunk)
        return digest.hexdigest()

    def body(self, decoder: Decoder[T]) -> T:
        """Decode the request's body.

        Raises:
            InvalidRequest: it is not JSON, or does not fit the decoder's type.
            TooLarge: it has more bytes than the bound.
            Busy: too many bodies are being received.
        """
        raw = self._joined()
        value = _decoded(raw, decoder)
        if self.NAMES_DEPTH:
            check_names(find_duplicate(raw, self.NAMES_DEPTH))
        return value

    async def body_in_slices(self, decoder: Decoder[T]) -> T:
        """Decode the request's body; a large one in slices, and few of these at a time."""
        if self._size <= PIECE_BYTES:
            return self.body(decoder)
        async with self._bodies.long_ones if self._size > BODY_SLICE_BYTES else nullcontext():
            return await self.master.slices.run(self._body_slices(decoder))

    def _body_slices(self, decoder: Decoder[T]) -> Generator[None, None, T]:
        raw = self._joined()
        yield
        value = _decoded(raw, decoder)
        yield
        if self.NAMES_DEPTH:
            check_names((yield from search_duplicate(raw, self.NAMES_DEPTH)))
        return value

    def _joined(self) -> bytes:
        if self._refusal is not None:
            raise self._refusal
        raw = b"".join(self._chunks)
        self._chunks.clear()
        return raw.removeprefix(BOM)

    def wait_s(self) -> float:
        """The query's ``wait=SECONDS`` as `checked_wait_s`; 0 if there is none."""
        return self.checked_wait_s(self.get_query_argument("wait", "0"))

    def checked_wait_s(self, wait: str | float) -> float:
        """Check the seconds that a client asks to wait for.

        Raises:
            WaitTooLong: they exceed the bound, or are not a number of seconds.
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
        """Check that there is room for a long reply, before a change that cannot be undone.

        Raises:
            Busy: too many bytes of other replies wait for their clients.
        """
        self._replies.ensure_room()

    @asynccontextmanager
    async def room_for_list(self, count: int) -> AsyncIterator[None]:
        """Make room for a list of `count` values, within which it is collected and sent.

        Few long lists are made at once: if many grew together, the bound would stop them all.

        Raises:
            Busy: the list is long, and too many bytes of other replies wait for their clients.
        """
        if count <= LIST_LONG:
            yield
            return
        self._replies.ensure_room()
        async with self._replies.long_ones:
            self._replies.ensure_room()
            yield

    def count_waited_jobs(self, count: int) -> None:
        """Count the memory of a request that waits for `count` jobs, until it is answered.

        Raises:
            Busy: there is no room for it.
        """
        self._count_reply(count * WAITED_JOB_BYTES)

    def reply(self, value: Any) -> None:
        """Answer with the JSON of a value.

        Raises:
            Busy: there is no room for a long reply to a GET.
        """
        whole = encode(value)
        if len(whole) > REPLY_SLICE_BYTES and self.request.method == "GET":
            self._replies.ensure_room()
        self._send([whole])

    def created(self, value: Any) -> None:
        """Answer with 201 and the JSON of a value."""
        self.set_status(HTTPStatus.CREATED)
        self.reply(value)

    def reply_nothing(self) -> None:
        """Answer with 204 and no body."""
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()

    async def reply_list(
        self, values: Iterable[Any], before: bytes = b"", after: bytes = b""
    ) -> None:
        """Answer with the JSON of a list, encoded in slices, between two other texts.

        Raises:
            Busy: there is no room for a long reply to a GET.
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
            # A short text may have taken long to make.
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
        """Stop counting the reply: it was not sent, or the connection counts it now."""
        self._replies.remove(self._reply_size)
        self._reply_size = 0

    def _send(self, parts: Sequence[bytes]) -> None:
        self._release_reply()
        size = sum(map(len, parts))
        if size <= REPLY_SLICE_BYTES:
            self.finish(b"".join(parts))
            return
        # `finish` would copy all parts into one.
        self.set_header("Content-Length", size)
        self.flush()
        for part in parts:
            self.request.connection.write(part)  # type: ignore[union-attr]
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        raised = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        error = raised if isinstance(raised, DteError) else None
        if isinstance(error, TryAgain):
            self.set_header("Retry-After", str(error.retry_after_s))
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._methods()))
        text = HTTPStatus(status_code).phrase if error is None else str(error)
        self.finish(self.error_body(_cut(text), error, status_code))

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        """The body of a reply with an error, in the form of the dialect.

        Args:
            text: the error for people, cut to a bound.
            error: None if the request failed before or outside the route.
        """
        reply: dict[str, Any] = {"error": text, "code": error.code if error else "http"}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            path, method = _cut(self.request.path), _cut(str(self.request.method))
            allowed = ", ".join(self._methods())
            reply = {"error": f"{path} does not take {method} but {allowed}", "code": "method"}
        if isinstance(error, FormulaError):
            reply |= {"reason": error.reason, "column": error.column, "caret": error.caret}
            if error.index is not None:
                reply["index"] = error.index
        if isinstance(error, WaitTooLong):
            reply["wait_max_s"] = error.wait_max_s
        return encode(reply)

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
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log the master's faults; a client sees its own in the reply."""
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
    """The handler of every path without a route."""

    def get(self) -> None:
        raise NotFound(f"there is nothing at {self.request.path}")

    head = post = delete = patch = put = options = get
