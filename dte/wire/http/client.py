"""HTTP requests on a connection that is kept alive, one at a time.

A callback receives the reply in the iteration of the loop in which it arrives. A task and some
futures for each request would cost as much as the request itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from dte.wire.http import tls
from dte.wire.http.reader import BeyondBound, LongBody, Message, MessageReader, NotHttp
from dte.wire.http.reasons import reason_of
from dte.wire.http.stream import COPIED_BYTES, Stream

REPLY_BYTES_MAX = 64_000_000
"""The longest body of a reply, unless a request asks for less."""
GREETING_BYTES_MAX = 1_000
CONNECT_TIMEOUT_S = 2.0
"""A host that has vanished refuses nothing; it does not answer at all."""


class ConnectionFailed(OSError):
    """No complete reply arrived: refused, reset, closed or not HTTP. The text says which.

    Attributes:
        refused: no server was listening, so the request cannot have arrived.
        sent: a connection existed, so the request may have arrived.
        insecure: there is no secure connection, and the next attempt will fail too.
    """

    def __init__(
        self, reason: str, *, refused: bool = False, sent: bool = True, insecure: bool = False
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.sent = sent
        self.insecure = insecure


class ReplyRefused(ConnectionFailed):
    """A reply began that exceeds a bound. The text names the bound, and quotes nothing.

    Attributes:
        status: the status of the reply; None if its head is incomplete.
        is_long: the body is too long.
    """

    def __init__(self, reason: str, status: int | None, *, is_long: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.is_long = is_long


class Reply(NamedTuple):
    """A complete reply. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Outcome = Reply | ConnectionFailed
"""The reply to a request, or the reason why none came."""
OnReply = Callable[[Outcome], None]
"""A callback for the outcome of a request, called once."""


class ReplyBounds(Protocol):
    """The bounds that the incomplete replies of several connections share."""

    def later(self, go_on: Callable[[], None]) -> None:
        """Have a connection go on reading bytes that it has received, in another iteration."""

    def grew(self, connection: KeptAliveConnection) -> None:
        """Count the bytes of a reply of which another part has come, and which is incomplete."""

    def ended(self, connection: KeptAliveConnection) -> None:
        """Stop counting the bytes of a reply."""


class Greeting(NamedTuple):
    """The first request on a connection. Unless the reply is right, no other is sent.

    Attributes:
        wrong: the reason for a reply that is not right.
    """

    path: str
    body: bytes
    is_right: Callable[[Reply], bool]
    wrong: str


class NotGreeted(ConnectionFailed):
    """The reply to a greeting is not right, so another program than the expected one answers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


class KeptAliveConnection:
    """One connection to a server, for one request at a time.

    Args:
        bounds: the bounds that its replies share with others.
        secure: the context of TLS; None for a connection without it.
        headers: headers of every request, but not of the greeting.
        greet: makes the greeting; None for no greeting.

    Attributes:
        on_close: called when the server closes the connection while it is idle.
    """

    def __init__(
        self,
        host: str,
        port: int,
        bounds: ReplyBounds | None = None,
        secure: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        greet: Callable[[], Greeting] | None = None,
    ) -> None:
        self.host = host
        self._secure = secure
        self._port = port
        self._bounds = bounds
        self._greet = greet
        self._is_counted = False
        self._unopened = 0
        host_field = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host_fields = f"Host: {host_field}\r\nContent-Type: application/json"
        always = "".join(f"\r\n{name}: {value}" for name, value in (headers or {}).items())
        self._fields = f"{self._host_fields}{always}\r\nContent-Length: "
        self._stream: Stream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._on_reply: OnReply | None = None
        self._when_sent: Callable[[], None] | None = None
        self._reader = MessageReader(replies=True, body_bytes_max=REPLY_BYTES_MAX)
        self.on_close: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """True if the next request needs no new connection, as far as is known."""
        return self._stream is not None

    @property
    def held(self) -> int:
        """The bytes in memory of a reply that is not complete yet."""
        return self._reader.held

    @property
    def unsent(self) -> int:
        """The bytes of the request that the system has not taken yet."""
        if self._stream is None or self._opening is not None:
            return self._unopened
        return self._stream.unsent

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once the system has taken the request; never if it fails before."""
        if self._stream is not None and self._opening is None:
            self._stream.when_sent(callback)
        else:
            self._when_sent = callback

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        more: Mapping[str, str] | None = None,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> Reply:
        """Send a request like `send`, and return its reply.

        Raises:
            ConnectionFailed: no complete reply arrived. The connection is closed, and the next
                request opens it again.
            ReplyRefused: the reply exceeds a bound.
        """
        replied, on_reply = future_outcome()
        self.send(method, path, body, on_reply, more, reply_bytes_max)
        try:
            return reply_of(await replied)
        except (asyncio.CancelledError, GeneratorExit):
            self.abandon()  # A reply that arrives now answers no later request.
            raise

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        on_reply: OnReply,
        more: Mapping[str, str] | None = None,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> None:
        """Send a request. Its outcome goes to `on_reply`, but never before this method returns.

        Args:
            method: any method but HEAD, whose replies give the length of a body that is not sent.
            more: headers besides those of every request.
            reply_bytes_max: the longest body of the reply; a longer one is refused.
        """
        assert self._on_reply is None, "one request at a time"
        fields = "".join(f"\r\n{name}: {value}" for name, value in more.items()) if more else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._fields}{len(body)}{fields}\r\n\r\n"
        first = head.encode("latin-1")
        parts = (first, body) if len(body) > COPIED_BYTES else (first + body,)
        self._on_reply = on_reply
        if self._stream is not None and not self._stream.is_silent:
            self._disconnect()  # The server closed it, or sent bytes that answer no request.
        self._reader.body_bytes_max = reply_bytes_max
        if self._stream is not None:
            for part in parts:
                self._stream.send(part)
        else:
            self._unopened = sum(map(len, parts))
            self._opening = asyncio.get_running_loop().create_task(self._open(*parts))

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

    def refuse(self, reason: str, *, is_long: bool = False) -> None:
        """Close the connection; the request under way fails for a reason that its reply gives."""
        status = self._reader.status
        self._disconnect()
        self._finish(ReplyRefused(f"the reply was refused: {reason}", status, is_long=is_long))

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        # Its incomplete reply is freed now, and not with the connection.
        self._reader = MessageReader(replies=True, body_bytes_max=self._reader.body_bytes_max)

    def _finish(self, outcome: Outcome) -> None:
        if self._is_counted and self._bounds is not None:
            self._is_counted = False
            self._bounds.ended(self)
        if self._opening is None:  # Otherwise it is the reply to a greeting.
            self._when_sent = None
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is not None:
            on_reply(outcome)

    # Opening

    async def open(self) -> None:
        """Connect before there is a request, and greet.

        Raises:
            ConnectionFailed: the connection was not accepted.
            NotGreeted: another program than the expected one has accepted it.
        """
        try:
            connected = await self._connected()
            if self._secure is not None:
                connected = await tls.begin(connected, self._secure, self.host)
        except (OSError, ValueError) as error:  # ValueError: not a valid host name.
            refused = isinstance(error, ConnectionRefusedError)
            insecure = isinstance(error, ssl.SSLError)
            reason = reason_of(error, self.host)
            raise ConnectionFailed(reason, refused=refused, sent=False, insecure=insecure) from None
        self._stream = Stream(connected, self._received, self._lost)
        if self._greet is not None:
            await self._exchange(self._greet())

    async def _exchange(self, greeting: Greeting) -> None:
        """Greet on the new connection, before the request that waits for it."""
        waits = self._on_reply, self._reader.body_bytes_max
        replied, self._on_reply = future_outcome()
        self._reader.body_bytes_max = GREETING_BYTES_MAX
        head = f"POST {greeting.path} HTTP/1.1\r\n{self._host_fields}"
        head += f"\r\nContent-Length: {len(greeting.body)}\r\n\r\n"
        assert self._stream is not None
        self._stream.send(head.encode("latin-1") + greeting.body)
        failure: ConnectionFailed | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reply = reply_of(await replied)
            if not greeting.is_right(reply):
                failure = NotGreeted(greeting.wrong)
        except TimeoutError:
            failure = ConnectionFailed("no reply to the greeting in time", sent=False)
        except ReplyRefused:
            failure = NotGreeted(greeting.wrong)
        except ConnectionFailed as error:
            failure = ConnectionFailed(str(error), sent=False)
        if failure is None and self._stream is None:
            failure = ConnectionFailed("the connection was closed after the greeting", sent=False)
        self._on_reply = None
        if failure is not None:
            self._disconnect()
        self._on_reply, self._reader.body_bytes_max = waits
        if failure is not None:
            raise failure

    async def _open(self, *parts: bytes) -> None:
        try:
            await self.open()
        except ConnectionFailed as failure:
            self._opening = None
            self._finish(failure)
            return
        self._opening = None
        assert self._stream is not None
        for part in parts:
            self._stream.send(part)
        del parts, part  # The stream has what is unsent.
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            self._stream.when_sent(when_sent)

    async def _connected(self) -> socket.socket:
        """Connect to the first of the host's addresses that accepts, and return the socket."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{self.host} has no address")
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
        except BeyondBound as error:
            self.refuse(str(error), is_long=isinstance(error, LongBody))
            return
        except NotHttp as error:
            self._disconnect()
            self._finish(ConnectionFailed(f"the connection was closed: {error}"))
            return
        if message is not None:
            if message.closes or not self._reader.is_idle:
                self._disconnect()
            self._finish(_reply(message))
            return
        if self._reader.status is None and tls.is_alert(data):
            self._disconnect()
            self._finish(ConnectionFailed(tls.SPEAKS_TLS, insecure=True))
            return
        if self._reader.is_behind:
            self._read_later()
        if self._bounds is not None:
            self._is_counted = True
            self._bounds.grew(self)

    def _read_later(self) -> None:
        """Receive nothing more before the received bytes are read, a part in an iteration."""
        assert self._stream is not None
        stream = self._stream
        stream.receive(False)

        def go_on() -> None:
            if self._stream is stream:
                stream.receive(True)
                self._received(b"")

        later = asyncio.get_running_loop().call_soon if self._bounds is None else self._bounds.later
        later(go_on)

    def _lost(self, error: OSError | None) -> None:
        message = self._reader.end() if error is None else None
        self._disconnect()
        if message is not None:
            self._finish(_reply(message))
        elif self._on_reply is not None:
            reason = "the connection was closed before a complete reply"
            insecure = isinstance(error, ssl.SSLError)
            reason = reason if error is None else reason_of(error, self.host)
            self._finish(ConnectionFailed(reason, insecure=insecure))
        else:
            self._closed_by_server()

    def _closed_by_server(self) -> None:
        self._disconnect()
        if self.on_close is not None:
            self.on_close()


def future_outcome() -> tuple[asyncio.Future[Outcome], OnReply]:
    """A future for the outcome of a request, and what `send` calls with it."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_reply(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return future, on_reply


def reply_of(outcome: Outcome) -> Reply:
    """The reply to a request.

    Raises:
        ConnectionFailed: the outcome is that none came.
    """
    if isinstance(outcome, ConnectionFailed):
        try:
            raise outcome
        finally:
            del outcome  # It refers to this frame.
    return outcome


def _reply(message: Message) -> Reply:
    return Reply(int(message.start_line[1]), message.headers, message.body)
