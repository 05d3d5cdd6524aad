"""The base of all routes: bounded replies, JSON, errors, and `wait` in the query."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Generator, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from functools import partial
from http import HTTPStatus
from math import nan
from types import TracebackType
from typing import Any

from tornado.escape import utf8
from tornado.web import HTTPError, RequestHandler

from dte.core.errors import (
    Busy,
    DteError,
    FormulaError,
    InvalidRequest,
    JournalDamaged,
    NotFound,
    TryAgain,
    Unavailable,
    Unsupported,
    WaitTooLong,
)
from dte.core.jobs.job import Job
from dte.master.api.bodies import UNKNOWN_PATH, BodyHandler, HungUp
from dte.master.api.openapi import ErrorReply
from dte.master.http.meters import PAST_SHARE, Budget
from dte.master.http.stream import BoundedStream
from dte.master.jobs import shutting_down
from dte.master.master import Master
from dte.master.past import Reading
from dte.wire.codec import encode

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
PATH_CHARS_COMPARED = 200
"""A longer path is like no route; to compare it takes milliseconds."""
ERROR_CHARS_MAX = 2_000
"""Longer error texts are cut; some quote what the client sent."""


class JsonHandler(BodyHandler):
    """Base of every route. When a subclass raises a `DteError`, the client gets it as JSON."""

    ERRORS_AS: Any = ErrorReply
    """The type that `error_body` gives, or a `Content` like `TEXT`."""

    def initialize(self, master: Master, bodies: Budget, path: str = UNKNOWN_PATH) -> None:
        super().initialize(master, bodies, path)
        stream: BoundedStream = self.request.connection.stream  # type: ignore[union-attr]
        self._replies = stream.replies
        self._reply_size = 0
        self.reading: Reading | None = None

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")

    def head(self, *parameters: str) -> Any:
        """Answer like GET, without the body."""
        return self.get(*parameters)

    def options(self, *parameters: str) -> None:
        """Name the methods of the route; other origins are granted nothing."""
        self.set_header("Allow", ", ".join(self._allowed()))
        self.reply_nothing()

    def compute_etag(self) -> None:
        """Send no tag: hashing every reply costs more than a client can save."""

    def on_finish(self) -> None:
        super().on_finish()
        self._release_reply()
        self.leave_past()

    async def enter_past(self, key: Hashable) -> Reading:
        """Wait for this request's turn to read a job of the journal; it lasts until the reply.

        Raises:
            Busy: too many bytes of other replies wait for their clients.
        """
        self._replies.ensure_room(owner=self.owner)
        self.reading = await self.master.past_jobs.enter(key)
        try:
            self._replies.ensure_room(owner=self.owner, part=PAST_SHARE)
        except Busy:
            self.leave_past()
            raise
        return self.reading

    async def find_by_number(self, number: int) -> Job:
        """Find a job; one of the journal when it is this request's turn to read it.

        Raises:
            NotFound, Busy: as `find`.
        """
        archive = self.master.archive
        if (job := archive.in_memory(number)) is not None:
            return job
        reading = await self.enter_past(number)
        (job,) = await reading.once("job", partial(archive.find, [number]))
        return job

    def leave_past(self) -> None:
        """End this request's turn, if it has one."""
        if self.reading is not None:
            self.master.past_jobs.leave(self.reading)
            self.reading = None

    def wait_s(self) -> float:
        """The query's ``wait=SECONDS`` as `checked_wait_s`; 0 if there is none."""
        return self.checked_wait_s(self.get_query_argument("wait", "0"))

    def checked_wait_s(self, wait: str | float) -> float:
        """Check the seconds that a client asks to wait for.

        Raises:
            InvalidRequest: they are no number, or negative.
            WaitTooLong: they exceed the bound.
        """
        wait_max_s = self.master.settings.wait_max_s
        try:
            wait_s = float(wait)
        except ValueError:
            wait_s = nan
        if wait_s > wait_max_s:
            raise WaitTooLong(str(wait), wait_max_s)
        if not wait_s >= 0:
            raise InvalidRequest(f"wait={wait}: expected 0 to {wait_max_s:g} seconds (wait_max_s)")
        return wait_s

    def ensure_room_for_reply(self) -> None:
        """Check that there is room for a long reply, before a change that cannot be undone.

        Raises:
            Busy: too many bytes of other replies wait for their clients.
        """
        self._replies.ensure_room(owner=self.owner)

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
        self._replies.ensure_room(owner=self.owner)
        async with self._replies.long_ones:
            self._replies.ensure_room(owner=self.owner)
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
        self.note()
        whole = encode(value)
        if len(whole) > REPLY_SLICE_BYTES and self.request.method == "GET":
            self._replies.ensure_room(owner=self.owner)
        self._send([whole, b"\n"])

    def created(self, value: Any) -> None:
        """Answer with 201 and the JSON of a value."""
        self.set_status(HTTPStatus.CREATED)
        self.reply(value)

    def reply_nothing(self) -> None:
        """Answer with 204 and no body."""
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()

    def ensure_room_for(self, size: int) -> None:
        """Check that a list of `size` bytes may be encoded, before any of it is.

        Raises:
            Busy: there is no room for it now.
            TooLarge: there never is.
        """
        self._replies.ensure_room(begun=True, owner=self.owner, more=size)

    async def reply_written(self, writing: Generator[None, None, list[bytes]]) -> None:
        """Answer with JSON that is written in slices, and given in pieces.

        Raises:
            Busy: there is no room for a long reply to a GET.
        """
        pieces = await self.master.slices.run(writing)
        if sum(map(len, pieces)) > REPLY_SLICE_BYTES and self.request.method == "GET":
            self._replies.ensure_room(owner=self.owner)
        self._send([*pieces, b"\n"])

    async def reply_list(
        self, values: Iterable[Any], before: bytes = b"", after: bytes = b""
    ) -> None:
        """Answer with the JSON of a list, encoded in slices, between two other texts.

        A value may be a generator that writes its own JSON in slices, and returns its pieces.

        Raises:
            Busy: there is no room for a long reply to a GET.
        """
        self._send(await self.master.slices.run(self._encode_list(values, before, after)))

    def _encode_list(
        self, values: Iterable[Any], before: bytes, after: bytes
    ) -> Generator[None, None, list[bytes]]:
        parts: list[bytes] = []
        texts = [before + b"["]
        comma, part_size, slice_size = b"", 0, 0
        began = time.monotonic()
        for value in values:
            pieces = (yield from value) if isinstance(value, Generator) else (encode(value),)
            texts += comma, *pieces
            comma = b","
            slice_size += sum(map(len, pieces))
            # A short text may have taken long to make.
            if slice_size > REPLY_SLICE_BYTES or time.monotonic() - began > REPLY_SLICE_S:
                self._count_reply(slice_size)
                part_size += slice_size
                slice_size = 0
                if part_size > REPLY_PART_BYTES:
                    # To join long texts would copy them.
                    is_long = max(map(len, texts)) > REPLY_PART_BYTES
                    parts += texts if is_long else [b"".join(texts)]
                    texts, part_size = [], 0
                yield
                began = time.monotonic()
                if self.gone.done():
                    break  # Nobody reads the rest.
        return [*parts, b"".join([*texts, b"]", after, b"\n"])]

    def _count_reply(self, count: int) -> None:
        self._reply_size += count
        self._replies.add(count, self.owner)
        if self.request.method == "GET":
            self._replies.ensure_room(begun=True, owner=self.owner)

    def _release_reply(self) -> None:
        """Stop counting the reply: it was not sent, or the connection counts it now."""
        self._replies.remove(self._reply_size, self.owner)
        self._reply_size = 0

    def _send(self, parts: Sequence[bytes]) -> None:
        self.note()
        self._release_reply()
        size = sum(map(len, parts))
        if size <= REPLY_SLICE_BYTES:
            self.finish(b"".join(parts))
            return
        # `finish` would copy all parts into one.
        self.set_header("Content-Length", size)
        self.flush()
        for part in parts if self.request.method != "HEAD" else ():
            self.request.connection.write(part)  # type: ignore[union-attr]
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        raised = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        error = raised if isinstance(raised, DteError) else None
        if isinstance(error, TryAgain) and not isinstance(error, JournalDamaged):
            self.set_header("Retry-After", str(error.retry_after_s))
        if isinstance(error, Unsupported):
            self.set_header("Accept-Encoding", "identity")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._allowed()))
        text = self._text(status_code) if error is None else str(error)
        method, path = str(self.request.method), self.request.path
        if isinstance(error, HungUp):
            self.master.incidents.hung_up(method, path)
        # What a failing journal means for requests is logged once, by the recorder.
        elif self.master.recorder.failure is None or not isinstance(error, Unavailable):
            self.master.incidents.refused(method, path, status_code, error, text)
        body = utf8(self.error_body(_cut(text), error, status_code))
        self.finish(body if body.endswith(b"\n") else body + b"\n")

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        """The body of a reply with an error, in the form of the dialect.

        Args:
            text: the error for people, cut to a bound.
            error: None if the request failed before or outside the route.
        """
        reply: dict[str, Any] = {"error": text, "code": error.code if error else "http"}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            reply["code"] = "method"
        if isinstance(error, FormulaError):
            reply |= {"reason": error.reason, "column": error.column, "caret": error.caret}
            if error.index is not None:
                reply["index"] = error.index
        if isinstance(error, WaitTooLong):
            reply["wait_max_s"] = error.wait_max_s
        return encode(reply)

    def _text(self, status: int) -> str:
        """The error of a request that failed before or outside the route, for people."""
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return self.not_allowed()
        return HTTPStatus(status).phrase

    def not_allowed(self) -> str:
        """The error of a request whose method the route has not, in the words of the dialect."""
        path, method = _cut(self.request.path), _cut(str(self.request.method))
        return f"{method} is not allowed on {path}; use {' or '.join(self._methods())}"

    def _methods(self) -> list[str]:
        """The methods that the route is made for."""
        others = ("HEAD", "OPTIONS")
        return [
            method
            for method in self.SUPPORTED_METHODS
            if method not in others
            and getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def _allowed(self) -> list[str]:
        """All methods of the route."""
        methods = self._methods()
        return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if status_code == HTTPStatus.INTERNAL_SERVER_ERROR and "exc_info" not in kwargs:
            ending = shutting_down()  # A request is cancelled only as the master ends.
            kwargs["exc_info"] = (type(ending), ending, None)
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        super().send_error(error.status if isinstance(error, DteError) else status_code, **kwargs)

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log the master's faults; a client sees its own in the reply."""
        if value is not None and not isinstance(value, (DteError, HTTPError)):
            method, uri = self.request.method or "", self.request.uri or ""
            self.master.incidents.fault(method, uri, value)


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_CHARS_MAX else text[:ERROR_CHARS_MAX] + "…"


class UnknownPath(JsonHandler):
    """The handler of every path without a route."""

    def get(self, *parameters: str) -> None:
        path = self.request.path
        close = self._close(path) if len(path) <= PATH_CHARS_COMPARED else []
        advice = f"did you mean {close[0]}?" if close else "all routes are at /docs"
        raise NotFound(f"no such route: {_cut(path)}; {advice}")

    def _close(self, path: str) -> list[str]:
        """Return the routes that are most like a path."""
        tidy = "/" + "/".join(filter(None, path.lower().split("/")))
        close = [tidy] if any(re.fullmatch(known, tidy) for known in self._known()) else []
        return close + get_close_matches(path, self._known(), 1)

    head = post = delete = patch = put = get

    def options(self, *parameters: str) -> None:
        if self.request.path != "*":  # The asterisk stands for the server as a whole.
            self.get()
        super().options()

    def _known(self) -> Sequence[str]:
        """The paths of all routes, as regular expressions."""
        known: Sequence[str] = self.settings["patterns"]
        return known
