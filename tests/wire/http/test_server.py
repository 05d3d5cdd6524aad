"""A server for answers that are known at once, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from harness.http import HOST, Dial, Line, PlainClient, head, request_bytes
from harness.until import until
from tornado.netutil import bind_sockets

from dte.wire.http.server import HttpServer, Request

BODY_BYTES_MAX = 1_000_000
MUCH = b"x" * 500_000
SAFE = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
}


class Served:
    """A server that answers with what it was asked, or as it is told.

    Attributes:
        requests: what it was asked.
        left: how many connections the other side has closed.
        error: what happens instead of an answer.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.left = 0
        self.error: Exception | None = None
        self.server = HttpServer(self._answer, BODY_BYTES_MAX, {"/teapot": "POST, OPTIONS"})
        self.server.closed_by_peer = self._leave
        sockets = bind_sockets(0, HOST)
        self.server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]
        self.client = PlainClient(self.port)

    def _answer(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return 418 if request.path == "/teapot" else 200, request.body or b"{}"

    def _leave(self) -> None:
        self.left += 1


Start = Callable[[], Served]


@pytest.fixture
def start(cleanup: AsyncExitStack) -> Start:
    def started() -> Served:
        served = Served()
        cleanup.callback(served.server.stop)
        return served

    return started


async def test_a_request_is_answered(start: Start) -> None:
    served = start()
    reply = await served.client.post("/teapot?short=1", b"[1]")
    assert (reply.status, reply.body) == (418, b"[1]")
    assert reply.start == ["HTTP/1.1", "418", "I'm a Teapot"]
    assert reply.headers == {"content-type": "application/json", "content-length": "3"} | SAFE
    (request,) = served.requests
    assert request[:4] == ("POST", "/teapot", b"[1]", "short=1")
    assert request.headers["content-length"] == "3"


async def test_replies_to_work_of_a_program_with_a_secret_are_short(start: Start) -> None:
    """No page can have such a request sent, and its sender reads many replies."""
    client, secret = start().client, {"Authorization": "Bearer s"}
    reply = await client.post("/work", b"[1]", **secret)
    assert reply.headers == {"content-type": "application/json", "content-length": "3"}
    for method, path in (("GET", "/work"), ("POST", "/teapot")):
        assert SAFE.items() <= (await client.ask(method, path, **secret)).headers.items()


async def test_requests_share_a_connection_and_may_come_together(start: Start, dial: Dial) -> None:
    served = start()
    line: Line = await dial(served.port)
    await line.ask("POST", "/", MUCH)
    await line.send(b"".join(request_bytes("POST", "/", number) for number in range(100)))
    bodies = []
    for _ in range(100):
        reply = await line.read()
        assert reply is not None
        bodies.append(reply.json)
    assert bodies == list(range(100))


async def test_head_is_answered_without_a_body(start: Start, dial: Dial) -> None:
    line: Line = await dial(start().port)
    reply = await line.ask("HEAD", "/")
    assert reply.headers["content-length"] == "2"
    assert (await line.ask("GET", "/")).body == b"{}"


async def test_who_wants_no_more_is_hung_up_on(start: Start, dial: Dial) -> None:
    served = start()
    line: Line = await dial(served.port)
    reply = await line.ask("POST", "/", MUCH, Connection="close")
    assert (reply.body, reply.headers["connection"]) == (MUCH, "close")
    assert await line.read() is None
    assert not served.left, "the other side has not closed it"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
        (request_bytes("POST", "/", Content_Length=2_000_000), 413),
        (request_bytes("GET", "/", X="x" * 70_000), 431),
    ],
)
async def test_what_is_no_request_is_refused(
    raw: bytes, status: int, start: Start, dial: Dial
) -> None:
    served = start()
    line: Line = await dial(served.port)
    await line.send(raw)
    reply = await line.read()
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert reply.body.endswith(b"}\n")
    assert await line.read() is None
    assert not served.requests


async def test_an_answer_that_goes_wrong_is_a_500_and_the_connection_goes_on(
    start: Start, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    served = start()
    line: Line = await dial(served.port)
    served.error = ZeroDivisionError()
    assert (await line.ask("POST", "/compute")).status == 500
    assert "POST /compute" in caplog.text
    served.error = None
    assert (await line.ask("POST", "/compute")).status == 200


async def test_who_does_not_take_the_answers_is_asked_for_nothing_more(
    start: Start, dial: Dial
) -> None:
    served = start()
    line: Line = await dial(served.port)
    line.writer.transport.pause_reading()  # type: ignore[attr-defined]
    line.writer.write(request_bytes("POST", "/", MUCH) * 100)
    other: Line = await dial(served.port)
    before = -1
    while before != len(served.requests):
        before = len(served.requests)
        for _ in range(50):
            await other.ask("GET", "/")
        before += 50
    asked = [request for request in served.requests if request.body]
    assert 0 < len(asked) < 100
    line.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(100):
        reply = await line.read()
        assert reply is not None
        assert reply.body == MUCH


async def test_that_the_other_side_left_is_told(start: Start, dial: Dial) -> None:
    served = start()
    closed, reset = await dial(served.port), await dial(served.port)
    await closed.ask("GET", "/")
    await reset.ask("GET", "/")
    closed.close()
    reset.reset()
    await until(lambda: served.left == 2, "both are told")


async def test_stopping_closes_all_when_what_was_said_is_sent(start: Start, dial: Dial) -> None:
    served = start()
    idle, busy = await dial(served.port), await dial(served.port)
    await idle.ask("GET", "/")
    await busy.send(request_bytes("POST", "/", MUCH))
    await until(lambda: len(served.requests) == 2, "it has arrived")
    served.server.stop()
    reply = await busy.read()
    assert reply is not None
    assert reply.body == MUCH
    assert await busy.read() is None
    assert await idle.read() is None
    assert not served.left
    with pytest.raises(ConnectionRefusedError):
        await served.client.get("/")


# What clients may expect of any server


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_a_client_that_asks_before_it_sends_a_body_is_told_to_go_on(
    expect: str, start: Start, dial: Dial
) -> None:
    line = await dial(start().port)
    for _ in range(2):
        fields = {"Host": HOST, "Content-Length": 3, "Expect": expect}
        await line.send(head("POST /teapot HTTP/1.1", fields))
        interim = await line.read("HEAD")
        assert interim is not None
        assert interim.start == ["HTTP/1.1", "100", "Continue"]
        await line.send(b"[")
        await line.send(b"1]")
        reply = await line.read()
        assert reply is not None
        assert (reply.status, reply.body) == (418, b"[1]")


async def test_a_body_that_comes_unasked_gets_one_reply(start: Start, dial: Dial) -> None:
    line = await dial(start().port)
    reply = await line.ask("POST", "/teapot", b"[1]", Expect="100-continue")
    assert (reply.status, reply.body) == (418, b"[1]")


async def test_a_compressed_body_is_refused_with_the_name_of_its_encoding(start: Start) -> None:
    served = start()
    reply = await served.client.post("/teapot", b"\x1f\x8b", Content_Encoding="gzip")
    assert reply.status == 415
    assert "gzip" in reply.json["error"]
    assert served.requests == []


async def test_options_give_the_methods_of_a_path(start: Start) -> None:
    served = start()
    reply = await served.client.ask("OPTIONS", "/teapot")
    assert (reply.status, reply.headers) == (204, {"allow": "POST, OPTIONS"} | SAFE)
    assert served.requests == []


async def test_options_of_the_server_as_a_whole_give_all_methods(start: Start) -> None:
    reply = await start().client.ask("OPTIONS", "*")
    assert (reply.status, reply.headers) == (204, {"allow": "GET, POST, HEAD, OPTIONS"} | SAFE)


@pytest.mark.parametrize("target", ["/teapot", "http://a:1/teapot?x=1", "/%74eapot"])
async def test_a_target_is_read_in_every_form(target: str, start: Start) -> None:
    served = start()
    assert (await served.client.post(target, b"1")).status == 418
    assert [request.path for request in served.requests] == ["/teapot"]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Content-Encoding": "GZIP"}, "'gzip'"),
        ({"Content-Type": "application/json; charset=utf-16"}, "'utf-16'"),
        ({"Content-Type": 'application/json;charset="latin-1"'}, "'latin-1'"),
    ],
)
async def test_a_body_in_another_encoding_is_refused_by_its_name(
    start: Start, dial: Dial, headers: dict[str, str], named: str
) -> None:
    line: Line = await dial(start().port)
    reply = await line.ask("POST", "/", b"{}", **headers)
    assert reply.status == 415
    assert named in reply.json["error"]
    assert reply.body.endswith(b"}\n")


@pytest.mark.parametrize(
    "headers",
    [{"Content-Encoding": ""}, {"Content-Type": 'application/json; charset="UTF-8"'}],
)
async def test_a_body_in_utf_8_is_taken(start: Start, dial: Dial, headers: dict[str, str]) -> None:
    line: Line = await dial(start().port)
    assert (await line.ask("POST", "/", b"{}", **headers)).status == 200


async def test_a_body_in_many_small_chunks_is_read_before_the_next_request(
    start: Start, dial: Dial
) -> None:
    served = start()
    line: Line = await dial(served.port)
    request = head("POST / HTTP/1.1", {"Host": HOST, "Transfer-Encoding": "chunked"})
    await line.send((request + b"2\r\nxy\r\n" * 20_000 + b"0\r\n\r\n") * 2)
    for _ in range(2):
        reply = await line.read()
        assert reply is not None
        assert reply.body == b"xy" * 20_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b"a: b\r\n" * 101, "there are more than 100 headers"),
        (b"a: %s\r\n" % (b"b" * 20_000), "the headers have more than 16384 bytes"),
        (b"a: b\r\n" * 10_000, "the headers have more than 16384 bytes"),
    ],
    ids=["fields", "bytes", "both"],
)
async def test_a_head_beyond_a_bound_is_refused_with_the_bound(
    fields: bytes, reason: str, start: Start, dial: Dial
) -> None:
    line: Line = await dial(start().port)
    await line.send(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")
    reply = await line.read()
    assert reply is not None
    assert (reply.status, reply.json) == (431, {"error": reason})
