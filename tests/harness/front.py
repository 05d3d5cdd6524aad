"""A proxy in front of a master, as a team has it: with TLS, a path prefix, and a token to show."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.machine import HOST

UNAUTHORIZED = {"error": "this token is not known", "code": "unauthorized"}


class Front:
    """Hands requests on to a master, reply by reply and piece by piece.

    Args:
        prefix: the path that requests must begin with; the master gets the rest.
        secure: the context of TLS; without one it is plain HTTP.
        token: the token that requests need; None for none. It may be exchanged at any time.

    Attributes:
        seen: the method, the path and the headers of each request.
    """

    def __init__(
        self,
        master_port: int,
        prefix: str = "",
        secure: ssl.SSLContext | None = None,
        token: str | None = None,
    ) -> None:
        self.master_port = master_port
        self.prefix = prefix
        self.token = token
        self.seen: list[tuple[str, str, Mapping[str, str]]] = []
        self._server = _Server((HOST, 0), _Handler)
        self._server.front = self
        self._server.secure = secure
        self.port = self._server.server_address[1]
        scheme = "http" if secure is None else "https"
        self.url = f"{scheme}://{HOST}:{self.port}{prefix}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def is_allowed(self, headers: Mapping[str, str]) -> bool:
        return self.token is None or headers.get("Authorization") == f"Bearer {self.token}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    front: Front
    secure: ssl.SSLContext | None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the thread of the connection: a slow handshake holds nobody up.
        try:
            if self.secure is not None:
                request = self.secure.wrap_socket(request, server_side=True)
        except OSError:
            return
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up when they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _hand_on(self) -> None:
        front = self.server.front
        front.seen.append((self.command, self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.startswith(f"{front.prefix}/"):
            self._reply(404, {"error": f"not below {front.prefix}"})
        elif not front.is_allowed(self.headers):
            self._reply(401, UNAUTHORIZED)
        else:
            self._ask_master(self.path.removeprefix(front.prefix), body)

    do_GET = do_POST = _hand_on  # noqa: N815

    def _ask_master(self, path: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(HOST, self.server.front.master_port, 120)
        try:
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            connection.request(self.command, path, body, headers)
            reply = connection.getresponse()
            self.send_response_only(reply.status)
            for name, value in reply.getheaders():
                if name not in ("Connection", "Transfer-Encoding"):
                    self.send_header(name, value)
            self._send_body(reply)
        finally:
            connection.close()

    def _send_body(self, reply: http.client.HTTPResponse) -> None:
        is_chunked = reply.getheader("Content-Length") is None and reply.status != 204
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := reply.read1(65_536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _reply(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""
