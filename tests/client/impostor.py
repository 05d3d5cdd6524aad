"""A server that is no dte master, whose every reply is given beforehand."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable

import dte

Answer = bytes | Callable[[], bytes]


class Cut(bytes):
    """An answer after which the connection is closed."""


JOB = '{"job_id": 1, "finished": true, "answer": 3}'
UNFINISHED = '{"job_id": 1, "finished": false}'
BATCH = f'{{"job_ids": [1], "jobs": [{JOB}]}}'


def reply(body: str, status: int = 200, headers: str = "") -> bytes:
    """The bytes of an HTTP reply."""
    content = body.encode()
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


def refusal(code: str, status: int, headers: str = "", error: str = "the master's words") -> bytes:
    """The bytes of a reply that says what is wrong."""
    return reply(f'{{"error": "{error}", "code": "{code}"}}', status, headers)


UNAVAILABLE = refusal("unavailable", 503, "Retry-After: 7\r\n", "the master is ending")
REFUSALS = [
    (refusal("storage_full", 507, "Retry-After: 60\r\n"), dte.StorageFull),
    (refusal("conflict", 409), dte.Conflict),
    (refusal("busy", 429), dte.Busy),
]


class Impostor:
    """A server that reads HTTP requests and answers each with the next of some given bytes.

    It closes the connection after a `Cut`, instead of an empty answer, and when there are no more.

    Args:
        answers: the bytes, or a function that gives them.
        port: 0 for any free one.

    Attributes:
        requests: the first lines of the requests, such as ``GET /job/1 HTTP/1.1``.
        bodies: theirs.
        keys: their idempotency keys, of those that have one.
        last_ids: their ``Last-Event-ID``; "" for none.
        connections: how many there have been.
    """

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self._answers = list(answers)
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.keys: list[str] = []
        self.last_ids: list[str] = []
        self.connections = 0
        impostor = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                impostor.connections += 1
                while answer := impostor._answer(self):
                    self.wfile.write(answer)
                    if isinstance(answer, Cut):
                        return

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def _answer(self, handler: socketserver.StreamRequestHandler) -> bytes:
        first = handler.rfile.readline().decode().strip()
        if not first:
            return b""
        headers = {}
        while line := handler.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.bodies.append(handler.rfile.read(int(headers.get("content-length", 0))))
        if "idempotency-key" in headers:
            self.keys.append(headers["idempotency-key"])
        self.last_ids.append(headers.get("last-event-id", ""))
        self.requests.append(first)
        answer = self._answers.pop(0) if self._answers else b""
        return answer if isinstance(answer, bytes) else answer()

    def leave(self) -> bytes:
        """An answer: the server stops to listen, and hangs up."""
        self.stop()
        return b""

    def stop(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
