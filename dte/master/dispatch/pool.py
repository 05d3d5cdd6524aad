"""Connections to workers, kept for the next request."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from ssl import SSLContext

from dte.core.workers.worker import HTTPS, Failure
from dte.master.dispatch.replies import HEALTH_BYTES, SMALL_REPLY_BYTES, Replies
from dte.wire.http.client import (
    ConnectionFailed,
    KeptAliveConnection,
    OnReply,
    Outcome,
    ReplyRefused,
)
from dte.wire.http.tls import client_context


class ConnectionPool:
    """Idle connections by address. A connection carries one request at a time.

    Args:
        replies: the bounds that all replies share.
        tls: makes the context for workers that speak TLS, when the first of them is called.

    Attributes:
        on_broken: called with the address when a worker closes a connection or takes no request.
    """

    def __init__(
        self, replies: Replies | None = None, tls: Callable[[], SSLContext] = client_context
    ) -> None:
        self._replies = replies or Replies()
        self._tls = cache(tls)
        self.on_broken: Callable[[str], None] | None = None
        self._idle: dict[str, list[KeptAliveConnection]] = {}

    async def post(
        self, address: str, path: str, body: bytes, reply_bytes_max: int = SMALL_REPLY_BYTES
    ) -> tuple[int, bytes]:
        """Send a request to a worker, and return the status and the body of its reply.

        Args:
            reply_bytes_max: the longest body of the reply.

        Raises:
            ConnectionFailed: no whole reply came. Idle connections to the worker are closed, as
                they lead to the process that failed.
            ReplyRefused: the reply exceeds a bound.
        """
        connection = self._take(address)
        try:
            reply = await connection.request("POST", path, body, None, reply_bytes_max)
        except ConnectionFailed as error:
            self._put_back(address, connection, error)
            raise
        self._put_back(address, connection, reply)
        return reply.status, reply.body

    def send(
        self, address: str, path: str, body: bytes, on_reply: OnReply, reply_bytes_max: int
    ) -> KeptAliveConnection:
        """Send a request to a worker, on a connection that is the caller's until the reply."""

        def callback(reply: Outcome) -> None:
            self._put_back(address, connection, reply)
            on_reply(reply)

        connection = self._take(address)
        connection.send("POST", path, body, callback, None, reply_bytes_max)
        return connection

    def close(self) -> None:
        """Close idle connections."""
        self.on_broken = None
        for address in list(self._idle):
            self._close_idle(address)

    async def reach(self, address: str) -> None:
        """Find out whether a worker accepts connections.

        Raises:
            ConnectionFailed: it does not.
        """
        connection = self._connection(address)
        await connection.open()
        connection.close()

    async def ask(self, address: str, path: str) -> tuple[int, bytes]:
        """Send a GET on a connection of its own; that it breaks says nothing of the worker."""
        connection = self._connection(address)
        try:
            reply = await connection.request("GET", path, b"", None, HEALTH_BYTES)
        finally:
            connection.close()
        return reply.status, reply.body

    def _take(self, address: str) -> KeptAliveConnection:
        """An idle connection to a worker, or a new one."""
        idle = self._idle.get(address)
        if not idle:
            connection = self._connection(address)
            connection.on_close = partial(self._forget, address, connection)
            return connection
        connection = idle.pop()
        if not idle:
            del self._idle[address]
        return connection

    def _connection(self, address: str) -> KeptAliveConnection:
        secure = self._tls() if address.startswith(HTTPS) else None
        host, _, port = address.removeprefix(HTTPS).rpartition(":")
        return KeptAliveConnection(host, int(port), self._replies, secure)

    def _put_back(self, address: str, connection: KeptAliveConnection, reply: Outcome) -> None:
        if isinstance(reply, ConnectionFailed):
            self._close_idle(address)
            self._broken(address)
        elif connection.is_open:  # Some workers close it after each reply.
            self._idle.setdefault(address, []).append(connection)

    def _forget(self, address: str, connection: KeptAliveConnection) -> None:
        """The worker closed an idle connection."""
        idle = self._idle.get(address, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(address, None)
        self._broken(address)

    def _broken(self, address: str) -> None:
        if self.on_broken is not None:
            self.on_broken(address)

    def _close_idle(self, address: str) -> None:
        for connection in self._idle.pop(address, []):
            connection.close()


def failure_of(error: ConnectionFailed) -> Failure:
    """The failure of a hand-over whose request failed."""
    if error.refused:
        return Failure.REFUSED
    if isinstance(error, ReplyRefused):
        return Failure.MALFORMED
    return Failure.BROKEN if error.sent else Failure.NOT_SENT
