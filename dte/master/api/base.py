"""What all routes share: JSON bodies within bounds, errors as JSON, numbers in the query."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable
from hashlib import blake2b
from http import HTTPStatus
from math import isfinite
from types import TracebackType
from typing import Any, TypeVar

from tornado.web import HTTPError, RequestHandler, stream_request_body

from dte.core.errors import (
    Busy,
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    TooLarge,
    TryAgain,
    WaitTooLong,
)
from dte.master.master import Master
from dte.wire.codec import Decoder, Malformed, encode

log = logging.getLogger("dte.master")

T = TypeVar("T")

REPLY_SLICE_BYTES = 32_768
"""How much of a long reply is written in a slice; an integer of 4,300 digits takes 0.2 ms."""


class BodyMeter:
    """Counts the bytes of bodies that are in memory, so that they stay within a bound."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0

    def add(self, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            Busy: more of them than the bound are in memory.
        """
        self._bytes += count
        if self._bytes > self._bytes_max:
            raise Busy(
                f"more than {self._bytes_max} bytes of bodies are in memory (bodies_bytes_max)"
            )

    def remove(self, count: int) -> None:
        self._bytes -= count


@stream_request_body
class JsonHandler(RequestHandler):
    """Base of every route. Subclasses raise a `DteError`, and the client gets it as JSON."""

    def initialize(self, master: Master, bodies: BodyMeter) -> None:
        self.master = master
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self._size = 0
        self._refusal: DteError | None = None
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
            return  # Read and thrown away: a client that still sends would not hear why.
        try:
            self._size += len(chunk)
            self._bodies.add(len(chunk))
            if self._size > self.body_bytes_max():
                raise self._too_large()
        except DteError as error:
            self._refusal = error
            self.release_body()
        else:
            self._chunks.append(chunk)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body has up to {self.body_bytes_max()} bytes here (body_bytes_max)")

    def release_body(self) -> None:
        """Count the body no more: nothing is left of it."""
        self._bodies.remove(self._size)
        self._size = 0
        self._chunks.clear()

    def on_finish(self) -> None:
        self.release_body()

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
        if self._refusal is not None:
            raise self._refusal
        raw = b"".join(self._chunks)
        self._chunks.clear()
        try:
            return decoder.decode(raw)
        except Malformed as error:
            if not raw.strip():
                raise InvalidRequest("the body is empty; a JSON object is expected") from None
            raise InvalidRequest(str(error)) from None

    def wait_s(self) -> float:
        """The query's ``wait=SECONDS``; 0 when there is none.

        Raises:
            WaitTooLong: it is longer than the bound, or no number of seconds.
        """
        text = self.get_query_argument("wait", "0")
        wait_max_s = self.master.settings.wait_max_s
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = -1.0
        if not isfinite(wait_s) or not 0 <= wait_s <= wait_max_s:
            raise WaitTooLong(text, wait_max_s)
        return wait_s

    async def encoded(self, values: Iterable[Any]) -> bytes:
        """The JSON of a list, written in slices if it is long."""
        return await self.master.slices.run(_encode_list(values))

    def reply(self, value: Any) -> None:
        """Answer with 200 and the JSON of a value."""
        self.finish(encode(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        reply: dict[str, Any]
        if isinstance(error, DteError):
            reply = {"error": str(error), "code": error.code}
        elif status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(self._methods())
            self.set_header("Allow", allowed)
            reply = {
                "error": f"{self.request.path} does not take {self.request.method} but {allowed}",
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


def _encode_list(values: Iterable[Any]) -> Generator[None, None, bytes]:
    parts: list[bytes] = []
    size = 0
    for value in values:
        parts.append(encode(value))
        size += len(parts[-1])
        if size > REPLY_SLICE_BYTES:
            size = 0
            yield
    return b"[" + b",".join(parts) + b"]"


class UnknownPath(JsonHandler):
    """Answers every path that no route serves."""

    def get(self) -> None:
        raise NotFound(f"there is nothing at {self.request.path}")

    head = post = delete = patch = put = options = get
