"""A streamed reply, read in pieces as they arrive, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

from dte.wire.access import Access
from dte.wire.http.client import CONNECT_TIMEOUT_S

PIECES_AHEAD = 4
"""The number of pieces that are read ahead of the consumer."""

_endless = HTTP1ConnectionParameters(max_body_size=2**62)


class StreamingReply(httputil.HTTPMessageDelegate):
    """The reply to a GET request, over a connection of its own.

    Its status and headers are known once `begin` has returned.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers = httputil.HTTPHeaders()
        self._began = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES_AHEAD)
        self._stream: IOStream | None = None
        self._reading: asyncio.Task[None] | None = None

    async def begin(self, access: Access, path: str, headers: Mapping[str, str]) -> None:
        """Send the request, and return when the headers of the reply have arrived.

        Raises:
            OSError: there is no reply.
        """
        address = access.address
        self._stream = await TCPClient().connect(
            address.host, address.port, ssl_options=access.tls, timeout=CONNECT_TIMEOUT_S
        )
        http = HTTP1Connection(self._stream, True, _endless)
        host = {"Host": address.host_field}
        fields = httputil.HTTPHeaders({**host, **headers, **access.headers()})
        http.write_headers(httputil.RequestStartLine("GET", access.path(path), ""), fields)
        http.finish()
        self._reading = asyncio.create_task(self._read(http))
        await self._began.wait()
        if not self.status:
            raise ConnectionError("the connection was closed before a reply")

    async def piece(self) -> bytes:
        """Return the next piece of the body; b"" at its end."""
        return await self._pieces.get() or b""

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._stream is not None:
            self._stream.close()

    async def _read(self, http: HTTP1Connection) -> None:
        # The consumer gets the end of the stream, and asks again for the rest.
        with suppress(OSError, httputil.HTTPInputError):
            await http.read_response(self)
        self._began.set()
        await self._pieces.put(None)

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        self.status, self.headers = start_line.code, headers
        self._began.set()

    async def data_received(self, chunk: bytes) -> None:
        await self._pieces.put(chunk)
