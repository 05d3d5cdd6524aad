"""A server that is no dte master, whose every reply is given beforehand."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable

Answer = bytes | Callable[[], bytes]


class Cut(bytes):
    """An answer after which the connection is closed."""


JOB = '{"job_id": 1, "finished": true, "answer": 3}'


def reply(body: str, status: int = 200, headers: str = "") -> bytes:
    """The bytes of an HTTP reply."""
    content = body.encode()
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


class Impostor:
    """A server that reads HTTP requests and answers each with the next of some given bytes.

    It closes the connection after a `Cut`, instead of an empty answer, and when there are no more.

    Args:
        answers: the bytes, or a function that gives them.

    Attributes:
        requests: the first lines of the requests, such as ``GET /job/1 HTTP/1.1``.
        connections: how many there have been.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[str] = []
        self.connections = 0
        impostor = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                impostor.connections += 1
                while answer := impostor._answer(self):
                    self.wfile.write(answer)
                    if isinstance(answer, Cut):
                        return

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, handler: socketserver.StreamRequestHandler) -> bytes:
        first = handler.rfile.readline().decode().strip()
        if not first:
            return b""
        length = 0
        while line := handler.rfile.readline().decode().strip().lower():
            if line.startswith("content-length:"):
                length = int(line.partition(":")[2])
        handler.rfile.read(length)
        self.requests.append(first)
        answer = self._answers.pop(0) if self._answers else b""
        return answer if isinstance(answer, bytes) else answer()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
