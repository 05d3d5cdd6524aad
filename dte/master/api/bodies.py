"""Receives requests: bounded bodies, decoded as JSON, and nothing in a request that is ignored."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import nullcontext
from functools import partial, wraps
from hashlib import blake2b
from typing import Any, TypeVar, cast

from tornado.web import RequestHandler, stream_request_body

from dte.core.errors import DteError, InvalidRequest, TooLarge, Unsupported
from dte.core.slices import at_once
from dte.master.access.caller import Caller
from dte.master.access.roles import KNOWN, NO_METHODS, May
from dte.master.api.openapi import documentation, documented
from dte.master.api.strict import (
    check_encoding,
    check_names,
    check_no_body,
    check_query,
)
from dte.master.http.access import WrongToken, check_role
from dte.master.http.meters import Budget
from dte.master.http.server import URGENT
from dte.master.master import Master
from dte.master.owners import owner_of
from dte.master.turns import What, what_for
from dte.wire.codec import BOM, Decoder, Malformed
from dte.wire.duplicates import PIECE_BYTES, find_duplicate, search_duplicate
from dte.wire.faults import plain
from dte.wire.http.encodings import guessed_encoding
from dte.wire.misfits import explained

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

BODY_SLICE_BYTES = 1_000_000
"""A larger body is joined in one slice and decoded in the next."""
REFUSED_BYTES_MAX = 500_000_000
"""The connection is closed when more of a refused body than this arrives."""
PATH_CHARS_SHOWN = 200
UNKNOWN_PATH = "an unknown path"


class HungUp(DteError):
    """The client closed the connection before its body was read; nobody gets the reply."""

    status = 400
    code = "hung_up"


@stream_request_body
class BodyHandler(RequestHandler):
    """Base of `JsonHandler`: everything about a request until its method is called."""

    BODY_BYTES_MAX = sys.maxsize
    """Bound on the bodies of the route, besides the setting."""
    NAMES_DEPTH = sys.maxsize
    """An object of the body within more lists and objects may have a name twice, which readers of
    JSON reduce to once; 0 if any may."""
    IS_STRICT = True
    """Refuse query parameters that the method does not know, a body if it takes none, and a body
    that claims another charset than UTF-8."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in map(str.lower, cls.SUPPORTED_METHODS):
            if name in vars(cls):
                setattr(cls, name, _noted(vars(cls)[name]))

    def initialize(
        self,
        master: Master,
        bodies: Budget,
        path: str = UNKNOWN_PATH,
        may: May = NO_METHODS,
    ) -> None:
        self.master = master
        self._may = may
        self.identified: Caller | None = None
        """Who makes the request; None for nobody that is known."""
        self._what: What = (str(self.request.method), path)
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self._size = 0
        self._refused_size = 0
        self._refusal: DteError | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the client has hung up."""

    @property
    def owner(self) -> str:
        """Whose share of the bounds the request uses."""
        known = self.identified
        return owner_of(self.request.remote_ip or "") if known is None else known.owner

    @property
    def caller(self) -> Caller:
        """Who makes the request, on a route that needs a token."""
        assert self.identified is not None, "the route is not for everybody"
        return self.identified

    def body_bytes_max(self) -> int:
        """The bound on the bodies of the route, with the setting."""
        return min(self.BODY_BYTES_MAX, self.master.settings.body_bytes_max)

    def note(self) -> None:
        """Note that the work of the loop is for this request."""
        self.master.turns.note(self._what)

    def prepare(self) -> Awaitable[None] | None:
        what_for.set(self._what)
        self.note()
        method = "get" if self.request.method == "HEAD" else str(self.request.method).lower()
        try:
            access = self.master.access
            access.check_origin(self.request)
            self.identified = access.caller(self.request)
            check_role(self.identified, self._may.get(method, KNOWN), self.request)
        except DteError as error:
            self.request.connection.stream.lingers = True  # type: ignore[union-attr]
            if isinstance(error, WrongToken) and error.pause_s:
                return self._refuse_later(error)
            raise
        self._prepare_body(method)
        return None

    async def _refuse_later(self, error: WrongToken) -> None:
        await self.pause(error)
        raise error

    async def pause(self, error: WrongToken) -> None:
        """Wait before a wrong token is refused, unless the client hangs up."""
        try:
            await asyncio.wait([self.gone], timeout=error.pause_s)
        finally:
            self.master.access.guesses.over(owner_of(self.request.remote_ip or ""))

    def _prepare_body(self, method: str) -> None:
        """Refuse a body that is too long, and what the method would ignore."""
        headers = self.request.headers
        length = headers.get("Content-Length", "")
        has_body = length not in ("", "0") or "Transfer-Encoding" in headers
        # Tornado itself refuses a length with more digits than `int` takes.
        if length.isdecimal() and int(length[:20]) > self.body_bytes_max():
            self._refusal = self._too_large()
        operation = documentation(getattr(self, method, None))
        if operation is not None and (has_body or self.request.query):
            self._check_request(operation, has_body, getattr(self, method))
        asks_first = headers.get("Expect", "").lower() == "100-continue"
        if self._refusal is not None and (asks_first or self.identified is None):
            # The client asks before it sends, or nobody knows it.
            self.request.connection.stream.lingers = True  # type: ignore[union-attr]
            raise self._refusal

    def _check_request(
        self, operation: documented, has_body: bool, call: Callable[..., Any]
    ) -> None:
        """Refuse what the method would ignore, when the whole request has arrived."""
        request = f"{self.request.method} {self.request.path[:PATH_CHARS_SHOWN]}"
        try:
            if has_body:
                check_encoding(self.request.headers, self.IS_STRICT)
            if self.IS_STRICT:
                check_query(request, tuple(operation.query), self.request.query_arguments)
        except DteError as error:
            self._refusal = error
            self._replace_method(self._refuse)
        else:
            if self.IS_STRICT and has_body and operation.body is None:
                self._replace_method(partial(self._without_body, request, call))

    def _replace_method(self, by: Callable[..., Any]) -> None:
        """Have another function called when the whole request has arrived."""
        setattr(self, str(self.request.method).lower(), by)

    def _refuse(self, *parameters: str) -> None:
        assert self._refusal is not None
        raise self._refusal

    def _without_body(self, request: str, call: Callable[..., Any], *parameters: str) -> Any:
        check_no_body(request, self.raw_body())
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
            self._bodies.add(len(chunk), self.owner)
            if self.request.path not in URGENT:
                self._bodies.ensure_room(begun=True, owner=self.owner)
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
        self._bodies.remove(self._size, self.owner)
        self._size = 0
        self._chunks.clear()

    def on_finish(self) -> None:
        self.master.turns.note()
        self.release_body()
        self._refusal = None  # Its traceback refers to this object.
        vars(self).pop(str(self.request.method).lower(), None)  # It would refer to this object.

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.release_body()
        if not self.gone.done():
            self.gone.set_result(None)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Have something called when the connection closes, also after the reply."""
        connection: Any = self.request.connection
        connection.stream.when_closed = callback

    @property
    def body_size(self) -> int:
        """The bytes of the request's body; 0 once they are not counted any more."""
        return self._size

    def body_count(self, byte: bytes) -> int:
        """Count a byte in the request's body."""
        return sum(chunk.count(byte) for chunk in self._chunks)

    async def body_digest(self) -> str:
        """A hash of the request's body; that of a large one is made in slices."""
        digesting = self._digesting(list(self._chunks))
        if self._size <= BODY_SLICE_BYTES:
            return at_once(digesting)
        return await self.master.slices.run(digesting)

    def _digesting(self, chunks: Iterable[bytes]) -> Generator[None, None, str]:
        digest = blake2b(digest_size=16)
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > BODY_SLICE_BYTES:
                size = len(chunk)
                yield
            digest.update(chunk)
        return digest.hexdigest()

    def body(self, decoder: Decoder[T]) -> T:
        """Decode the request's body.

        Raises:
            InvalidRequest: it is not JSON, or does not fit the decoder's type.
            TooLarge: it has more bytes than the bound.
            Busy: too many bodies are being received.
            HungUp: the client hung up, and the body is dropped.
        """
        raw = self.raw_body()
        value = self.decoded(raw, decoder)
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
        raw = self.raw_body()
        yield
        try:
            value = yield from decoder.decoding(raw)
        except Malformed as error:
            raise self._misshapen(raw, decoder, error) from None
        yield
        if self.NAMES_DEPTH:
            check_names((yield from search_duplicate(raw, self.NAMES_DEPTH)))
        return value

    def decoded(self, raw: bytes, decoder: Decoder[T]) -> T:
        try:
            return decoder.decode(raw)
        except Malformed as error:
            raise self._misshapen(raw, decoder, error) from None

    def _misshapen(self, raw: bytes, decoder: Decoder[T], error: Malformed) -> DteError:
        """The error for a body that cannot be decoded."""
        if not raw.strip():
            return InvalidRequest("the body is empty; a JSON object is expected")
        if self.IS_STRICT and (encoding := guessed_encoding(raw)) is not None:
            return Unsupported(encoding)
        return InvalidRequest(explained(raw, decoder.shape) or plain(error))

    def raw_body(self) -> bytes:
        self.note()
        if self._refusal is not None:
            raise self._refusal
        if self.gone.done():
            raise HungUp("the client closed the connection before its body was read")
        raw = b"".join(self._chunks)
        self._chunks.clear()
        return raw.removeprefix(BOM)


def _noted(method: Method) -> Method:
    """A method of a route that notes its request when it begins: the body may have taken long."""

    @wraps(method)
    def begin(self: BodyHandler, *parameters: str) -> Any:
        self.note()
        return method(self, *parameters)

    return cast(Method, begin)
