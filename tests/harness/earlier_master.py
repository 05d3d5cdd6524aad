"""A master that knows no sessions, so that its workers demand no secret from those who call them.

It answers what workers report, and sends no work: that is a test's to do.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.machine import HOST


def _reply(path: str, said: dict[str, Any]) -> dict[str, Any]:
    if path == "/result":
        results = said.get("results", []) + said.get("batches", [])
        return {"accepted": [each["lease"] for each in results], "stale": []}
    if path == "/extend":
        return {"extended": said.get("leases", []), "lost": [], "stop": [], "lease_s": 10.0}
    return {"status": "Worker registered"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EarlierMaster

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(_reply(self.path, said)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/worker":
            self.server.worker_port = said["port"]

    def log_message(self, format: str, *args: Any) -> None:
        pass


class EarlierMaster(ThreadingHTTPServer):
    """Serves in a thread of this process until it is closed.

    Attributes:
        worker_port: where the worker listens that has announced itself; 0 before.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.worker_port = 0
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
