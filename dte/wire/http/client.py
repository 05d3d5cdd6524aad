"""HTTP requests on a connection that is kept alive, one at a time.

A callback receives the reply in the iteration of the loop in which it arrives. A task and some
futures for each request would cost as much as the request itself.
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
"""A host that has vanished refuses nothing; it does not answer at all."""


class ConnectionFailed(OSError):
    """No complete reply arrived: refused, reset, closed or not HTTP. The text says which.

    Attributes:
        refused: no server was listening, so the request cannot have arrived.
        sent: a connection existed, so the request may have arrived.
    """

    def __init__(self, reason: str, *, refused: bool = False, sent: bool = True) -> None:
        super().__init__(reason)
        self.refused = refused
        self.sent = sent


class Reply(NamedTuple):
    """A complete reply. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


OnReply = Callable[[Reply | ConnectionFailed], None]
"""A callback for the outcome of a request, called once."""


class KeptAliveConnection:
    """One connection to a server, for one request at a time.

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
        self._on_reply: OnReply | None = None
        self._reader = _reply_reader()
        self.on_close: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """True if the next request needs no new connection, as far as is known."""
        return self._stream is not None

    async def request(
        self, method: str, path: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request like `send`, and return its reply.

        Raises:
            ConnectionFailed: no complete reply arrived. The connection is closed, and the next
                request opens it again.
        """
        replied: asyncio.Future[Reply | ConnectionFailed]
        replied = asyncio.get_running_loop().create_future()

        def on_reply(outcome: Reply | ConnectionFailed) -> None:
            if not replied.done():
                replied.set_result(outcome)

        self.send(method, path, body, on_reply, more)
        try:
            outcome = await replied
        except BaseException:
            self.abandon()  # Cancelled: a reply that arrives now answers no later request.
            raise
        if isinstance(outcome, ConnectionFailed):
            raise outcome
        return outcome

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        on_reply: OnReply,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request. Its outcome goes to `on_reply`, but never before this method returns.

        Args:
            method: any method but HEAD, whose replies give the length of a body that is not sent.
            more: headers besides those of every request.
        """
        assert self._on_reply is None, "one request at a time"
        fields = "".join(f"\r\n{name}: {value}" for name, value in more.items()) if more else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._fields}{len(body)}{fields}\r\n\r\n"
        whole = head.encode("latin-1") + body
        self._on_reply = on_reply
        if self._stream is not None and not self._stream.is_silent:
            self._disconnect()  # The server closed it, or sent bytes that answer no request.
        if self._stream is not None:
            self._stream.send(whole)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(whole))

    def abandon(self) -> None:
        """Close the connection without a callback for a request under way."""
        self._on_reply = None
        self.close()

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._disconnect()
        self._finish(ConnectionFailed("the connection was closed"))

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _finish(self, outcome: Reply | ConnectionFailed) -> None:
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is not None:
            on_reply(outcome)

    # Opening

    async def open(self) -> None:
        """Connect before there is a request.

        Raises:
            ConnectionFailed: the connection was not accepted.
        """
        try:
            connected = await self._connected()
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name.
            refused = isinstance(error, ConnectionRefusedError)
            raise ConnectionFailed(_reason(error), refused=refused, sent=False) from None
        self._reader = _reply_reader()
        self._stream = Stream(connected, self._received, self._lost)

    async def _open(self, first: bytes) -> None:
        try:
            await self.open()
        except ConnectionFailed as failure:
            self._opening = None
            self._finish(failure)
            return
        self._opening = None
        assert self._stream is not None
        self._stream.send(first)

    async def _connected(self) -> socket.socket:
        """Connect to the first of the host's addresses that accepts, and return the socket."""
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

    # Receiving

    def _received(self, data: bytes) -> None:
        if self._on_reply is None:
            self._closed_by_server()  # Bytes without a request.
            return
        try:
            message = self._reader.read(data)
        except NotHttp as error:
            self._disconnect()
            self._finish(ConnectionFailed(f"the connection was closed: {error}"))
            return
        if message is not None:
            if message.closes or not self._reader.is_idle:
                self._disconnect()
            self._finish(_reply(message))

    def _lost(self, error: OSError | None) -> None:
        self._stream = None
        message = self._reader.end() if error is None else None
        if message is not None:
            self._finish(_reply(message))
        elif self._on_reply is not None:
            reason = "the connection was closed before a complete reply"
            self._finish(ConnectionFailed(reason if error is None else _reason(error)))
        else:
            self._closed_by_server()

    def _closed_by_server(self) -> None:
        self._disconnect()
        if self.on_close is not None:
            self.on_close()


def _reply_reader() -> MessageReader:
    return MessageReader(replies=True, body_bytes_max=REPLY_BYTES_MAX)


def _reply(message: Message) -> Reply:
    return Reply(int(message.start_line[1]), message.headers, message.body)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no connection in time"
    if isinstance(error, OSError) and error.errno is not None:
        # The message of the loop for a refused connection repeats the address.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
