"""Connections to workers, kept for the next request."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from ssl import SSLContext
from typing import NamedTuple

from dte.core.workers.worker import HTTPS, Announcement, Failure
from dte.master.dispatch.replies import HEALTH_BYTES, SMALL_REPLY_BYTES, Replies
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.http.client import (
    ConnectionFailed,
    Greeting,
    KeptAliveConnection,
    OnReply,
    Outcome,
    Reply,
    ReplyRefused,
)
from dte.wire.http.tls import client_context
from dte.wire.messages.batches import Hello, HelloReply

_proof: Decoder[HelloReply] = Decoder(HelloReply)

STRANGER = "another program answers there: it does not have the secret of the worker"


class Peer(NamedTuple):
    """A worker to be called: its address, as ``host:port``, and its secret; "" for none."""

    address: str
    secret: str = ""

    def __repr__(self) -> str:
        return self.address


def peer_of(announcement: Announcement) -> Peer:
    return Peer(announcement.address, announcement.secret)


class ConnectionPool:
    """Idle connections by address and secret. A connection carries one request at a time.

    A worker that announced a secret is greeted on each new connection, and gets nothing before it
    has proved that it has the secret. Only then is it shown the secret, with each request.

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
        self._idle: dict[Peer, list[KeptAliveConnection]] = {}

    async def post(
        self,
        peer: Peer,
        path: str,
        body: bytes,
        reply_bytes_max: int = SMALL_REPLY_BYTES,
    ) -> tuple[int, bytes]:
        """Send a request to a worker, and return the status and the body of its reply.

        Args:
            reply_bytes_max: the longest body of the reply.

        Raises:
            ConnectionFailed: no whole reply came. Idle connections to the worker are closed, as
                they lead to the process that failed.
            ReplyRefused: the reply exceeds a bound.
        """
        connection = self._take(peer)
        try:
            reply = await connection.request("POST", path, body, None, reply_bytes_max)
        except ConnectionFailed as error:
            self._put_back(peer, connection, error)
            raise
        self._put_back(peer, connection, reply)
        return reply.status, reply.body

    def send(
        self, peer: Peer, path: str, body: bytes, on_reply: OnReply, reply_bytes_max: int
    ) -> KeptAliveConnection:
        """Send a request to a worker, on a connection that is the caller's until the reply."""

        def callback(reply: Outcome) -> None:
            self._put_back(peer, connection, reply)
            on_reply(reply)

        connection = self._take(peer)
        connection.send("POST", path, body, callback, None, reply_bytes_max)
        return connection

    def close(self) -> None:
        """Close idle connections."""
        self.on_broken = None
        for peer in list(self._idle):
            self._close_idle(peer)

    async def reach(self, peer: Peer) -> None:
        """Find out whether a worker accepts connections, and has its secret.

        Raises:
            ConnectionFailed: it does not.
            NotGreeted: another program accepts them.
        """
        connection = self._connection(peer)
        await connection.open()
        connection.close()

    async def ask(self, peer: Peer, path: str) -> tuple[int, bytes]:
        """Send a GET on a connection of its own; that it breaks says nothing of the worker."""
        connection = self._connection(peer)
        try:
            reply = await connection.request("GET", path, b"", None, HEALTH_BYTES)
        finally:
            connection.close()
        return reply.status, reply.body

    def _take(self, peer: Peer) -> KeptAliveConnection:
        """An idle connection to a worker, or a new one."""
        idle = self._idle.get(peer)
        if not idle:
            connection = self._connection(peer)
            connection.on_close = partial(self._forget, peer, connection)
            return connection
        connection = idle.pop()
        if not idle:
            del self._idle[peer]
        return connection

    def _connection(self, peer: Peer) -> KeptAliveConnection:
        address = peer.address
        secure = self._tls() if address.startswith(HTTPS) else None
        host, _, port = address.removeprefix(HTTPS).rpartition(":")
        if not peer.secret:
            return KeptAliveConnection(host, int(port), self._replies, secure)
        shown = {"Authorization": f"Bearer {peer.secret}"}
        hello = partial(_hello, peer.secret)
        return KeptAliveConnection(host, int(port), self._replies, secure, shown, hello)

    def _put_back(self, peer: Peer, connection: KeptAliveConnection, reply: Outcome) -> None:
        if isinstance(reply, ConnectionFailed):
            self._close_idle(peer)
            self._broken(peer.address)
        elif connection.is_open:  # Some workers close it after each reply.
            self._idle.setdefault(peer, []).append(connection)

    def _forget(self, peer: Peer, connection: KeptAliveConnection) -> None:
        """The worker closed an idle connection."""
        idle = self._idle.get(peer, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(peer, None)
        self._broken(peer.address)

    def _broken(self, address: str) -> None:
        if self.on_broken is not None:
            self.on_broken(address)

    def _close_idle(self, peer: Peer) -> None:
        for connection in self._idle.pop(peer, []):
            connection.close()


def _hello(secret: str) -> Greeting:
    """The greeting of a worker: only a process with the secret can answer it."""
    challenge = secrets.token_urlsafe(32)
    proof = hmac.digest(secret.encode(), challenge.encode(), "sha256").hex()

    def is_right(reply: Reply) -> bool:
        try:
            given = _proof.decode(reply.body).proof if reply.status == HTTPStatus.OK else ""
        except Malformed:
            given = ""
        return hmac.compare_digest(given.encode(errors="replace"), proof.encode())

    return Greeting("/hello", encode(Hello(challenge)), is_right, STRANGER)


def failure_of(error: ConnectionFailed) -> Failure:
    """The failure of a hand-over whose request failed."""
    if error.refused:
        return Failure.REFUSED
    if isinstance(error, ReplyRefused):
        return Failure.MALFORMED
    return Failure.BROKEN if error.sent else Failure.NOT_SENT
