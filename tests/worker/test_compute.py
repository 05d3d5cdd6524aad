from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from harness.http import HOST, Dial, Message, PlainClient, head
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets

from dte.core.graph.numbers import INTEGER_DIGITS_MAX, INTEGER_LIMIT
from dte.wire.http.client import REPLY_BYTES_MAX
from dte.wire.http.server import HttpServer, Request
from dte.wire.messages.calls import Call
from dte.worker.compute import METHODS, ComputeServer
from dte.worker.decoding import CallDecoder
from dte.worker.session import Session

NINES = "9" * INTEGER_DIGITS_MAX
LONGEST = INTEGER_LIMIT - 1


class Calls:
    """Takes calls, and does nothing with them."""

    def __init__(self) -> None:
        self.running: list[Call] = []

    def take(self, calls: list[Call]) -> None:
        self.running += calls

    def stop(self, leases: list[int]) -> list[int]:
        return [call.lease for call in self.running if call.lease in leases]


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's server on a port, what has its calls, and a client of it."""

    compute: ComputeServer
    calls: Calls
    client: PlainClient

    async def single(self, operation: Any, op1: Any, op2: Any) -> Message:
        return await self.client.post("/compute", {"operation": operation, "op1": op1, "op2": op2})

    async def batch(self, operations: Any, op1: Any, op2: Any) -> Message:
        return await self.client.post(
            "/compute", {"lease": 7, "operations": operations, "op1": op1, "op2": op2}
        )


@pytest.fixture
def worker(io_loop: IOLoop, cleanup: AsyncExitStack) -> Worker:
    return start(io_loop, cleanup, None)


@pytest.fixture
def secretive(io_loop: IOLoop, cleanup: AsyncExitStack) -> Worker:
    """A worker that demands its secret."""
    return start(io_loop, cleanup, Session())


def start(io_loop: IOLoop, cleanup: AsyncExitStack, session: Session | None) -> Worker:
    calls = Calls()
    compute = ComputeServer("worker-1", calls, session, "http://master:5000")  # type: ignore[arg-type]
    sockets = bind_sockets(0, HOST)

    async def listen() -> None:
        server = HttpServer(compute, REPLY_BYTES_MAX, METHODS)
        server.add_sockets(sockets)
        cleanup.callback(server.stop)

    io_loop.run_sync(listen)
    return Worker(compute, calls, PlainClient(sockets[0].getsockname()[1]))


# One operation a request: the form of the seed


@pytest.mark.parametrize(
    ("operation", "op1", "op2", "result"),
    [
        ("sum", "1", "2", "3"),
        ("sub", "1", "2", "-1"),
        ("mul", "2", "3", "6"),
        ("div", "6", "4", "1.5"),
        ("div", "6", "3", "2.0"),
        ("sum", "0.1", "0.2", "0.30000000000000004"),
        ("mul", "-1", "0.0", "-0.0"),
    ],
)
async def test_the_reply_echoes_the_operation_byte_for_byte(
    operation: str, op1: str, op2: str, result: str, worker: Worker
) -> None:
    body = f'{{"operation": "{operation}", "op1": {op1}, "op2": {op2}}}'
    reply = await worker.client.post("/compute", body.encode())
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    echo = f'{{"operation":"{operation}","op1":{op1},"op2":{op2},"result":{result}}}'
    assert reply.body == echo.encode()


async def test_division_by_zero_is_a_500_of_the_operation(worker: Worker) -> None:
    reply = await worker.single("div", 1, 0)
    assert reply.status == 500
    assert reply.body == b'{"error":"division by zero"}'


@pytest.mark.parametrize(
    ("operation", "op1", "op2", "error"),
    [
        ("mul", 1e308, 10, "overflow, the result is not a finite number"),
        ("div", LONGEST, 1, "overflow, an integer is too large for a float"),
        ("sum", LONGEST, 1, "the result has more than 4300 digits"),
        ("sub", -LONGEST, 1, "the result has more than 4300 digits"),
    ],
)
async def test_other_failures_of_an_operation_are_its_500_too(
    operation: str, op1: float, op2: float, error: str, worker: Worker
) -> None:
    reply = await worker.single(operation, op1, op2)
    assert (reply.status, reply.json) == (500, {"error": error})


@pytest.mark.parametrize("sign", ["", "-"])
async def test_integers_of_the_longest_length(sign: str, worker: Worker) -> None:
    number = int(f"{sign}{NINES}")
    reply = await worker.single("sum", number, 0)
    assert (reply.status, reply.json["op1"], reply.json["result"]) == (200, number, number)


@pytest.mark.parametrize("sign", ["", "-"])
async def test_integers_of_one_digit_more_are_refused(sign: str, worker: Worker) -> None:
    body = f'{{"operation": "sum", "op1": {sign}1{"0" * INTEGER_DIGITS_MAX}, "op2": 1}}'
    reply = await worker.client.post("/compute", body.encode())
    assert reply.status == 400
    assert reply.json["error"] == "Invalid request"
    assert "4300 digits" in reply.json["reason"]


@pytest.mark.parametrize("operation", ["", "add", "SUM", "+", "lease "])
async def test_another_operation_is_invalid(operation: str, worker: Worker) -> None:
    reply = await worker.single(operation, 1, 2)
    assert (reply.status, reply.json["error"]) == (400, "Invalid operation")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"1+2",
        b"\xff",
        b"[]",
        b"null",
        b'"sum"',
        b"{}",
        b'{"operation": "sum", "op1": 1}',
        b'{"operation": "sum", "op2": 1}',
        b'{"op1": 1, "op2": 1}',
        b'{"operation": "sum", "op1": 1, "op2": null}',
        b'{"operation": "sum", "op1": 1, "op2": "2"}',
        b'{"operation": "sum", "op1": 1, "op2": true}',
        b'{"operation": "sum", "op1": 1, "op2": [2]}',
        b'{"operation": "sum", "op1": 1, "op2": NaN}',
        b'{"operation": "sum", "op1": Infinity, "op2": 1}',
        b'{"operation": "sum", "op1": 1e999, "op2": 1}',
        b'{"operation": ["sum"], "op1": 1, "op2": 2}',
        b'{"operation": 1, "op1": 1, "op2": 2}',
        b'{"operation": "sum", "op1": 1, "op2": 2',
        b"[" * 100_000,
        b'{"lease": 1}',
        b'{"lease": "1", "operations": "+", "op1": [1], "op2": [2]}',
        b'{"lease": 1.5, "operations": "+", "op1": [1], "op2": [2]}',
        b'{"lease": 1, "operations": ["+"], "op1": [1], "op2": [2]}',
        b'{"lease": 1, "operations": "+", "op1": 1, "op2": 2}',
        b'{"lease": 1, "operations": "+", "op1": [1], "op2": [NaN]}',
        b'{"lease": 1, "operations": "+", "op1": [1], "op2": ["2"]}',
        b'{"lease": 1, "operations": "+", "op1": [1], "op2": []}',
        b'{"lease": 1, "operations": "++", "op1": [1], "op2": [1]}',
        b'{"lease": 1, "operations": "", "op1": [1], "op2": [1]}',
    ],
    ids=lambda body: body[:70].decode("latin-1"),
)
async def test_anything_else_is_an_invalid_request(body: bytes, worker: Worker) -> None:
    reply = await worker.client.post("/compute", body)
    assert (reply.status, reply.json["error"]) == (400, "Invalid request")
    assert reply.json["reason"]
    assert worker.compute.operations_done == 0


async def test_a_body_that_nests_too_deep_is_an_invalid_request(worker: Worker) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'{"operation": "sum", "op1": 1, "op2": 2, "more": ' + deep + b"}"
    assert (await worker.client.post("/compute", body)).status == 400


async def test_the_request_may_say_more(worker: Worker) -> None:
    body = {"operation": "sum", "op1": 1, "op2": 2, "task_id": "x", "colour": {"red": []}}
    assert (await worker.client.post("/compute", body)).json["result"] == 3


# Batches


def besides_time(reply: Any) -> Any:
    """A reply to a batch without how long it took, which it has to say."""
    said = reply.json
    assert said.pop("took_s") > 0
    return said


async def test_a_batch_gives_its_lease_and_a_result_for_each_operation(worker: Worker) -> None:
    reply = await worker.batch("+-*/", [1, 2, 3, 4], [5, 6, 7.0, 8])
    assert reply.status == 200
    assert besides_time(reply) == {"lease": 7, "results": [6, -4, 21.0, 0.5]}
    assert reply.body.startswith(b'{"lease":7,"results":[6,-4,21.0,0.5],')


async def test_failures_do_not_keep_the_rest_of_a_batch_from_its_results(worker: Worker) -> None:
    reply = await worker.batch("+/*+/-", [1, 1, 1e308, LONGEST, LONGEST, 2], [2, 0, 10, 1, 1, 1])
    assert reply.status == 200
    assert besides_time(reply) == {
        "lease": 7,
        "results": [3, 0, 0, 0, 0, 1],
        "errors": {
            "1": "division by zero",
            "2": "overflow, the result is not a finite number",
            "3": "the result has more than 4300 digits",
            "4": "overflow, an integer is too large for a float",
        },
    }


async def test_long_integers_in_a_batch(worker: Worker) -> None:
    reply = await worker.batch("+-+", [LONGEST, -LONGEST, 2**64], [0, 0, 1])
    assert reply.json["results"] == [LONGEST, -LONGEST, 2**64 + 1]


async def test_an_empty_batch(worker: Worker) -> None:
    assert besides_time(await worker.batch("", [], [])) == {"lease": 7, "results": []}


@pytest.mark.parametrize("operations", ["+%", "/%", "+é"])
async def test_another_operation_in_a_batch_is_invalid(operations: str, worker: Worker) -> None:
    reply = await worker.batch(operations, [1, 1], [0, 0])
    assert (reply.status, reply.json["error"]) == (400, "Invalid operation")


# Calls of handlers


def one(lease: int, **more: Any) -> dict[str, Any]:
    fields = {"job_id": 3, "node": "a", "handler": "echo", "args": [1], "timeout": None}
    return {"lease": lease, "attempt": 1, "lease_s": 10.0} | fields | more


async def test_calls_are_taken_and_answered_before_they_are_done(worker: Worker) -> None:
    reply = await worker.client.post("/compute", {"calls": [one(1), one(2, timeout=2.5)]})
    assert (reply.status, reply.json) == (202, {})
    assert [call.lease for call in worker.calls.running] == [1, 2]
    assert worker.calls.running[1].timeout == 2.5


@pytest.mark.parametrize(
    "args",
    [
        [1, 2.5, "x", None],
        {"calls": [1]},
        ["calls", "operations", "lease"],
        {"operation": "sum", "op1": 1},
        [{"calls": [{"lease": 1, "handler": "echo"}]}],
        [2**70, -(10**400)],
    ],
    ids=str,
)
@pytest.mark.parametrize("alone", [True, False])
async def test_arguments_are_any_json(worker: Worker, args: Any, alone: bool) -> None:
    """Also such as look like something else that a worker is sent."""
    body = one(1, args=args) if alone else {"calls": [one(1, args=args)]}
    assert (await worker.client.post("/compute", body)).status == 202
    (call,) = worker.calls.running
    assert (call.lease, call.handler) == (1, "echo")
    assert json.loads(bytes(call.args)) == args


DEEP = b"[" * 100_000 + b"]" * 100_000
BODY = b'{"calls": [%b, %b, %b]}'
CALL = (
    b'{"lease": %d, "job_id": 3, "node": "a", "handler": "echo", "args" : %b, '
    b'"timeout": null, "attempt": 1, "lease_s": 10.0}'
)


@pytest.mark.parametrize(
    "args",
    [
        DEEP,
        b'{"args": %b}' % DEEP,
        b'["]", "\\"[", %b]' % DEEP,
        b"[" * 900 + b"]" * 900,
        b'["\\ud800"]',
        b'["\xff"]',
        b"[NaN, -Infinity]",
        b"[1e999]",
        b"[-1%b]" % (b"0" * 10_000),
    ],
    ids=lambda args: args[:20].decode("latin-1"),
)
@pytest.mark.parametrize("alone", [True, False])
async def test_arguments_that_cannot_be_read_keep_no_call_away(
    worker: Worker, args: bytes, alone: bool
) -> None:
    """The process that runs the call reports their fault."""
    given = [args] if alone else [b'["x"]', args, b'{"y": [1]}']
    calls = [CALL % each for each in enumerate(given)]
    body = calls[0] if alone else BODY % tuple(calls)
    assert (await worker.client.post("/compute", body)).status == 202
    assert [bytes(call.args) for call in worker.calls.running] == given


@pytest.mark.parametrize("field", [b"timeout", b"node", b"lease"])
async def test_what_is_wrong_beside_arguments_is_still_refused(
    worker: Worker, field: bytes
) -> None:
    body = (CALL % (1, DEEP))[:-1] + b', "%b": []}' % field
    assert (await worker.client.post("/compute", body)).status == 400
    assert worker.calls.running == []


async def test_no_calls_are_taken_too(worker: Worker) -> None:
    assert (await worker.client.post("/compute", {"calls": []})).status == 202


@pytest.mark.parametrize(
    "body",
    [
        {"calls": None},
        {"calls": [1]},
        {"calls": [one(1), one(2, handler=None)]},
        {"calls": [one(1), one(2**63)]},
        {"calls": [one(1), one(-1)]},
        one(10**4000),
        {"calls": [{"handler": "echo"}]},
        one(1) | {"lease": "x"},
        {"handler": "echo", "args": []},
    ],
    ids=str,
)
async def test_calls_are_taken_all_or_none(worker: Worker, body: Any) -> None:
    reply = await worker.client.post("/compute", body)
    assert (reply.status, reply.json["error"]) == (400, "Invalid request")
    assert worker.calls.running == []


async def test_the_reason_is_that_of_the_call_that_is_wrong(worker: Worker) -> None:
    reply = await worker.client.post("/compute", {"calls": [one(1), one(2, handler=None)]})
    assert "calls[1].handler" in reply.json["reason"]


async def test_stop_says_which_calls_are_known(worker: Worker) -> None:
    await worker.client.post("/compute", {"calls": [one(1), one(2)]})
    reply = await worker.client.post("/stop", {"leases": [2, 3]})
    assert (reply.status, reply.json) == (200, {"leases": [2]})


@pytest.mark.parametrize("body", [b"", b"[1]", b"{}", b'{"leases": ["1"]}'], ids=str)
async def test_a_stop_that_makes_no_sense_is_an_invalid_request(
    worker: Worker, body: bytes
) -> None:
    reply = await worker.client.post("/stop", body)
    assert (reply.status, reply.json["error"]) == (400, "Invalid request")


async def test_only_posts_stop(worker: Worker) -> None:
    assert (await worker.client.get("/stop")).status == 405


async def test_health_shows_the_calls_that_run(worker: Worker) -> None:
    await worker.client.post("/compute", {"calls": [one(1)]})
    reply = await worker.client.get("/health")
    assert reply.json["calls"] == [{"lease": 1, "handler": "echo", "job_id": 3, "node": "a"}]


async def test_a_draining_worker_takes_no_calls_and_still_stops_those_that_it_has(
    worker: Worker,
) -> None:
    await worker.client.post("/compute", {"calls": [one(1)]})
    worker.compute.draining = True
    assert (await worker.client.post("/compute", {"calls": [one(2)]})).status == 503
    assert (await worker.client.post("/stop", {"leases": [1]})).json == {"leases": [1]}
    assert len(worker.calls.running) == 1


# The rest


async def test_health_counts_operations(worker: Worker) -> None:
    await worker.single("sum", 1, 2)
    await worker.batch("+-*", [1, 2, 3], [4, 5, 6])
    reply = await worker.client.get("/health")
    assert reply.status == 200
    assert reply.json == {
        "status": "ok",
        "worker_name": "worker-1",
        "operations_done": 4,
        "calls": [],
    }


async def test_a_draining_worker_refuses_without_an_error(worker: Worker) -> None:
    """An `error` would be taken for the operation's own, and end its job."""
    worker.compute.draining = True
    for reply in (await worker.single("sum", 1, 2), await worker.batch("+", [1], [2])):
        assert reply.status == 503
        assert "error" not in reply.json
    assert (await worker.client.get("/health")).json["status"] == "draining"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "BREW"])
async def test_only_posts_are_computed(method: str, worker: Worker) -> None:
    reply = await worker.client.ask(method, "/compute", {"operation": "sum", "op1": 1, "op2": 2})
    assert (reply.status, reply.headers["allow"]) == (405, "POST, OPTIONS")
    assert method == "HEAD" or "use POST" in reply.json["error"]


async def test_the_methods_of_a_route_are_named(worker: Worker) -> None:
    for path, methods in METHODS.items():
        reply = await worker.client.ask("OPTIONS", path)
        assert (reply.status, reply.headers["allow"], reply.body) == (204, methods, b"")


async def test_a_worker_says_what_it_is_to_whoever_takes_it_for_a_master(worker: Worker) -> None:
    this = "this is worker worker-1 of the master http://master:5000"
    reply = await worker.client.get("/")
    assert (reply.json["service"], reply.json["worker_name"]) == ("worker", "worker-1")
    assert this in reply.json["about"]
    assert reply.body.endswith(b"}\n")
    reply = await worker.client.post("/submit", {"task": "1"})
    assert reply.json["error"] == f"no such route: /submit; {this}"


@pytest.mark.parametrize("path", ["/compute/", "/Compute", "/computed", "/é", "*"])
async def test_there_is_nothing_elsewhere(path: str, worker: Worker) -> None:
    reply = await worker.client.post(path, {"operation": "sum", "op1": 1, "op2": 2})
    assert reply.status == 404
    assert path in reply.json["error"]


ROUTES = [
    (method, path)
    for path, methods in METHODS.items()
    for method in ("GET", "HEAD", "POST")
    if method in methods
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_query_parameter_is_refused_by_its_name(
    method: str, path: str, worker: Worker
) -> None:
    reply = await worker.client.ask(method, f"{path}?verbose=1&x=2")
    assert reply.status == 400
    error = f"unknown query parameter 'verbose'; {method} {path} takes none"
    assert method == "HEAD" or reply.json["error"] == error
    assert method == "HEAD" or reply.body.endswith(b"}\n")


@pytest.mark.parametrize("path", ["/", "/health"])
async def test_a_body_is_refused_where_none_is_read(path: str, worker: Worker) -> None:
    reply = await worker.client.ask("GET", path, b'{"verbose": 1}')
    assert (reply.status, reply.json["error"]) == (400, f"GET {path} takes no body")
    assert (await worker.client.ask("GET", path, b" {} ")).status == 200


@pytest.mark.parametrize("path", METHODS)
async def test_each_route_names_its_methods_to_others(
    path: str, worker: Worker, dial: Dial
) -> None:
    line = await dial(worker.client.port)
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {*METHODS[path].split(", ")}:
        reply = await line.ask(method, path, b"{}")
        assert (reply.status, reply.headers["allow"]) == (405, METHODS[path])
        assert reply.json["error"].startswith(f"{method} is not allowed on {path}; use ")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_each_route_refuses_a_compressed_body_and_lets_a_client_ask_before(
    method: str, path: str, worker: Worker, dial: Dial
) -> None:
    line = await dial(worker.client.port)
    reply = await line.ask(method, path, b"\x1f\x8b", Content_Encoding="gzip")
    assert reply.status == 415
    fields = {"Host": HOST, "Content-Length": 2, "Expect": "100-continue"}
    await line.send(head(f"{method} {path} HTTP/1.1", fields))
    assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await line.send(b"{}")
    final = await line.read(method)
    assert final is not None
    assert final.status in (200, 400)


async def test_options_of_the_server_as_a_whole(worker: Worker) -> None:
    reply = await worker.client.ask("OPTIONS", "*")
    assert (reply.status, reply.headers["allow"]) == (204, "GET, POST, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/health", "/compute", "/"])
async def test_head_is_answered_without_a_body(path: str, worker: Worker) -> None:
    reply = await worker.client.ask("HEAD", path)
    assert reply.status in (200, 404, 405)


async def test_many_requests_on_one_connection(worker: Worker, dial: Dial) -> None:
    line = await dial(worker.client.port)
    for number in range(20):
        body = {"operation": "mul", "op1": number, "op2": 2}
        reply = await line.ask("POST", "/compute", body)
        assert reply.json["result"] == 2 * number


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/compute", b"", "the body is empty; a JSON object is expected"),
        ("/compute", b'{"a":', "the JSON ends too soon (line 1, column 6)"),
        ("/compute", b'{"operation": "+"}', "the field 'op1' is missing"),
        ("/compute", b'{"handler": "echo"}', "the field 'lease' is missing"),
        ("/compute", b'{"lease": "x"}', 'lease must be an integer, not "x"'),
        ("/compute", b'{"a": "\xe4"}', "not UTF-8: byte 0xe4 at position 7"),
        ("/compute", "{}".encode("utf-16"), "the body seems to be UTF-16; send it "),
        ("/stop", b"[]", "the JSON must be an object, not a list"),
        ("/stop", b'{"leases": 7}', "leases must be a list, not 7"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_with_what_is_wrong_in_it(
    worker: Worker, path: str, body: bytes, reason: str
) -> None:
    reply = await worker.client.post(path, body)
    assert (reply.status, reply.json["error"]) == (400, "Invalid request")
    assert reply.json["reason"].startswith(reason)


async def test_the_mark_before_utf_8_text_is_no_part_of_a_body(worker: Worker) -> None:
    body = b'\xef\xbb\xbf{"operation": "sum", "op1": 1, "op2": 2}'
    assert (await worker.client.post("/compute", body)).json["result"] == 3


async def test_far_too_many_calls_are_refused_before_they_are_read(worker: Worker) -> None:
    calls = [one(lease) for lease in range(20_000)]
    reply = await worker.client.post("/compute", {"calls": calls})
    assert (reply.status, reply.json["status"]) == (503, "busy")
    assert not worker.calls.running


async def test_a_body_for_stop_is_short(worker: Worker) -> None:
    reply = await worker.client.post("/stop", {"leases": [10**12] * 100_000})
    assert reply.status == 400


@pytest.mark.parametrize("form", [b"%s", b'{"calls":[%s]}'], ids=["one", "several"])
def test_a_long_body_with_calls_is_searched_in_slices_and_read_once(
    form: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    decode = CallDecoder.decode

    def counted(decoder: CallDecoder[Any], raw: bytes) -> Any:
        read.append(decoder)
        return decode(decoder, raw)

    monkeypatch.setattr(CallDecoder, "decode", counted)
    call = json.dumps(one(1) | {"args": ["x" * 5_000_000]}).encode()
    body = form % call
    calls = Calls()
    compute = ComputeServer("worker-1", calls)  # type: ignore[arg-type]
    answering = compute(Request("POST", "/compute", body))
    assert isinstance(answering, Generator)
    assert len(list(answering)) > 5
    assert len(read) == 1
    assert [call.lease for call in calls.running] == [1]


# The master, and nobody else

A_CALL = {"lease": 7, "job_id": 1, "node": "a", "handler": "transfer", "args": ["mallory", 1000]}
A_CALL |= {"timeout": None, "attempt": 1, "lease_s": 10.0}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/compute", {"operation": "sum", "op1": 1, "op2": 2}),
        ("/compute", {"lease": 7, "operations": "+", "op1": [1], "op2": [2]}),
        ("/compute", A_CALL),
        ("/compute", {"calls": [A_CALL]}),
        ("/compute", {"calls": [A_CALL], "more": "x" * 100_000}),
        ("/compute", b"nonsense"),
        ("/stop", {"leases": [7]}),
        ("/stop", b"nonsense"),
    ],
)
async def test_nobody_uses_a_worker_without_its_secret(
    secretive: Worker, path: str, body: Any
) -> None:
    secret = secretive.compute._session.secret
    for shown in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": secret}):
        reply = await secretive.client.post(path, body, **shown)
        assert reply.status == 401
        assert secret not in reply.json["error"]
    assert secretive.calls.running == []
    assert secretive.compute.operations_done == 0
    master = {"Authorization": f"Bearer {secret}"}
    assert (await secretive.client.post(path, body, **master)).status != 401


async def test_strangers_see_the_status_of_a_worker_alone(secretive: Worker) -> None:
    session = secretive.compute._session
    assert (await secretive.client.get("/health")).json == {"status": "ok"}
    secretive.compute.draining = True
    assert (await secretive.client.get("/health")).json == {"status": "draining"}
    master = {"Authorization": f"Bearer {session.secret}"}
    health = (await secretive.client.ask("GET", "/health", **master)).json
    assert (health["worker_name"], health["calls"]) == ("worker-1", [])


async def test_strangers_see_neither_the_name_nor_the_master_of_a_worker(secretive: Worker) -> None:
    session = secretive.compute._session
    assert (await secretive.client.get("/")).json == {"status": "ok"}
    wrong = {"Authorization": "Bearer wrong"}
    assert (await secretive.client.ask("GET", "/", **wrong)).json == {"status": "ok"}
    for method, path in (("POST", "/submit"), ("GET", "/docs"), ("PUT", "/"), ("GET", "/?x=1")):
        reply = await secretive.client.ask(method, path)
        assert reply.status in (400, 404, 405)
        assert b"worker-1" not in reply.body
        assert b"master:5000" not in reply.body
    master = {"Authorization": f"Bearer {session.secret}"}
    about = (await secretive.client.ask("GET", "/", **master)).json
    assert (about["worker_name"], about["master"]) == ("worker-1", "http://master:5000")


SAFE = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/health", 200),
        ("OPTIONS", "/health", 204),
        ("POST", "/hello", 400),
        ("POST", "/compute", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/health", 405),
    ],
)
async def test_browsers_keep_the_replies_of_a_worker_from_pages_of_others(
    secretive: Worker, method: str, path: str, status: int
) -> None:
    reply = await secretive.client.ask(method, path)
    assert reply.status == status
    assert SAFE.items() <= reply.headers.items()


async def test_malformed_requests_have_the_headers_for_browsers_too(
    worker: Worker, dial: Dial
) -> None:
    line = await dial(worker.client.port)
    await line.send(b"nonsense\r\n\r\n")
    reply = await line.read()
    assert reply is not None
    assert SAFE.items() <= reply.headers.items()
    reply = await worker.single("sum", 1, 2)
    assert SAFE.items() <= reply.headers.items(), "a page may send this, as no secret is demanded"


async def test_a_challenge_is_answered_with_its_proof(secretive: Worker) -> None:
    session = secretive.compute._session
    reply = await secretive.client.post("/hello", {"challenge": "c" * 43})
    assert (reply.status, reply.json) == (200, {"proof": session.prove("c" * 43)})
    assert session.secret.encode() not in reply.body
    assert (await secretive.client.post("/hello", {"challenge": "c" * 1_000})).status == 413
    for odd in ({}, {"challenge": 7}, b"", b"nonsense"):
        assert (await secretive.client.post("/hello", odd)).status == 400
