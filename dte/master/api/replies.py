"""Sends replies: JSON within the bounds on what clients have not taken, long lists in slices."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from dte.master.access.roles import NO_METHODS, May
from dte.master.api.bodies import UNKNOWN_PATH, BodyHandler
from dte.master.http.meters import Budget
from dte.master.http.stream import BoundedStream
from dte.master.master import Master
from dte.wire.codec import encode
from dte.wire.http.browsers import SAFE_HEADERS

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


class ReplyHandler(BodyHandler):
    """Base of `JsonHandler`: everything about a reply that is no error."""

    def initialize(
        self, master: Master, bodies: Budget, path: str = UNKNOWN_PATH, may: May = NO_METHODS
    ) -> None:
        super().initialize(master, bodies, path, may)
        stream: BoundedStream = self.request.connection.stream  # type: ignore[union-attr]
        self._replies = stream.replies
        self._reply_size = 0

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")
        for name, value in SAFE_HEADERS:
            self._headers[name] = value  # `set_header` would check it each time.

    def compute_etag(self) -> None:
        """Send no tag: hashing every reply costs more than a client can save."""

    def on_finish(self) -> None:
        super().on_finish()
        self._release_reply()

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

    @property
    def wants_html(self) -> bool:
        """True if a browser asks; other programs get text that is read in a terminal."""
        self.set_header("Vary", "Accept")
        return "text/html" in self.request.headers.get("Accept", "").lower()

    def show_page(self, page: str, policy: str) -> None:
        """Answer with a page for a browser."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", policy)
        self._send([page.encode()])

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
