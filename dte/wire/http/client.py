"""HTTP requests on a connection that is kept alive.

The next reply belongs to the one request that is under way. It is handed on in the very turn of
the loop in which it comes, by a callback: a task and some futures for each request would cost as
much as the request itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dte.wire.http.reader import Message, MessageReader, NotHttp
from dte.wire.http.stream import Stream

REPLY_BYTES_MAX = 64_000_000
CONNECT_TIMEOUT_S = 2.0
"""A machine that has vanished does not refuse, it says nothing."""


class ConnectionFailed(OSError):
    """No whole reply came: refused, reset, closed or not HTTP. The text says which.

    Attributes:
        refused: nobody listened, so that the request cannot have arrived.
        sent: a connection was there, so that the request may have arrived.
    """

    def __init__(self, reason: str, *, refused: bool = False, sent: bool = True) -> None:
        super().__init__(reason)
        self.refused = refused
        self.sent = sent


class Reply(NamedTuple):
    """A whole reply; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Told = Callable[[Reply | ConnectionFailed], None]
"""Is told what came of a request, once."""


class KeptAliveConnection:
    """One connection to a server, for one request at a time.

    Args:
        host: a name or an address.
        port: a TCP port.

    Attributes:
        on_close: called when the server closes the connection while it is idle.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        host_field = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._fields = f"Host: {host_field}\r\nContent-Type: application/json\r\nContent-Length: "
        self._stream: Stream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._told: Told | None = None
        self._reader = _reply_reader()
        self.on_close: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next request needs no new connection, as far as is known."""
        return self._stream is not None

    async def request(
        self, method: str, path: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and give its reply.

        Args:
            more: headers besides those that every request has.

        Raises:
            ConnectionFailed: no whole reply came; the connection is closed, and the next request
                opens it again.
        """
        came: asyncio.Future[Reply | ConnectionFailed] = asyncio.get_running_loop().create_future()

        def told(what: Reply | ConnectionFailed) -> None:
            if not came.done():
                came.set_result(what)

        self.send(method, path, body, told, more)
        try:
            what = await came
        except BaseException:
            self.abandon()  # Cancelled: what comes now belongs to nobody.
            raise
        if isinstance(what, ConnectionFailed):
            raise what
        return what

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        told: Told,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request; what comes of it is told later, and never before this returns.

        Args:
            method: any but HEAD, whose replies tell lengths of bodies that do not come.
            more: headers besides those that every request has.
        """
        assert self._told is None, "one request at a time"
        fields = "".join(f"\r\n{name}: {value}" for name, value in more.items()) if more else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._fields}{len(body)}{fields}\r\n\r\n"
        whole = head.encode("latin-1") + body
        self._told = told
        if self._stream is not None and not self._stream.is_silent:
            self._disconnect()  # It has been closed, or what it says is no reply to this.
        if self._stream is not None:
            self._stream.send(whole)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(whole))

    def abandon(self) -> None:
        """Close the connection; nobody is told what comes of a request under way."""
        self._told = None
        self.close()

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._disconnect()
        self._tell(ConnectionFailed("the connection was closed"))

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _tell(self, what: Reply | ConnectionFailed) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(what)

    # Opening

    async def _open(self, first: bytes) -> None:
        try:
            connected = await self._connected()
        except (OSError, UnicodeError) as error:  # The other: no name of a host can be so.
            refused = isinstance(error, ConnectionRefusedError)
            self._opening = None
            self._tell(ConnectionFailed(_reason(error), refused=refused, sent=False))
            return
        self._opening = None
        self._reader = _reply_reader()
        self._stream = Stream(connected, self._received, self._lost)
        self._stream.send(first)

    async def _connected(self) -> socket.socket:
        """A socket that is connected to the first of the host's addresses that takes it."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{self._host} has no address")
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setblocking(False)
                async with asyncio.timeout(CONNECT_TIMEOUT_S / len(found)):
                    await loop.sock_connect(connection, address)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure

    # What comes

    def _received(self, data: bytes) -> None:
        if self._told is None:
            self._closed_by_server()  # Nobody asked for it.
            return
        try:
            message = self._reader.read(data)
        except NotHttp as error:
            self._disconnect()
            self._tell(ConnectionFailed(f"the connection was closed: {error}"))
            return
        if message is not None:
            if message.closes or not self._reader.between:
                self._disconnect()
            self._tell(_reply(message))

    def _lost(self, error: OSError | None) -> None:
        self._stream = None
        message = self._reader.end() if error is None else None
        if message is not None:
            self._tell(_reply(message))
        elif self._told is not None:
            reason = "the connection was closed before a whole reply"
            self._tell(ConnectionFailed(reason if error is None else _reason(error)))
        else:
            self._closed_by_server()

    def _closed_by_server(self) -> None:
        self._disconnect()
        if self.on_close is not None:
            self.on_close()


def _reply_reader() -> MessageReader:
    return MessageReader(replies=True, body_bytes_max=REPLY_BYTES_MAX)


def _reply(message: Message) -> Reply:
    return Reply(int(message.first[1]), message.headers, message.body)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no connection in time"
    if isinstance(error, OSError) and error.errno is not None:
        # What the loop says of a connection that is refused names the address once more.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
