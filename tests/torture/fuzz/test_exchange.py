"""Replies that are wrong are found, and those that are right are not."""

from __future__ import annotations

import pytest
from harness.http import Conduct, Line, Message, ServePlainly
from torture.fuzz import calls, forms
from torture.fuzz.exchange import Exchange, play
from torture.fuzz.scripts import MASTER, READ, WORKER, Request, Script


def script_of(*requests: Request, target: str = MASTER) -> Script:
    return Script(target, requests, pipelined=False, ending=READ)


GOOD = Request("GET", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", clean=True)
BAD = Request("", b"\0\r\n\r\n", clean=False)


def replying(status: int, body: object, **headers: str) -> Conduct:
    async def conduct(_: Message, line: Line) -> None:
        await line.reply(status, body, **headers)

    return conduct


async def hanging_up(_: Message, line: Line) -> None:
    line.close()


@pytest.mark.parametrize(
    ("conduct", "fault"),
    [
        (replying(500, {"error": "Internal Server Error", "code": "http"}), "server's own fault"),
        (replying(502, {"error": "a", "code": "b"}), "server's own fault"),
        (replying(503, {"error": "a"}), "without ErrorReply"),
        (replying(304, None), "is not expected"),
        (replying(400, {"error": "a"}), "without ErrorReply"),
        (replying(400, {"error": "", "code": "a"}), "without error"),
        (replying(400, ["error", "code"]), "without ErrorReply"),
        (replying(201, {"status": "ok"}), "is not documented"),
        (replying(400, b""), "without JSON"),
        (replying(404, b"<html>", Content_Type="text/html"), "as text/html"),
        (replying(200, b'{"status": NaN'), "without JSON"),
        (hanging_up, "hung up without a reply"),
    ],
)
async def test_a_master_that_answers_badly_is_found(
    serve_plainly: ServePlainly, conduct: Conduct, fault: str
) -> None:
    server = await serve_plainly(conduct)
    (found,) = (await play(script_of(GOOD), server.port)).faults
    assert fault in found


@pytest.mark.parametrize(
    ("conduct", "fault"),
    [
        (replying(500, {"error": "division by zero"}), "without an operation"),
        (replying(500, b""), "without JSON"),
        (replying(503, {"error": "a"}), "is not expected"),
        (replying(400, {"reason": "a"}), "without error"),
    ],
)
async def test_a_worker_that_answers_badly_is_found(
    serve_plainly: ServePlainly, conduct: Conduct, fault: str
) -> None:
    server = await serve_plainly(conduct)
    (found,) = (await play(script_of(GOOD, target=WORKER), server.port)).faults
    assert fault in found


@pytest.mark.parametrize(
    ("requests", "conduct"),
    [
        ((GOOD, GOOD), replying(200, {"status": "ok"})),
        ((GOOD,), replying(503, {"error": "a", "code": "unavailable"})),
        ((GOOD,), replying(507, {"error": "a", "code": "storage_full"})),
        ((BAD,), replying(400, b"")),
        ((BAD,), hanging_up),
    ],
)
async def test_a_master_that_answers_well_is_no_fault(
    serve_plainly: ServePlainly, requests: tuple[Request, ...], conduct: Conduct
) -> None:
    server = await serve_plainly(conduct)
    exchange: Exchange = await play(script_of(*requests), server.port)
    assert not exchange.faults
    assert exchange.requests == len(requests)


# Dialects and streams, each in the form of its route


def asking(method: str, path: str) -> Request:
    return Request(method, f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), clean=True)


TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("request_", "conduct", "fault"),
    [
        (asking("GET", "/tasks/x"), replying(404, b"no\n", Content_Type=TEXT), None),
        (asking("BREW", "/tasks/x?a"), replying(405, b"no\n", Content_Type=TEXT), None),
        (asking("GET", "/tasks/x"), replying(404, b"", Content_Type=TEXT), "without a text"),
        (asking("GET", "/tasks/x"), replying(404, {"error": "a", "code": "b"}), "as application"),
        (asking("PUT", "/add_task"), replying(405, {"detail": "no"}), None),
        (asking("PUT", "/add_task"), replying(405, {"detail": ""}), "without detail"),
        (asking("PUT", "/add_task"), replying(405, {"error": "a", "code": "b"}), "without Refused"),
        (asking("POST", "/add_task"), replying(422, {"detail": []}), "without detail"),
        (asking("GET", "/task/1"), replying(404, {"status": "error", "message": "no"}), None),
        (asking("GET", "/task/1"), replying(404, {"error": "a", "code": "b"}), "without Missing"),
        (asking("PUT", "/workers/w/heartbeat"), replying(204, None, Content_Type=None), None),
        (asking("PUT", "/workers/w/heartbeat"), replying(204, b"x"), "with a body"),
        (asking("GET", "/nowhere"), replying(404, b"no\n", Content_Type=TEXT), "as text/plain"),
    ],
)
async def test_a_reply_is_judged_by_the_form_of_its_route(
    serve_plainly: ServePlainly, request_: Request, conduct: Conduct, fault: str | None
) -> None:
    server = await serve_plainly(conduct)
    faults = (await play(script_of(request_), server.port)).faults
    assert [fault in each for each in faults] == ([] if fault is None else [True])


def streaming(block: bytes) -> Conduct:
    async def conduct(_: Message, line: Line) -> None:
        head = {"Content_Type": "text/event-stream", "Content_Length": None}
        await line.reply(200, block, **head)
        if not block:
            line.close()

    return conduct


@pytest.mark.parametrize(
    ("block", "is_good"),
    [(b"retry: 1000\nid: 7\n\nevent: job\n", True), (b"event: job\n\n", False), (b"", False)],
)
async def test_of_a_stream_the_beginning_is_read(
    serve_plainly: ServePlainly, block: bytes, is_good: bool
) -> None:
    server = await serve_plainly(streaming(block))
    exchange = await play(script_of(asking("GET", "/events")), server.port)
    assert [fault.partition(" with ")[0] for fault in exchange.faults] == (
        [] if is_good else ["a stream begins"]
    )


async def test_what_replies_name_is_asked_for(serve_plainly: ServePlainly) -> None:
    server = await serve_plainly(
        replying(201, b'{"job_id":5,"calls":[{"lease":6789,"job_id":345}]}')
    )
    body = b'{"leases": [%s]}' % calls.LEASE.encode()
    head = f"POST /job/{calls.JOB}/cancel HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    named = Request("POST", head.encode() + body, clean=True)
    await play(script_of(asking("POST", "/jobs"), named), server.port)
    second = server.requests[1]
    assert second.path == f"/job/{345:018}/cancel"
    assert second.json == {"leases": [6789]}


@pytest.mark.parametrize(
    ("raw", "taken"),
    [
        (b"GET /health?state=failed HTTP/1.1\r\nHost: a\r\n\r\n", "does not know"),
        (b"GET /jobs?ids=1&ids=1 HTTP/1.1\r\nHost: a\r\n\r\n", "a query parameter twice"),
        (b'POST /jobs HTTP/1.1\r\n\r\n{"graph": {"a": {}, "\\u0061": {}}}', "a name twice"),
        (b"GET /jobs?ids=1&wait=0 HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET /stats?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b'POST /submit HTTP/1.1\r\n\r\n{"task": "1", "task": "2"}', None),
        (b'POST /jobs HTTP/1.1\r\n\r\n{"graph": {"a": {"a": 1}}}', None),
    ],
)
def test_what_a_route_must_not_ignore_is_known(raw: bytes, taken: str | None) -> None:
    found = forms.ignored(raw)
    assert found == taken or (found is not None and taken is not None and taken in found)
