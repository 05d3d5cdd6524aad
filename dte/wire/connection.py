"""HTTP requests on a connection that is kept alive, over Tornado's own HTTP/1.1 classes.

Tornado's client opens a connection for each request, which is most of what a small request costs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

REPLY_BYTES_MAX = 64_000_000
CONNECT_TIMEOUT_S = 2.0
"""A machine that has vanished does not refuse, it says nothing."""

_parameters = HTTP1ConnectionParameters(max_body_size=REPLY_BYTES_MAX)


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
        self._host_field = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._stream: IOStream | None = None
        self.on_close: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next request needs no new connection, as far as is known."""
        return self._stream is not None

    async def request(
        self, method: str, path: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Send a request and give the status, the headers and the body of its reply.

        Args:
            more: headers besides those that every request has.

        Raises:
            ConnectionFailed: no whole reply came; the connection is closed, and the next request
                opens it again.
        """
        connected = False
        try:
            stream = await self._connected()
            connected = True
            http = HTTP1Connection(stream, True, _parameters)
            headers = HTTPHeaders(
                {
                    "Host": self._host_field,
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **(more or {}),
                }
            )
            http.write_headers(RequestStartLine(method, path, ""), headers, body)
            http.finish()
            reply = _Reply()
            await http.read_response(reply)
        except (OSError, HTTPInputError) as error:
            self.close()
            cause = getattr(error, "real_error", None) or error
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            refused = isinstance(cause, ConnectionRefusedError)
            raise ConnectionFailed(reason, refused=refused, sent=connected) from error
        except BaseException:
            self.close()  # Cancelled: what comes now belongs to nobody.
            raise
        if reply.status is None or not reply.whole:
            self.close()
            raise ConnectionFailed("the connection was closed before a whole reply")
        if reply.closes:
            self.close()
        else:
            # Without a callback an idle stream does not notice that the other side has closed it.
            stream.set_close_callback(self._closed_by_server)
        return reply.status, reply.headers, b"".join(reply.chunks)

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.set_close_callback(None)
            stream.close()

    def _closed_by_server(self) -> None:
        self.close()
        if self.on_close is not None:
            self.on_close()

    async def _connected(self) -> IOStream:
        if self._stream is not None and not _is_idle(self._stream):
            self.close()
        if self._stream is None:
            self._stream = await TCPClient().connect(
                self._host, self._port, timeout=CONNECT_TIMEOUT_S
            )
            self._stream.set_nodelay(True)
            _notice_silence(self._stream.socket)
        return self._stream


def _notice_silence(connection: socket.socket) -> None:
    """Have a connection break when nobody is at its other end, which says nothing of that."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, option):  # Not everywhere.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _Reply(HTTPMessageDelegate):
    def __init__(self) -> None:
        self.status: int | None = None
        self.headers = HTTPHeaders()
        self.chunks: list[bytes] = []
        self.whole = False
        self.closes = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        assert isinstance(start_line, ResponseStartLine)
        self.status, self.headers = start_line.code, headers
        self.closes = (
            start_line.version == "HTTP/1.0" or headers.get("Connection", "").lower() == "close"
        )

    def data_received(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def finish(self) -> None:
        self.whole = True


def _is_idle(stream: IOStream) -> bool:
    """Whether a stream is open and has said nothing since its last reply."""
    # Tornado tells nowhere in public whether bytes beyond a reply have been read already.
    return not stream.closed() and stream._read_buffer_size == 0 and is_silent(stream.socket)


def is_silent(connection: socket.socket) -> bool:
    """Whether an idle connection has nothing to read: neither its end nor what nobody asked for."""
    timeout_s = connection.gettimeout()
    try:
        connection.settimeout(0)
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        connection.settimeout(timeout_s)
        return True
    except OSError:
        return False
    return False
