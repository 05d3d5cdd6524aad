"""Serves `POST /compute` and `GET /health` of a worker."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from dte.core.operations import SYMBOLS
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages import Batch, BatchResult, Single
from dte.worker.arithmetic import OperationFailed, compute, compute_all

_batch: Decoder[Batch] = Decoder(Batch)
_single: Decoder[Single] = Decoder(Single)


class ComputeServer:
    """Answers the requests of a master, for Tornado's `HTTPServer` to call.

    Attributes:
        draining: set it to refuse new work.
        operations_done: how many operations have been done.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.draining = False
        self.operations_done = 0

    def __call__(self, request: HTTPServerRequest) -> None:
        status, reply = self._answer(request)
        body = encode(reply)
        headers = HTTPHeaders(
            {"Content-Type": "application/json", "Content-Length": str(len(body))}
        )
        connection = request.connection
        assert connection is not None
        connection.write_headers(
            ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase),
            headers,
            body if request.method != "HEAD" else None,
        )
        connection.finish()

    def _answer(self, request: HTTPServerRequest) -> tuple[int, Any]:
        if request.path == "/compute":
            if request.method != "POST":
                return 405, {"error": "POST is served here"}
            if self.draining:
                # Without an "error", which would be the operation's own.
                return 503, {"status": "draining"}
            return self._compute(request.body)
        if request.path == "/health":
            status = "draining" if self.draining else "ok"
            done = self.operations_done
            return 200, {"status": status, "worker_name": self._name, "operations_done": done}
        return 404, {"error": f"there is nothing at {request.path}"}

    def _compute(self, body: bytes) -> tuple[int, Any]:
        try:
            if b'"lease"' in body:  # What tells a batch from the document's form.
                return self._compute_batch(_batch.decode(body))
            return self._compute_single(_single.decode(body))
        except (Malformed, ValueError) as error:
            return 400, {"error": "Invalid request", "reason": str(error)}
        except KeyError:
            return 400, {"error": "Invalid operation"}

    def _compute_batch(self, batch: Batch) -> tuple[int, BatchResult]:
        results, errors = compute_all(batch.operations, batch.op1, batch.op2)
        self.operations_done += len(results)
        return 200, BatchResult(batch.lease, results, errors)

    def _compute_single(self, single: Single) -> tuple[int, Any]:
        symbol = SYMBOLS[single.operation]
        try:
            result = compute(symbol, single.op1, single.op2)
        except OperationFailed as error:
            return 500, {"error": str(error)}
        self.operations_done += 1
        return 200, {
            "operation": single.operation,
            "op1": single.op1,
            "op2": single.op2,
            "result": result,
        }
