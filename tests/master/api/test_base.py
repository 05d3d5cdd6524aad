"""A master answers every request with JSON, and never with a fault of its own."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.http import HOST, Dial, Message, head, request_bytes
from harness.until import until

from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.logs import LINES_MAX
from dte.master.api.openapi import Route
from dte.master.api.routes import ROUTES
from dte.master.http.meters import Budget
from master import fakes
from master.rig import Hire, Rig, StartMaster

METHODS = {
    "/submit": "POST",
    "/job/1": "GET",
    "/jobs": "GET, POST",
    "/job/1/cancel": "POST",
    "/job/1/retry": "POST",
    "/job/1/why": "GET",
    "/job/1/nodes": "GET",
    "/worker": "GET, POST",
    "/claim": "POST",
    "/result": "POST",
    "/extend": "POST",
    "/live": "GET",
    "/ready": "GET",
    "/": "GET",
    "/health": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
    "/docs/page.css": "GET",
    "/scheduler/docs": "GET",
}
"""The methods of dte's own routes; the dialects have tests of their own."""

OWN = [f"dte.master.api.{name}" for name in ("docs", "formula", "health", "jobs", "workers")]

GROUP = re.compile(r"\{[^{}]*\}")
BODY = {"task": "1+2"}
SIZE = len(json.dumps(BODY))


def chunked(path: str, *chunks: bytes) -> bytes:
    """A POST without a Content-Length."""
    fields = {"Host": HOST, "Transfer-Encoding": "chunked"}
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return head(f"POST {path} HTTP/1.1", fields) + b"".join(parts) + b"0\r\n\r\n"


def padded(size: int) -> bytes:
    """A formula in a body of `size` bytes."""
    return json.dumps(BODY).encode().ljust(size)


def check_refusal(reply: Message, status: int, *words: str) -> None:
    """A refusal is JSON with an `error` for people and a `code` for programs."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["code"]
    for word in words:
        assert word in reply.json["error"]


def test_the_table_of_these_tests_has_every_route() -> None:
    own = [route for route in ROUTES if route.handler.__module__ in OWN]
    served = [next((p for p in METHODS if re.fullmatch(r.pattern, p)), r.path) for r in own]
    assert served == list(METHODS)


async def all_else_ends() -> None:
    """No handler and no connection is left."""
    await until(lambda: len(asyncio.all_tasks()) == 1, "the end of all tasks")


# Bodies that are not JSON of the right type


@pytest.mark.parametrize("path", ["/submit", "/worker"])
@pytest.mark.parametrize(
    "body",
    [
        b"1+2",
        b"task=1%2B2",
        b'{"task": "1+2"',
        b'{"task": "1+2"} {}',
        b"{'task': '1+2'}",
        b'{"task": \xff}',
        b'{"task": "\xff", "worker_name": "\xff"}',
        '{"task": "1+2", "worker_name": "w"}'.encode("utf-16"),
        b"[]",
        b'["task"]',
        b"null",
        b"true",
        b"1",
        b'"1+2"',
        b"NaN",
        b"{}",
        b'{"task": NaN, "worker_name": NaN}',
        b'{"task": Infinity, "worker_name": -Infinity}',
        b'{"task": -' + b"9" * INTEGER_DIGITS_MAX + b', "worker_name": 1}',
        b'{"task": 9' + b"9" * INTEGER_DIGITS_MAX + b', "worker_name": 1}',
        b'{"task": null, "worker_name": null}',
        b'{"task": 1, "worker_name": 1}',
        b'{"task": {}, "worker_name": {}}',
        b'{"task": ["1"], "worker_name": ["w"]}',
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b"\x00" * 100,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
async def test_other_bodies_are_refused(body: bytes, path: str, rig: Rig) -> None:
    reply = await rig.post(path, body)
    is_utf_16 = body.startswith(b"\xff\xfe")
    is_too_long = path == "/worker" and len(body) > 200_000
    check_refusal(reply, 415 if is_utf_16 else 413 if is_too_long else 400)
    assert reply.json["error"]
    assert (await rig.get("/jobs")).json == (await rig.get("/worker")).json == []


@pytest.mark.parametrize("path", ["/submit", "/worker"])
@pytest.mark.parametrize("body", [b"", b" \r\n\t "])
async def test_an_empty_body_is_called_so(body: bytes, path: str, rig: Rig) -> None:
    check_refusal(await rig.post(path, body), 400, "the body is empty")


DEEP = 1_050
"""More levels than the JSON reader takes, in fewer bytes than the bound of any route."""


@pytest.mark.parametrize(
    ("path", "start", "end"),
    [
        ("/submit", b'{"task":', b"}"),
        ("/submit", b'{"tasks":[', b"]}"),
        ("/submit", b'{"more":', b"}"),
        ("/worker", b"[", b"]"),
        ("/worker", b'{"more":', b"}"),
    ],
)
async def test_objects_and_arrays_may_not_nest_too_deep(
    path: str, start: bytes, end: bytes, rig: Rig
) -> None:
    """The same holds for fields that are ignored."""
    check_refusal(await rig.post(path, start * DEEP + b"1" + end * DEEP), 400)


async def test_the_text_of_a_refusal_has_the_path(rig: Rig) -> None:
    reply = await rig.post("/submit", {"tasks": ["1", 2]})
    check_refusal(reply, 400, "tasks[1] must be a text, not ")


async def test_after_a_refusal_the_connection_goes_on(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    for body in (b"{", b"", BODY, b"[]", BODY):
        reply = await line.ask("POST", "/submit", body)
        assert reply.status == (200 if body == BODY else 400)


async def test_the_type_and_the_encoding_of_text_do_not_matter(rig: Rig) -> None:
    """curl sends JSON as a form by default."""
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        reply = await rig.post("/submit", BODY, Content_Type=content_type)
        assert reply.status == 200


FIELDS = {
    "/jobs": {
        "handler": "echo",
        "args": [{"ref": "call"}],
        "timeout": 1.5,
        "retries": 1,
        "delay": 1.5,
        "not_before": "2030-01-31T12:00:00Z",
        "after": [1],
        "when": "done",
        "priority": 1,
        "notify": "http://127.0.0.1:1/",
    },
    "/submit": {"task": "1+2", "priority": 1, "notify": "http://127.0.0.1:1/"},
    "/worker": {
        "worker_name": "w",
        "port": 7000,
        "handlers": {"echo": {"timeout": 1.5, "retries": 1, "pure": True}},
        "handler_slots": 1,
    },
    "/claim": {"worker": "w", "handlers": ["echo"], "slots": 1, "batch_max": 1, "incarnation": ""},
    "/result": {
        "worker": "w",
        "results": [{"lease": 1, "result": 1, "error": "", "state": "failed", "retry": True}],
        "batches": [{"lease": 1, "results": [1], "errors": {"0": "x"}}],
    },
    "/extend": {"worker": "w", "leases": [1], "progress": {"1": {"fraction": 0.5, "text": "x"}}},
}
"""Routes, each with a body that has all its fields."""

ODD: list[Any] = [
    *(None, True, 0, -1, 0.5, -0.0, 1e308, 2**63, 2**64, -(2**63) - 1, 10**4_299),
    *("", " ", "\x00", "é", "\U0001f600", "x" * 1_000, "0001-01-01T00:00:00+14:00", "{}"),
    *("9999-12-31T23:59:59-14:00", "http://", "http://[::1", "http://a:99999/", "echo(1)"),
    *([], [[]], [{}], {}, {"": 1}, {"ref": "x"}, {"literal": 1}, {"1": {}}, {"a b": None}),
]


def changed(body: Any, odd: Any) -> Iterator[Any]:
    """Bodies with an odd value in place of a part, or as an additional one."""
    yield odd
    if isinstance(body, dict):
        for key, value in body.items():
            for other in changed(value, odd):
                yield body | {key: other}
            yield {other: value for other, value in body.items() if other != key}
    elif isinstance(body, list):
        for value in body:
            yield from ([other] for other in changed(value, odd))


@pytest.mark.parametrize("path", FIELDS)
async def test_no_odd_value_is_the_master_s_fault(path: str, rig: Rig, dial: Dial) -> None:
    """Neither at once nor when it is shown later."""
    line = await dial(rig.port)
    for odd in ODD:
        for body in changed(FIELDS[path], odd):
            reply = await line.ask("POST", path, body)
            assert reply.status in (200, 201, 400, 413, 429), (body, reply.body)
    for shown in ("/jobs", "/worker", "/jobs?ids=1"):
        assert (await line.ask("GET", shown)).status in (200, 404)
    for job in (await line.ask("GET", "/jobs")).json:
        for shown in ("why", "nodes"):
            assert (await line.ask("GET", f"/job/{job['job_id']}/{shown}")).status == 200


# Methods and paths


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_route_takes_its_methods_and_names_them_to_others(
    path: str, method: str, rig: Rig
) -> None:
    reply = await rig.ask(method, path, b"")
    methods = METHODS[path].split(", ")
    allowed = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
    if method in ("OPTIONS", *allowed):
        assert reply.status == 204 if method == "OPTIONS" else reply.status in (200, 400, 404)
    else:
        assert reply.status == 405
        if method != "HEAD":
            use = f"{method} is not allowed on {path}; use {' or '.join(methods)}"
            check_refusal(reply, 405, use)
    if method == "OPTIONS" or reply.status == 405:
        assert sorted(reply.headers["allow"].split(", ")) == sorted(allowed)


@pytest.mark.parametrize("path", ["/job/1", "/tasks", "/scheduler/status", "/stats"])
async def test_the_log_of_a_wrong_method_has_the_text_of_the_reply(
    path: str, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dte.master")
    reply = await rig.ask("DELETE", path)
    assert reply.status == 405
    body = reply.body.decode().strip()
    text = next(iter(reply.json.values())) if body.startswith("{") else body
    assert f"refused DELETE {path} with status 405: {text}" in caplog.messages


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_head_gives_the_headers_of_get_and_no_body(route: Route, rig: Rig) -> None:
    await rig.submit("7")
    path = GROUP.sub("1", route.path.replace("{file}", "page.css"))
    if "get" not in dict(route.methods()):
        assert (await rig.ask("HEAD", path)).status == 405
        return
    head = await rig.ask("HEAD", path)
    assert head.body == b""
    if path.endswith("events"):
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        return
    got = await rig.ask("GET", path)
    for reply in (got, head):
        reply.headers.pop("date", None)
    if path == "/health":  # Its numbers change.
        head.headers["content-length"] = str(len(got.body))
    assert (head.status, head.headers) == (got.status, got.headers)
    assert head.headers.get("content-length", "0") == str(len(got.body))


async def test_head_of_a_long_list_has_its_length_and_leaves_the_connection_usable(
    rig: Rig, dial: Dial
) -> None:
    await rig.post("/submit", {"tasks": [str(10**3000 + n) for n in range(500)]})
    line = await dial(rig.port)
    got = await line.ask("GET", "/jobs?ids=1-500")
    head = await line.ask("HEAD", "/jobs?ids=1-500")
    assert head.headers["content-length"] == str(len(got.body)) > str(1_000_000)
    assert (await line.ask("GET", "/health")).status == 200


async def test_options_grant_nothing(rig: Rig) -> None:
    reply = await rig.ask("OPTIONS", "/jobs", Access_Control_Request_Method="POST")
    assert (reply.status, reply.body) == (204, b"")
    assert not any(name.startswith("access-control") for name in reply.headers)
    assert (await rig.ask("OPTIONS", "*")).status == 204


# Forms of targets


@pytest.mark.parametrize(
    "target", ["/health", "http://127.0.0.1:1/health", "HTTP://a/health", "/%68ealt%68"]
)
async def test_a_target_is_read_in_every_form(target: str, rig: Rig) -> None:
    assert (await rig.get(target)).status == 200


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/jobs/", "did you mean /jobs?"),
        ("//jobs", "did you mean /jobs?"),
        ("/Job/1/", "did you mean /job/1?"),
        ("/sumbit", "did you mean /submit?"),
        ("/metrics/of/all", "all routes are at /docs"),
    ],
)
async def test_a_path_without_a_route_leads_on(path: str, advice: str, rig: Rig) -> None:
    check_refusal(await rig.get(path), 404, f"no such route: {path}; {advice}")


# Encodings of bodies


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity", "GZIP"])
@pytest.mark.parametrize("path", ["/submit", "/jobs", "/tasks", "/submit-task", "/add_task"])
async def test_a_compressed_body_is_refused_with_the_name_of_its_encoding(
    path: str, encoding: str, rig: Rig
) -> None:
    reply = await rig.post(path, gzip.compress(b'{"task": "1"}'), Content_Encoding=encoding)
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "identity")
    assert encoding.lower() in reply.body.decode()


@pytest.mark.parametrize("charset", ["iso-8859-1", '"UTF-16"', "latin1", "x"])
async def test_a_body_in_another_charset_is_refused_with_its_name(charset: str, rig: Rig) -> None:
    media = f"application/json; charset={charset}"
    reply = await rig.post("/submit", {"task": "1"}, Content_Type=media)
    check_refusal(reply, 415, charset.strip('"'), "UTF-8")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Encoding": "identity"},
        {"Content_Type": "application/json; charset=utf-8"},
        {"Content_Type": 'application/json;charset="UTF8"'},
        {"Content_Type": "text/plain; charset=us-ascii"},
    ],
)
async def test_a_plain_body_in_utf8_may_say_so(headers: dict[str, str], rig: Rig) -> None:
    assert (await rig.post("/submit", {"task": "7"}, **headers)).json["finished"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (gzip.compress(b'{"task": "1"}', mtime=0), "gzip"),
        ('{"task": "1"}'.encode("utf-16"), "UTF-16"),
        ('{"task": "1"}'.encode("utf-16-le"), "UTF-16"),
    ],
)
async def test_a_body_that_hides_its_encoding_is_refused_with_a_guess(
    body: bytes, name: str, rig: Rig
) -> None:
    check_refusal(await rig.post("/submit", body), 415, "seems to be", name)


# The end of replies


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/jobs"),
        ("GET", "/worker"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("POST", "/submit"),
        ("GET", "/nothing"),
        ("PUT", "/health"),
        ("GET", "/tasks/1"),
        ("GET", "/stats"),
    ],
)
async def test_a_reply_ends_with_a_newline(method: str, path: str, rig: Rig) -> None:
    reply = await rig.ask(method, path, {"task": "1"} if method == "POST" else None)
    assert reply.body.endswith(b"\n")
    assert not reply.body.endswith(b"\n\n")


@pytest.mark.parametrize("path", METHODS)
async def test_a_method_that_http_does_not_have(path: str, rig: Rig) -> None:
    check_refusal(await rig.ask("BREW", path, b"{}"), 405, "BREW")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/submit/",
        "/Submit",
        "/job",
        "/job/",
        "/job/1/2",
        "/jobs/1",
        "/é",
        "//",
        "/%ff",
    ],
)
async def test_other_paths_are_not_found(path: str, method: str, rig: Rig) -> None:
    check_refusal(await rig.ask(method, path, b"{}"), 404, "no such route", path)


async def test_head_of_nothing(rig: Rig) -> None:
    assert (await rig.ask("HEAD", "/nothing")).status == 404


# Bounds of bodies


async def test_a_body_of_just_the_bound_is_taken(start_master: StartMaster) -> None:
    rig = await start_master(body_bytes_max=1_000)
    assert (await rig.post("/submit", padded(1_000))).status == 200


@pytest.mark.parametrize("path", ["/submit", "/worker"])
async def test_a_body_too_large_by_its_length(path: str, start_master: StartMaster) -> None:
    rig = await start_master(body_bytes_max=1_000)
    check_refusal(await rig.post(path, padded(1_001)), 413, "1000 bytes", "body_bytes_max")
    assert (await rig.get("/jobs")).json == []


@pytest.mark.parametrize("path", ["/submit", "/worker"])
async def test_a_body_too_large_in_chunks(path: str, start_master: StartMaster, dial: Dial) -> None:
    rig = await start_master(body_bytes_max=1_000)
    line = await dial(rig.port)
    await line.send(chunked(path, *[b" " * 100] * 10, b"{", b"}"))
    reply = await line.read()
    assert reply is not None
    check_refusal(reply, 413, "1000 bytes", "body_bytes_max")


async def test_a_body_in_chunks_of_just_the_bound_is_taken(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(body_bytes_max=1_000)
    body = padded(1_000)
    line = await dial(rig.port)
    await line.send(chunked("/submit", *(body[start : start + 7] for start in range(0, 1_000, 7))))
    reply = await line.read()
    assert reply is not None
    assert reply.status == 200


def post_with_the_standard_library(port: int, path: str, body: object) -> int:
    """The status of a reply that is read once all has been sent, as by simple clients."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("POST", path, body=body)
        return connection.getresponse().status
    finally:
        connection.close()


def whole() -> bytes:
    return b" " * 20_000_000


def in_parts() -> object:
    return (b" " * 100_000 for _ in range(200))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/submit", whole, 413),
        ("/submit", in_parts, 413),
        ("/nothing", whole, 404),
        ("/nothing", in_parts, 404),
        ("/health", whole, 405),
        ("/health", in_parts, 405),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
async def test_a_client_that_sends_far_too_much_reads_the_refusal(
    path: str, body: Callable[[], object], status: int, start_master: StartMaster
) -> None:
    """A connection reset would look like a fault of the network."""
    rig = await start_master(body_bytes_max=1_000)
    post = post_with_the_standard_library
    assert await asyncio.to_thread(post, rig.port, path, body()) == status


async def test_a_client_that_asks_before_it_sends_too_much_is_refused_at_once(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(body_bytes_max=1_000)
    line = await dial(rig.port)
    fields = {"Host": HOST, "Content-Length": 10**9, "Expect": "100-continue"}
    await line.send(head("POST /submit HTTP/1.1", fields))
    reply = await line.read()
    assert reply is not None
    check_refusal(reply, 413)


async def test_a_client_that_asks_before_it_sends_may_continue(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    fields = {"Host": HOST, "Content-Length": SIZE, "Expect": "100-continue"}
    await line.send(head("POST /submit HTTP/1.1", fields))
    go_on = await line.read()
    assert go_on is not None
    assert go_on.status == 100
    await line.send(padded(SIZE))
    reply = await line.read()
    assert reply is not None
    assert reply.status == 200


async def test_more_bodies_at_a_time_than_the_bound(start_master: StartMaster, dial: Dial) -> None:
    """A body is refused while another is being sent; finished bodies count no longer."""
    rig = await start_master(bodies_bytes_max=1_000)
    sending = await dial(rig.port)
    await sending.send(request_bytes("POST", "/submit", padded(700))[:-10])

    async def is_busy() -> bool:
        reply = await rig.post("/submit", padded(700))
        if reply.status == 200:
            return False
        check_refusal(reply, 429, "1000 bytes", "bodies_bytes_max")
        assert int(reply.headers["retry-after"]) >= 1
        return True

    while not await is_busy():
        pass  # The first may have arrived after this one.
    assert (await rig.post("/submit", padded(100))).status == 200
    await sending.send(b" " * 10)
    reply = await sending.read()
    assert reply is not None
    assert reply.status == 200
    assert not await is_busy()


@pytest.mark.parametrize("path", ["/submit", "/worker", "/health", "/nothing"])
async def test_bodies_that_were_refused_or_not_asked_for_count_no_more(
    path: str, start_master: StartMaster
) -> None:
    rig = await start_master(bodies_bytes_max=1_000, body_bytes_max=800)
    for size in (700, 801, 700, 5_000, 700):
        await rig.post(path, b"{".ljust(size))
    assert (await rig.post("/submit", padded(800))).status == 200


async def test_bodies_whose_clients_hung_up_count_no_more(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(bodies_bytes_max=1_000)
    for _ in range(3):
        line = await dial(rig.port)
        await line.send(request_bytes("POST", "/submit", padded(900))[:-10])
        line.close()

    async def all_is_forgotten() -> None:
        while (await rig.post("/submit", padded(1_000))).status != 200:
            pass

    await asyncio.wait_for(all_is_forgotten(), 30)
    await all_else_ends()


@pytest.mark.parametrize("body", [BODY, {"tasks": ["1+2", "3+4"]}], ids=["task", "tasks"])
async def test_a_body_that_has_been_parsed_counts_no_more_while_its_job_is_waited_for(
    body: dict[str, Any], start_master: StartMaster, dial: Dial
) -> None:
    """Waiting clients must not keep out other clients, or workers that announce themselves."""
    rig = await start_master(bodies_bytes_max=1_000)
    line = await dial(rig.port)
    body = json.dumps(body).encode().ljust(990)
    await line.send(request_bytes("POST", "/submit?wait=60", body))
    await until(lambda: len(rig.master.waiters), "it waits")
    await rig.announce(7000)


async def test_a_long_formula_takes_no_memory_while_its_job_is_waited_for(
    rig: Rig, dial: Dial
) -> None:
    """Memory that no longer counts must be free, or waiting requests exceed the bound."""
    size = 8_000_000
    request = request_bytes("POST", "/submit?wait=60", {"task": "1+2".ljust(size)})
    line = await dial(rig.port)
    tracemalloc.start()
    try:
        await line.send(request)
        await until(lambda: len(rig.master.waiters), "it waits")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < size / 4


async def test_nothing_is_left_of_a_body_whose_client_hung_up(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit", padded(900))[:-10])
    await until(lambda: len(asyncio.all_tasks()) > 1, "the request arrives")
    line.close()
    await all_else_ends()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/result", None),
        ("/jobs", None),
        ("/jobs", "k"),
        ("/submit", None),
        ("/tasks", None),
        ("/workers/w/tasks/1/complete", None),
        ("/submit-result", None),
        ("/task_status", None),
    ],
)
async def test_a_client_that_hangs_up_while_its_body_waits_for_its_turn_is_not_refused(
    path: str, key: str | None, rig: Rig, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """Its body is dropped, and is no empty one for that."""
    caplog.set_level("INFO", "dte.master")
    bodies: Budget = rig.application.settings["default_handler_args"]["bodies"]
    line = await dial(rig.port)
    async with bodies.long_ones:
        fields = {"Idempotency_Key": key} if key else {}
        await line.send(request_bytes("POST", path, b"{}".ljust(2_000_000), **fields))
        await until(lambda: bodies.long_ones._waiters, "it waits for its turn")
        line.close()
        await until(lambda: not bodies.bytes, "it is dropped")
    await all_else_ends()
    (message,) = [record.message for record in caplog.records if path in record.message]
    assert message == f"the client closed the connection before its body was read: POST {path}"


# HTTP that is wrong


@pytest.mark.parametrize(
    "length",
    ["-1", "many", "1.5", "0x10", "1, 2", "\xb2", "9" * 5_000],
    ids=lambda length: length[:10],
)
async def test_a_length_that_is_none_is_the_client_s_fault(
    length: str, rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    fields = {"Host": HOST, "Content-Length": length}
    await line.send(head("POST /submit HTTP/1.1", fields) + b"{}")
    start = await line.reader.readline()
    assert start.split()[1] in (b"400", b"413")
    line.close()
    await all_else_ends()


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /jobs\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http_do_no_harm(raw: bytes, rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    await line.send(raw)
    await line.reader.read()
    assert (await rig.get("/health")).status == 200
    line.close()
    await all_else_ends()


async def test_http_1_0_is_answered(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    await line.send(b"GET /jobs HTTP/1.0\r\n\r\n")
    reply = await line.read()
    assert reply is not None
    assert (reply.status, reply.json) == (200, [])
    assert await line.read() is None


async def test_requests_may_come_before_the_last_was_answered(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit", BODY) * 3)
    replies = [await line.read() for _ in range(3)]
    assert [reply and reply.json["job_id"] for reply in replies] == [1, 2, 3]


# Replies


async def test_replies_are_json_and_do_not_name_the_server(rig: Rig) -> None:
    for reply in (await rig.get("/jobs"), await rig.get("/nothing"), await rig.post("/submit")):
        assert reply.headers["content-type"] == "application/json"
        assert "server" not in reply.headers


async def test_a_fault_of_the_master_is_a_500_and_in_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the details, which the client does not see."""

    def fail(count: int) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(rig.master.core.jobs, "newest", fail)
    reply = await rig.get("/jobs")
    assert reply.status == 500
    assert reply.json == {"error": "Internal Server Error", "code": "http"}
    (record,) = caplog.records
    assert record.message == "GET /jobs"
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])
    caplog.clear()
    for _ in range(2 * LINES_MAX):
        await rig.get(f"/jobs?limit={'1' * 300}")
        await rig.get("/jobs")
    faults = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(faults) < LINES_MAX, "a client that asks again and again fills the log"
    caplog.clear()


# Waiting


WAITING = ["/job/1", "/jobs?ids=1", "/submit"]


async def ask_waiting(rig: Rig, path: str, wait: str) -> Message:
    url = f"{path}{'&' if '?' in path else '?'}wait={wait}"
    return await (rig.post(url, BODY) if path == "/submit" else rig.get(url))


@pytest.mark.parametrize("path", WAITING)
@pytest.mark.parametrize(
    ("wait", "code"),
    [
        *((wait, "wait_too_long") for wait in ("5.001", "61", "1e999", "inf")),
        *((wait, "invalid") for wait in ("nan", "-inf", "-1", "-0.001", "soon", "", "1s", "0x1")),
    ],
)
async def test_a_wait_that_is_no_number_within_the_bound_is_refused(
    wait: str, code: str, path: str, start_master: StartMaster
) -> None:
    rig = await start_master(wait_max_s=5.0)
    await rig.submit("1+2")
    reply = await ask_waiting(rig, path, wait)
    check_refusal(reply, 400, "0 to 5 ", "wait_max_s", f"wait={wait}")
    assert reply.json["code"] == code
    if code == "wait_too_long":
        assert reply.json["wait_max_s"] == 5.0
    assert len((await rig.get("/jobs")).json) == 1, "nothing is submitted"


@pytest.mark.parametrize("path", WAITING)
@pytest.mark.parametrize("wait", ["0", "0.0", "1e-3", ".001", "%200.001%20"])
async def test_a_wait_may_be_any_number_within_the_bound(wait: str, path: str, rig: Rig) -> None:
    await rig.submit("1+2")
    assert (await ask_waiting(rig, path, wait)).status == 200


async def test_a_wait_of_just_the_bound_is_taken(start_master: StartMaster) -> None:
    rig = await start_master(wait_max_s=0.01)
    await rig.submit("1+2")
    assert (await ask_waiting(rig, "/job/1", "0.01")).json["finished"] is False


@pytest.mark.parametrize("path", WAITING)
async def test_a_query_that_is_not_utf_8_is_refused(path: str, rig: Rig) -> None:
    check_refusal(await ask_waiting(rig, path, "%ff"), 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/job/1?wait=60", None),
        ("/jobs?ids=1&wait=60", None),
        ("/submit?wait=60", BODY),
        ("/submit?wait=60", {"tasks": ["1+2", "3+4"]}),
    ],
    ids=["a job", "jobs", "task", "tasks"],
)
async def test_nothing_is_left_of_a_client_that_hangs_up_while_it_waits(
    path: str, body: dict[str, Any] | None, rig: Rig, dial: Dial
) -> None:
    await rig.submit("1+2")
    before = len(asyncio.all_tasks())
    line = await dial(rig.port)
    await line.send(request_bytes("POST" if body else "GET", path, body))
    await until(lambda: len(rig.master.waiters), "it waits")
    line.close()
    await until(lambda: not len(rig.master.waiters), "it waits no longer")
    await until(lambda: len(asyncio.all_tasks()) <= before, "its task ends")


async def test_a_client_that_hung_up_does_not_keep_others_from_waiting(
    rig: Rig, dial: Dial, hire: Hire
) -> None:
    number = await rig.submit("1+2")
    lines = [await dial(rig.port) for _ in range(2)]
    for line in lines:
        await line.send(request_bytes("GET", f"/job/{number}?wait=60"))
    await until(lambda: len(rig.master.waiters._by_job.get(number, ())) == 2, "both wait")
    lines[0].close()
    await hire(rig, fakes.good)
    reply = await lines[1].read()
    assert reply is not None
    assert reply.json["answer"] == 3
    await until(lambda: not len(rig.master.waiters), "nobody waits")


async def test_a_request_that_is_cancelled_as_the_master_ends_is_told_so(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master()
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/claim", {"worker": "w", "wait": 20}))
    await until(lambda: rig.master.core.workers(), "the claim is there")
    (request,) = (
        task
        for task in asyncio.all_tasks()
        if str(getattr(task.get_coro(), "__qualname__", "")).endswith("RequestHandler._execute")
    )
    request.cancel()
    reply = await line.read()
    assert reply is not None
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert "shutting down" in reply.json["error"]
    assert reply.headers["retry-after"]
