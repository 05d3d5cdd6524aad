"""What a route would ignore is refused, and the error names it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dte.master.api.openapi import documentation
from dte.master.api.routes import ROUTES
from master.rig import Rig, StartMaster

DIALECTS = ("queue", "scheduler", "rest")
OWN = [
    (method.upper(), route.path.replace("{id:int}", "1").replace("{file}", "page.css"))
    for route in ROUTES
    for method, function in route.methods()
    if route.shown_section not in DIALECTS and documentation(function) is not None
]


async def refused(rig: Rig, method: str, path: str, body: Any = None) -> str:
    reply = await rig.ask(method, path, body)
    assert (reply.status, reply.json["code"]) == (400, "invalid"), reply.body
    error: str = reply.json["error"]
    return error


# Queries


@pytest.mark.parametrize(("method", "path"), OWN)
async def test_a_query_parameter_that_no_route_knows_is_refused(
    method: str, path: str, rig: Rig
) -> None:
    error = await refused(rig, method, f"{path}?state=failed", {"task": "1"})
    assert error.startswith(f"unknown query parameter 'state'; {method} {path} takes ")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/jobs?limit=1", "GET /jobs takes ids and wait"),
        ("/health?verbose", "GET /health takes none"),
        ("/job/1?wiat=5", "did you mean 'wait'?"),
        ("/job/1?Wait=5", "did you mean 'wait'?"),
        ("/jobs?id=1", "did you mean 'ids'?"),
        ("/events?lastEventId=1", "did you mean 'last_event_id'?"),
        ("/jobs?ids=1&" + "x" * 500 + "=1", "x'; GET /jobs takes"),
    ],
)
async def test_the_error_says_which_parameter_is_meant(path: str, advice: str, rig: Rig) -> None:
    error = await refused(rig, "GET", path)
    assert advice in error
    assert len(error) < 200


@pytest.mark.parametrize("path", ["/job/1?wait=1&wait=2", "/jobs?ids=1&ids=1", "/jobs?ids=1&ids="])
async def test_a_query_parameter_that_is_given_twice_is_refused(path: str, rig: Rig) -> None:
    assert "is given 2 times; give one" in await refused(rig, "GET", path)


async def test_a_wait_without_jobs_to_wait_for_is_refused(rig: Rig) -> None:
    assert "/jobs?ids=" in await refused(rig, "GET", "/jobs?wait=5")


async def test_an_empty_place_in_the_stream_is_refused(rig: Rig) -> None:
    assert "Last-Event-ID" in await refused(rig, "GET", "/events?last_event_id=")


async def test_a_refused_request_leaves_its_connection_usable(rig: Rig) -> None:
    for _ in range(3):
        await refused(rig, "POST", "/jobs?priority=5", {"handler": "echo"})
    assert (await rig.get("/jobs")).json == []


async def test_the_dialects_ignore_what_their_servers_ignore(rig: Rig) -> None:
    assert (await rig.ask("GET", "/stats?pretty=1")).status == 200
    assert (await rig.ask("GET", "/status?x=1&x=2")).status == 200
    assert (await rig.ask("GET", "/workers?state=idle")).status == 200
    twice = b'{"task": "9+9", "task": "1+2"}'
    assert (await rig.post("/submit?wait=0", twice)).status == 200
    twice = b'{"worker_id": "a", "worker_id": "w"}'
    assert (await rig.post("/heartbeat", twice)).status == 200


# Names that are given twice


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (
            "/jobs",
            b'{"graph": {"mail": {"handler": "echo"}, "mail": {"handler": "echo"}}}',
            '"mail" is given twice in graph',
        ),
        (
            "/jobs",
            b'{"graph": {"a": {"handler": "echo"}, "\\u0061": {"handler": "echo"}}}',
            '"a" is given twice in graph',
        ),
        ("/jobs", b'{"handler": "echo", "handler": "primes"}', '"handler" is given twice'),
        (
            "/jobs",
            b'{"graph": {"a": {"handler": "echo", "args": [1], "args": [2]}}}',
            '"args" is given twice in graph.a',
        ),
        (
            "/jobs",
            b'{"handler": "primes", "args": {"limit": 1, "limit": 2}}',
            '"limit" is given twice in args',
        ),
        (
            "/jobs",
            b'{"handler": "echo", "args": [{"deep": [{"x": 1, "x": 2}]}]}',
            '"x" is given twice in args[0].deep[0]',
        ),
        (
            "/jobs",
            b'{"jobs": [{"formula": "1"}, {"formula": "1", "formula": "2"}]}',
            '"formula" is given twice in jobs[1]',
        ),
        ("/worker", b'{"worker_name": "w", "port": 1, "port": 2}', '"port" is given twice'),
        ("/claim", b'{"worker": "w", "handlers": {"a": {}, "a": {}}}', "twice in handlers"),
        ("/extend", b'{"worker": "w", "leases": [1], "leases": []}', '"leases" is given twice'),
        ("/result", b'{"worker": "w", "results": [], "results": []}', '"results" is given twice'),
    ],
)
async def test_a_name_that_is_given_twice_is_refused(
    path: str, body: bytes, error: str, rig: Rig
) -> None:
    assert error in await refused(rig, "POST", path, body)
    assert (await rig.get("/jobs")).json == []
    assert (await rig.get("/worker")).json == []


async def test_a_node_that_is_given_twice_among_many_is_refused(rig: Rig) -> None:
    nodes = [f'"n{n % 7_999}": {{"handler": "echo", "args": [{n}]}}' for n in range(8_000)]
    body = f'{{"graph": {{{", ".join(nodes)}}}}}'.encode()
    assert await refused(rig, "POST", "/jobs", body) == '"n0" is given twice in graph'


async def test_results_of_workers_are_passed_on_as_they_are(rig: Rig) -> None:
    report = b'{"worker": "w", "results": [{"lease": 7, "result": {"a": 1, "a": 2}}]}'
    reply = await rig.post("/result", report)
    assert (reply.status, reply.json["stale"]) == (200, [7])


async def test_names_are_compared_before_anything_is_accepted(start_master: StartMaster) -> None:
    rig = await start_master()
    body = b'{"jobs": [{"formula": "1+1"}, {"formula": "2", "priority": 1, "priority": 2}]}'
    await refused(rig, "POST", "/jobs", body)
    assert (await rig.get("/jobs")).json == []


# Bodies that nothing reads


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/job/1/cancel"),
        ("POST", "/job/1/retry"),
        ("GET", "/jobs"),
        ("GET", "/job/1"),
        ("GET", "/health"),
    ],
)
async def test_a_body_is_refused_where_none_is_read(method: str, path: str, rig: Rig) -> None:
    error = await refused(rig, method, path, {"reason": "too late"})
    assert error == f"{method} {path} takes no body"


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b"null"])
async def test_a_body_that_says_nothing_is_taken_where_none_is_read(body: bytes, rig: Rig) -> None:
    assert (await rig.ask("POST", "/job/1/cancel", body)).status == 404
    assert (await rig.ask("GET", "/health", body)).status == 200


# A mark before the text


async def test_the_mark_that_editors_write_before_utf8_is_no_part_of_a_body(rig: Rig) -> None:
    for path, body in (("/submit", {"task": "7"}), ("/jobs", {"formula": "7"})):
        reply = await rig.post(path, b"\xef\xbb\xbf" + json.dumps(body).encode())
        assert reply.json["finished"], reply.body


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("/submit-task", b'{"a":', "the JSON ends too soon (line 1, column 6)"),
        ("/jobs", b'{"handler": "echo", "args": [NaN]}', "NaN is not a finite number"),
    ],
)
async def test_broken_json_is_named_in_our_own_words(
    path: str, body: bytes, fault: str, rig: Rig
) -> None:
    reply = await rig.post(path, body)
    assert reply.status == 400
    assert reply.json["error"].startswith(fault)
