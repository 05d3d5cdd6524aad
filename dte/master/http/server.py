"""The master's HTTP server, with bounds on connections, on slow clients and on requests at a time.

Each connection costs memory and a descriptor. At the bound, a new connection replaces an idle one.
If none is idle, the server accepts some connections beyond the bound. There it answers the requests
of workers and operators, and refuses all others with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from dte.core.errors import Busy, DteError
from dte.core.shares import OWN_USER, Shares
from dte.master.http.admission import Admission
from dte.master.http.forwarded import Proxies
from dte.master.http.meters import Budget
from dte.master.http.stream import Awaited, BoundedStream, LongHead, error_reply, last_reply
from dte.master.http.tls import TlsStream
from dte.master.incidents import Incidents
from dte.master.networks import Networks
from dte.master.owners import owner_of
from dte.master.settings import Settings
from dte.wire.http.accepting import Acceptor
from dte.wire.http.certificates import ServerTls
from dte.wire.http.handshakes import Handshakes
from dte.wire.http.reader import HEAD_BYTES_MAX, origin_form

log = logging.getLogger("dte.master")

URGENT = frozenset({"/health", "/worker", "/extend", "/heartbeat"})
"""Small requests that must get through: health checks, and signs of life of workers."""
BACKLOG = 4_096
"""Connections that the system queues; further clients would only try again after a second."""
BEGUN_MAX, BEGUN_MIN = 4, 2
"""Requests that begin in an iteration of the loop."""
HEADS_MAX, HEADS_MIN = 2, 1
"""Long heads that are read in an iteration."""
CHUNKS_MAX, CHUNKS_MIN = 16, 4
"""Parts of bodies, of up to 64 kB, that are received in an iteration; small ones do not count."""
CHUNK_SMALL = 16_384
HANDSHAKES_MAX = 500
"""Handshakes of TLS at a time."""
EXTRA_MAX = 100
"""Connections beyond the bound."""
IDLE_S = 5.0
"""A connection that has been idle for longer may be replaced by a new one."""
IDLE_MAX_S = 120.0
"""A connection that has been idle for longer is closed."""
LOOKED_AT = 1_000
"""Idle connections that are looked at for one of an owner."""
SWEEP_S = 5.0
"""Time between checks for slow clients, or less if they get less time."""
SEND_BUFFER_BYTES = 262_144
"""The system's buffer for replies; its default takes megabytes for each slow client."""
CONNECTIONS_A_WORKER = 2
LONG_REPLIES = 2
"""Long replies that are made at a time."""
DESCRIPTORS_BESIDE = 100 + EXTRA_MAX
"""Descriptors for workers that are not known yet, files and the loop."""
PARAMETERS_MAX = 100
"""The most parameters of a query; each has to be decoded before a route can refuse it."""


class ManyParameters(LongHead):
    """A query has more parameters than allowed."""


def connections_max(settings: Settings, descriptors: int) -> int:
    """The bound of connections that leaves enough descriptors for workers and files.

    Args:
        descriptors: the bound of this process; negative if there is none.
    """
    if descriptors < 0:
        return settings.connections_max
    beside = CONNECTIONS_A_WORKER * settings.workers_max + DESCRIPTORS_BESIDE
    return min(settings.connections_max, descriptors - min(beside, descriptors // 2))


def _group_of(address: Any) -> str:
    return owner_of(address[0])


class BoundedServer(HTTPServer):
    """An HTTP server whose connections are bounded in number, in memory, and in slowness.

    With a certificate it speaks TLS.
    """

    def initialize(  # type: ignore[override]
        self,
        application: Any,
        settings: Settings,
        incidents: Incidents,
        tls: ServerTls | None = None,
        **options: Any,
    ) -> None:
        if tls is not None:
            options["protocol"] = "https"
        super().initialize(application, max_header_size=HEAD_BYTES_MAX, **options)
        # Two timers for each request cost more than a regular look at all connections.
        self.conn_params.header_timeout = None
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.incidents = incidents
        self._connections_max = connections_max(settings, descriptors)
        self._extra_max = min(EXTRA_MAX, max(1, self._connections_max // 4))
        self._slow_s = settings.slow_client_s
        self._sweep_s = min(SWEEP_S, self._slow_s / 4)
        self._replies = Budget("replies_bytes_max", settings.replies_bytes_max, LONG_REPLIES)
        self._urgent = Admission(BEGUN_MAX, BEGUN_MIN)
        self._others = Admission(BEGUN_MAX, BEGUN_MIN)
        self._heads = Admission(HEADS_MAX, HEADS_MIN)
        self._chunks = Admission(CHUNKS_MAX, CHUNKS_MIN)
        self._shares = Shares("connections", "connections_max", self._connections_max)
        self._handshakes: Handshakes | None = None
        if tls is not None:
            most = min(HANDSHAKES_MAX, max(2, self._connections_max // 4))
            self._handshakes = Handshakes(tls, self._take, _group_of, most)
        accepted = self._take if self._handshakes is None else self._handshakes.begin
        trusted = Networks(settings.trust_proxy)
        self.proxies = Proxies(trusted) if trusted else None
        self._acceptor = Acceptor(accepted, self._cannot_accept)
        self._open: set[BoundedStream] = set()
        self._idle: dict[BoundedStream, float] = {}
        self._extra: dict[BoundedStream, None] = {}
        self._to_log: Counter[str] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None

    # Accepting

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on listening sockets."""
        for listening in sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listening.listen(BACKLOG)
            self._acceptor.add(listening)
        self._sweep_later()

    def stop(self) -> None:
        """Accept no more connections; open ones go on."""
        self._acceptor.stop()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _cannot_accept(self, error: OSError) -> None:
        self._to_log[f"times no connection could be accepted: {error.strerror}"] += 1

    def _take(self, connection: socket.socket, address: Any) -> None:
        # A proxy is not its clients: its connections are no single client's.
        is_proxy = self.proxies is not None and self.proxies.trusted.have(address[0])
        owner = OWN_USER if is_proxy else owner_of(address[0])
        kind = TlsStream if isinstance(connection, ssl.SSLSocket) else BoundedStream
        stream = kind(
            connection, self._replies, self._closed, self._heads.enter, self._refused, owner
        )
        if not self._shares.has_room(owner) and not self._close_idle(IDLE_S, owner):
            self._refuse_owner(stream)
            return
        self._shares.add(owner)
        if self._is_full() and not self._close_idle(IDLE_S):
            if len(self._extra) >= self._extra_max:
                self._dismiss_one()
            self._extra[stream] = None
        self._open.add(stream)
        self.handle_stream(stream, address)

    def _is_full(self) -> bool:
        return len(self._open) - len(self._extra) >= self._connections_max

    def _close_idle(self, idle_s: float, owner: str | None = None) -> bool:
        """Close the connection that has been idle for longest, if for more than `idle_s`.

        Args:
            owner: whose connection it is; None for anybody's.
        """
        for stream, since in islice(self._idle.items(), LOOKED_AT):
            if asyncio.get_running_loop().time() - since <= idle_s:
                break
            if owner is None or stream.owner == owner:
                stream.close()
                return True
        return False

    def _refuse_owner(self, stream: BoundedStream) -> None:
        """Close a connection beyond its owner's share."""
        self._to_log["connections refused (an owner's share of connections_max)"] += 1
        try:
            self._shares.ensure_room(stream.owner)
        except Busy as busy:
            stream.say(last_reply(busy.status, str(busy), busy.code, busy.retry_after_s))
        stream.close()

    def _dismiss_one(self) -> None:
        """Close the first connection beyond the bound whose request is not there yet."""
        for stream in self._extra:
            if stream.awaited is Awaited.HEAD:
                busy = self._refusal()
                stream.say(last_reply(busy.status, str(busy), busy.code, busy.retry_after_s))
                break
        stream.close()

    def _refusal(self) -> Busy:
        self._to_log["requests refused (connections_max)"] += 1
        return Busy(f"too many connections: {self._connections_max} are open (connections_max)")

    def _refused(self, what: str, error: DteError) -> None:
        self.incidents.refused_input(what, error.status, error, str(error))

    def _closed(self, stream: BoundedStream) -> None:
        if stream in self._open:
            self._open.remove(stream)
            self._shares.remove(stream.owner)
        self._idle.pop(stream, None)
        self._extra.pop(stream, None)

    # Requests

    def start_request(self, server_conn: Any, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Wait for a request on a connection."""
        stream = server_conn.stream
        stream.await_now(Awaited.HEAD)
        self._idle.pop(stream, None)  # It becomes the last of the idle ones.
        if stream not in self._extra and not stream.closed():
            self._idle[stream] = asyncio.get_running_loop().time()
        return _Gate(self, stream, request_conn, super().start_request(server_conn, request_conn))

    def on_close(self, server_conn: Any) -> None:
        super().on_close(server_conn)
        server_conn.stream.close()

    def admit(self, stream: BoundedStream, path: str) -> asyncio.Future[None] | None:
        """Return None if a request may start now, or a future that completes when it may.

        Requests on connections beyond the bound raise `Busy`.
        """
        self._idle.pop(stream, None)
        if path in URGENT:
            return self._urgent.enter()
        if stream in self._extra:
            if self._is_full():
                raise self._refusal()
            del self._extra[stream]
        return self._others.enter()

    def received(self, chunk: bytes) -> asyncio.Future[None] | None:
        """None if more may be received; otherwise a future that is done when it may."""
        return self._chunks.enter() if len(chunk) > CHUNK_SMALL else None

    # Slowness

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        """Close the connections of slow clients, and log what was closed and refused."""
        while self._close_idle(IDLE_MAX_S):
            pass
        now = asyncio.get_running_loop().time()
        for stream in [stream for stream in self._open if stream.is_too_slow(now, self._slow_s)]:
            self._to_log["connections closed: slow clients"] += 1
            stream.close()
        for what, count in self._to_log.items():
            log.warning("in %g s: %d %s", self._sweep_s, count, what)
        self._to_log.clear()
        self._sweep_later()


@dataclass(eq=False)
class _Gate(HTTPMessageDelegate):
    """Passes a request on to the application when it is admitted, or refuses it."""

    server: BoundedServer
    stream: BoundedStream
    connection: HTTPConnection
    inner: HTTPMessageDelegate
    refusal: DteError | None = None
    method: str = ""

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        start_line = start_line._replace(path=origin_form(start_line.path))
        self.method = start_line.method
        path, _, query = start_line.path.partition("?")
        try:
            if query.count("&") >= PARAMETERS_MAX:
                error = ManyParameters(f"the query has more than {PARAMETERS_MAX} parameters")
                self.server.incidents.refused(self.method, path, error.status, error, str(error))
                raise error
            admitted = self.server.admit(self.stream, path)
        except (Busy, ManyParameters) as refusal:
            self.refusal = refusal
            self.stream.await_now(Awaited.BODY)
            return None
        if admitted is None:
            return self._begin(start_line, headers)
        self.stream.await_now(Awaited.NOTHING)
        return self._begin_later(admitted, start_line, headers)

    def _begin(self, start_line: RequestStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        self.stream.await_now(Awaited.BODY)
        if self.server.proxies is not None:
            self.server.proxies.apply(self.connection.context, headers)  # type: ignore[attr-defined]
        return self.inner.headers_received(start_line, headers)

    async def _begin_later(
        self, admitted: asyncio.Future[None], start_line: RequestStartLine, headers: HTTPHeaders
    ) -> None:
        await admitted
        begun = self._begin(start_line, headers)
        if begun is not None:
            await begun

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self.refusal is None:
            taken = self.inner.data_received(chunk)
            if taken is not None:
                return taken
        return self.server.received(chunk)

    def finish(self) -> None:
        self.stream.await_now(Awaited.NOTHING)
        refusal = self.refusal
        if refusal is None:
            self.inner.finish()
            return
        retry_after_s = refusal.retry_after_s if isinstance(refusal, Busy) else None
        headers, body = error_reply(str(refusal), refusal.code, retry_after_s)
        reason = HTTPStatus(refusal.status).phrase
        start_line = ResponseStartLine("HTTP/1.1", refusal.status, reason)
        has_body = self.method != "HEAD"
        self.connection.write_headers(start_line, HTTPHeaders(headers), body if has_body else b"")
        self.connection.finish()

    def on_connection_close(self) -> None:
        if self.refusal is None:
            self.inner.on_connection_close()
