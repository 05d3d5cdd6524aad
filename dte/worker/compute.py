"""The routes of a worker: ``POST /compute``, ``POST /stop``, ``GET /health`` and ``GET /``."""

from __future__ import annotations

import time
from typing import Any

from dte.core.graph.numbers import SYMBOLS
from dte.wire.codec import BOM, Decoder, Malformed, encode
from dte.wire.faults import plain
from dte.wire.http.encodings import NO_BODY, guessed_encoding
from dte.wire.http.server import Request
from dte.wire.messages.batches import Batch, BatchResult, Single
from dte.wire.messages.calls import Call, Calls, Stop, Stopped
from dte.wire.misfits import explained
from dte.worker.arithmetic import OperationFailed, compute, compute_all
from dte.worker.calls import RunningCalls
from dte.worker.decoding import CallDecoder

LEASE_END = 2**63
"""The upper bound of lease numbers; a master could not read a report with a higher one."""

METHODS = {
    "/": "GET, HEAD, OPTIONS",
    "/health": "GET, HEAD, OPTIONS",
    "/compute": "POST, OPTIONS",
    "/stop": "POST, OPTIONS",
}
"""The methods of each route."""
PATH_CHARS_SHOWN = 200
NAME_CHARS_SHOWN = 50

_batch: Decoder[Batch] = Decoder(Batch)
_single: Decoder[Single] = Decoder(Single)
_call = CallDecoder(Call, 1, lambda call: [call])
_calls = CallDecoder(Calls, 3, lambda several: several.calls)
_stop: Decoder[Stop] = Decoder(Stop)


class ComputeServer:
    """Answers the requests of a master, for an `HttpServer` to call.

    Args:
        name: the worker's name.
        calls: runs calls of handlers; without it the worker takes none.
        incarnation: the text that it announces, for this start of the worker.
        master_url: the URL of its master, for those who take the worker for it.

    Attributes:
        draining: set it to refuse new work.
    """

    def __init__(
        self,
        name: str,
        calls: RunningCalls | None = None,
        incarnation: str = "",
        master_url: str = "",
    ) -> None:
        self._name = name
        self._incarnation = incarnation
        self._master_url = master_url
        self._calls = calls
        self.draining = False
        self.operations_done = 0

    def __call__(self, request: Request) -> tuple[int, bytes]:
        status, reply = self._answer(request)
        is_result = request.path == "/compute" and status in (200, 202, 500)
        return status, encode(reply) + (b"" if is_result else b"\n")  # The rest is for terminals.

    def _answer(self, request: Request) -> tuple[int, Any]:
        this = f"this is worker {self._name} of the master {self._master_url}"
        if request.path not in METHODS:
            error = f"no such route: {request.path[:PATH_CHARS_SHOWN]}; {this}"
            return 404, {"error": error}
        if request.method not in METHODS[request.path]:
            method = METHODS[request.path].partition(",")[0]
            error = f"{request.method} is not allowed on {request.path}; use {method}"
            return 405, {"error": error}
        if (fault := _ignored(request)) is not None:
            return 400, {"error": fault}
        if request.path == "/health":
            return 200, self._health()
        if request.path == "/":
            about = {"service": "worker", "worker_name": self._name, "master": self._master_url}
            return 200, about | {"about": f"{this}; submit jobs to the master"}
        body = request.body.removeprefix(BOM)
        try:
            if request.path == "/stop":
                leases = _stop.decode(body).leases
                return 200, Stopped(self._calls.stop(leases) if self._calls is not None else [])
            if self.draining:
                # An "error" would be taken for that of the operation.
                return 503, {"status": "draining"}
            return self._compute(body)
        except Malformed as error:
            shape = Stop if request.path == "/stop" else _shape_of(body)
            return 400, {"error": "Invalid request", "reason": _reason(body, shape) or plain(error)}
        except ValueError as error:
            return 400, {"error": "Invalid request", "reason": str(error)}
        except KeyError:
            return 400, {"error": "Invalid operation"}

    def _compute(self, body: bytes) -> tuple[int, Any]:
        if b'"handler"' in body or b'"calls"' in body:
            return self._take(body)
        if b'"lease"' in body:  # Only a batch has it, a single operation does not.
            return self._compute_batch(body)
        return self._compute_single(_single.decode(body))

    def _compute_batch(self, body: bytes) -> tuple[int, BatchResult]:
        started = time.monotonic()
        batch = _batch.decode(body)
        results, errors = compute_all(batch.operations, batch.op1, batch.op2)
        self.operations_done += len(results) - len(errors)
        return 200, BatchResult(batch.lease, results, errors, time.monotonic() - started)

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

    def _take(self, body: bytes) -> tuple[int, Any]:
        """Begin several calls or a single one; their results are reported later."""
        if self._calls is None:
            return 400, {"error": "Invalid request", "reason": "this worker takes no calls"}
        try:
            calls = _calls.decode(body).calls
        except Malformed as error:
            # Arguments may contain any word, so only the shape identifies a single call.
            try:
                calls = [_call.decode(body)]
            except Malformed as other:
                raise (error if b'"calls"' in body else other) from None
        for call in calls:
            if not 0 <= call.lease < LEASE_END:
                raise ValueError("lease must be from 0 to 2^63 - 1")
        self._calls.take(calls)
        return 202, {}

    def _health(self) -> dict[str, Any]:
        running = self._calls.running if self._calls is not None else []
        shown = ("lease", "handler", "job_id", "node")
        return {
            "status": "draining" if self.draining else "ok",
            "worker_name": self._name,
            **({"incarnation": self._incarnation} if self._incarnation else {}),
            "operations_done": self.operations_done,
            "calls": [{field: getattr(call, field) for field in shown} for call in running],
        }


def _ignored(request: Request) -> str | None:
    """Name what a request has that its route would ignore; None if there is nothing."""
    shown = f"{request.method} {request.path}"
    if request.query:
        name = request.query.partition("&")[0].partition("=")[0]
        return f"unknown query parameter {name[:NAME_CHARS_SHOWN]!r}; {shown} takes none"
    if request.method != "POST" and request.body.strip() not in NO_BODY:
        return f"{shown} takes no body"
    return None


def _shape_of(body: bytes) -> Any:
    """The type that a body for ``POST /compute`` is decoded to."""
    if b'"calls"' in body:
        return Calls
    if b'"handler"' in body:
        return Call
    return Batch if b'"lease"' in body else Single


def _reason(body: bytes, shape: Any) -> str | None:
    """Say why a body was refused; None if that is not found."""
    if not body.strip():
        return "the body is empty; a JSON object is expected"
    return guessed_encoding(body) or explained(body, shape)
