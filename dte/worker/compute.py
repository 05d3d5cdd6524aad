"""The routes of a worker: `/compute`, `/stop` and `/hello` for its master, `/health` and `/`."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import msgspec

from dte.core.graph.numbers import SYMBOLS
from dte.wire.codec import BOM, Decoder, Malformed, encode
from dte.wire.faults import plain
from dte.wire.http.encodings import NO_BODY, guessed_encoding
from dte.wire.http.server import Answered, InSlices, Request
from dte.wire.messages.batches import Batch, BatchResult, Hello, HelloReply, Single
from dte.wire.messages.calls import Call, Calls, Stop, Stopped
from dte.wire.misfits import explained
from dte.worker.arithmetic import OperationFailed, compute, compute_all
from dte.worker.calls import SLOTS_MAX, LeaseTaken, RunningCalls, TooManyCalls, calls_max, size_of
from dte.worker.decoding import CallDecoder
from dte.worker.long_batches import compute_in_slices
from dte.worker.session import Session, without_session

LEASE_END = 2**63
"""The upper bound of lease numbers; a master could not read a report with a higher one."""

METHODS = {
    "/": "GET, HEAD, OPTIONS",
    "/health": "GET, HEAD, OPTIONS",
    "/compute": "POST, OPTIONS",
    "/stop": "POST, OPTIONS",
    "/hello": "POST, OPTIONS",
}
"""The methods of each route."""
FOR_MASTER = ("/compute", "/stop")
"""The routes of which a caller must show the worker's secret."""
NOT_SHOWN = {"error": "the master shows this worker's secret; this request does not"}
SHAPES: dict[str, Any] = {"/stop": Stop, "/hello": Hello}
HELLO_BYTES_MAX = 1_000
LONG_BYTES = 65_536
"""A longer batch is computed in slices."""
STOP_BYTES_MAX = 1_000_000
EXPLAINED_BYTES_MAX = 1_000_000
"""A search for the fault in a longer body takes too long."""
SEARCHED_BYTES = 1_000_000
MARKS = (b'"lease"', b'"handler"', b'"job_id"', b'"lease_s"')
"""Fields that each call has."""
WORD_BYTES_MAX = 9
HEAD_BYTES = 100
"""A message with several calls begins with their field, as a master encodes it."""
PATH_CHARS_SHOWN = 200
NAME_CHARS_SHOWN = 50

_batch: Decoder[Batch] = Decoder(Batch)
_single: Decoder[Single] = Decoder(Single)
_call = CallDecoder(Call, lambda call: [call])
_calls = CallDecoder(Calls, lambda several: several.calls)
_stop: Decoder[Stop] = Decoder(Stop)
_hello: Decoder[Hello] = Decoder(Hello)


class ComputeServer:
    """Answers the requests of a master, for an `HttpServer` to call.

    Args:
        name: the worker's name.
        calls: runs calls of handlers; without it the worker takes none.
        session: that of this start of the worker.
        master_url: the URL of its master, for those who take the worker for it.
        slots: calls that run at once, from which the most calls follow.

    Attributes:
        draining: set it to refuse new work.
    """

    def __init__(
        self,
        name: str,
        calls: RunningCalls | None = None,
        session: Session | None = None,
        master_url: str = "",
        slots: int = SLOTS_MAX,
    ) -> None:
        self._name = name
        self._session = session or without_session()
        self._master_url = master_url
        self._calls = calls
        self._calls_max = calls_max(slots)
        self.draining = False
        self.operations_done = 0

    def __call__(self, request: Request) -> Answered | InSlices:
        if len(request.body) > LONG_BYTES and request.path == "/compute":
            return self._in_slices(request)
        return self._encoded(request, *self._answer(request))

    def _in_slices(self, request: Request) -> InSlices:
        """Answer a request with a long body bit by bit, as far as that can be cut."""
        body = request.body.removeprefix(BOM)
        try:
            status, reply = yield from self._long_reply(request, body)
        except TooManyCalls as error:
            status, reply = _busy(error)
        except (ValueError, KeyError) as error:
            status, reply = _refusal(error, request.path, body)
        return self._encoded(request, status, reply)

    def _long_reply(self, request: Request, body: bytes) -> Generator[None, None, tuple[int, Any]]:
        refused = self._before(request)
        if refused is not None:
            return refused
        if (yield from _is_batch(body)):
            batch = yield from compute_in_slices(body)
            self.operations_done += batch.done
            return 200, msgspec.Raw(batch.reply)
        if self._calls is None or not _has_calls(body):
            return self._compute(body)
        if (yield from self._has_too_many(body)):
            raise TooManyCalls(f"there are more than {self._calls_max} calls")
        calls = _decoded(body)
        yield
        return self._begin(body, calls)

    def _encoded(self, request: Request, status: int, reply: Any) -> Answered:
        is_result = request.path == "/compute" and status in (200, 202, 500)
        return status, encode(reply) + (b"" if is_result else b"\n")  # The rest is for terminals.

    def _answer(self, request: Request) -> tuple[int, Any]:
        refused = self._before(request)
        if refused is not None:
            return refused
        if request.path == "/health":
            return 200, self._health(self._lets_in(request))
        if request.path == "/":
            return 200, self._about(self._lets_in(request))
        body = request.body.removeprefix(BOM)
        try:
            if request.path == "/hello":
                return 200, HelloReply(self._session.prove(_hello.decode(body).challenge))
            if request.path == "/stop":
                if len(body) > STOP_BYTES_MAX:
                    raise ValueError(f"the body has more than {STOP_BYTES_MAX} bytes")
                leases = _stop.decode(body).leases
                return 200, Stopped(self._calls.stop(leases) if self._calls is not None else [])
            return self._compute(body)
        except TooManyCalls as error:
            return _busy(error)
        except (ValueError, KeyError) as error:
            return _refusal(error, request.path, body)

    def _about(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return self._health(whole)
        about = {"service": "worker", "worker_name": self._name, "master": self._master_url}
        return about | {"about": f"{self._this}; submit jobs to the master"}

    @property
    def _this(self) -> str:
        return f"this is worker {self._name} of the master {self._master_url}"

    def _before(self, request: Request) -> tuple[int, Any] | None:
        """Refuse a request that its route does not take, or that comes while draining."""
        if request.path not in METHODS:
            this = self._this if self._lets_in(request) else "this is a worker; ask its master"
            error = f"no such route: {request.path[:PATH_CHARS_SHOWN]}; {this}"
            return 404, {"error": error}
        if request.method not in METHODS[request.path]:
            method = METHODS[request.path].partition(",")[0]
            error = f"{request.method} is not allowed on {request.path}; use {method}"
            return 405, {"error": error}
        if (fault := _ignored(request)) is not None:
            return 400, {"error": fault}
        if self._is_from_stranger(request):
            return 401, NOT_SHOWN
        if request.path == "/hello" and len(request.body) > HELLO_BYTES_MAX:
            return 413, {"error": f"the body has more than {HELLO_BYTES_MAX} bytes"}
        if self.draining and request.path == "/compute":
            # An "error" would be taken for that of the operation.
            return 503, {"status": "draining"}
        return None

    def refusal(self, head: Request) -> Answered | None:
        """The answer to a request without the secret, before its body is read."""
        return (401, encode(NOT_SHOWN) + b"\n") if self._is_from_stranger(head) else None

    def _is_from_stranger(self, request: Request) -> bool:
        return request.path in FOR_MASTER and not self._lets_in(request)

    def _lets_in(self, request: Request) -> bool:
        return self._session.lets_in(request.headers.get("authorization", ""))

    def _compute(self, body: bytes) -> tuple[int, Any]:
        if _has_calls(body):
            if self._calls is None:
                return 400, {"error": "Invalid request", "reason": "this worker takes no calls"}
            return self._begin(body, _decoded(body))
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

    def _begin(self, body: bytes, calls: list[Call]) -> tuple[int, Any]:
        """Begin several calls or a single one; their results are reported later."""
        assert self._calls is not None
        for call in calls:
            if not 0 <= call.lease < LEASE_END:
                raise ValueError("lease must be from 0 to 2^63 - 1")
        if len(body) > 2 * sum(map(size_of, calls)) + SEARCHED_BYTES:
            for call in calls:  # Arguments are parts of the body, which would stay in memory.
                call.args = call.args.copy()
        self._calls.take(calls)
        return 202, {}

    def _has_too_many(self, body: bytes) -> Generator[None, None, bool]:
        """Find out, in slices, whether a long body has far too many calls to be read."""
        if len(body) < SEARCHED_BYTES:
            return False
        for mark in MARKS:  # Arguments may have such words too, but hardly all of them so often.
            if not (yield from _occurs_more(body, mark, self._calls_max)):
                return False
        return True

    def _health(self, whole: bool) -> dict[str, Any]:
        status = "draining" if self.draining else "ok"
        if not whole:
            return {"status": status}
        running = self._calls.running if self._calls is not None else []
        shown = ("lease", "handler", "job_id", "node")
        return {
            "status": status,
            "worker_name": self._name,
            **({"incarnation": own} if (own := self._session.incarnation) else {}),
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


def _decoded(body: bytes) -> list[Call]:
    """Read several calls, or a single one.

    Arguments may contain any word, so only the shape identifies a single call. The other shape is
    tried next, because to read a long body takes long.
    """
    several = b'"calls"' in body[:HEAD_BYTES]
    try:
        return _calls.decode(body).calls if several else [_call.decode(body)]
    except Malformed as error:
        try:
            return [_call.decode(body)] if several else _calls.decode(body).calls
        except Malformed as other:
            first, second = (error, other) if several else (other, error)
            raise (first if b'"calls"' in body else second) from None


def _occurs_more(body: bytes, mark: bytes, most: int) -> Generator[None, None, bool]:
    found = 0
    for start in range(0, len(body), SEARCHED_BYTES):
        found += body.count(mark, start, start + SEARCHED_BYTES)
        if found > most:
            return True
        yield
    return False


def _is_batch(body: bytes) -> Generator[None, None, bool]:
    """Find out, in slices, whether `_compute` would take a body for a batch."""
    has_lease = False
    for start in range(0, len(body), SEARCHED_BYTES):
        end = start + SEARCHED_BYTES + WORD_BYTES_MAX
        if body.find(b'"handler"', start, end) >= 0 or body.find(b'"calls"', start, end) >= 0:
            return False
        has_lease = has_lease or body.find(b'"lease"', start, end) >= 0
        yield
    return has_lease


def _has_calls(body: bytes) -> bool:
    return b'"handler"' in body or b'"calls"' in body


def _busy(error: TooManyCalls) -> tuple[int, Any]:
    return 503, {"status": "busy", "reason": str(error)}


def _refusal(error: Exception, path: str, body: bytes) -> tuple[int, Any]:
    """The reply to a body that cannot be read."""
    if isinstance(error, KeyError):
        return 400, {"error": "Invalid operation"}
    if isinstance(error, LeaseTaken):
        return 409, {"error": str(error)}
    reason = str(error)
    if isinstance(error, Malformed):
        shape = SHAPES.get(path) or _shape_of(body)
        is_explained = len(body) <= EXPLAINED_BYTES_MAX
        reason = (_reason(body, shape) if is_explained else None) or plain(error)
    return 400, {"error": "Invalid request", "reason": reason}


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
