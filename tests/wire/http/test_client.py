from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import pytest
from harness.http import HOST, Conduct, Line, Message, PlainServer, ServePlainly, reply_bytes
from harness.until import until

from dte.master.dispatch.replies import Replies
from dte.wire.http.client import (
    REPLY_BYTES_MAX,
    ConnectionFailed,
    Greeting,
    KeptAliveConnection,
    NotGreeted,
    Reply,
    ReplyRefused,
)
from dte.wire.http.reader import INTERIM_MAX

Connect = Callable[[PlainServer], KeptAliveConnection]


@pytest.fixture
def connect(cleanup: AsyncExitStack) -> Connect:
    def connect_to(server: PlainServer) -> KeptAliveConnection:
        connection = KeptAliveConnection(HOST, server.port)
        cleanup.callback(connection.close)
        return connection

    return connect_to


async def echo(request: Message, line: Line) -> None:
    await line.reply(200, request.body)


def then(*conducts: Conduct) -> Conduct:
    """The first request meets the first conduct, and so on; the last one stays."""
    left = list(conducts)

    async def conduct(request: Message, line: Line) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, line)

    return conduct


def sending(data: bytes, close: bool = False) -> Conduct:
    async def conduct(request: Message, line: Line) -> None:
        await line.send(data)
        if close:
            line.close()

    return conduct


async def ask(connection: KeptAliveConnection, body: bytes = b"1") -> bytes:
    status, _, reply = await connection.request("POST", "/compute", body)
    assert status == 200
    return reply


async def test_a_request_is_plain_http(serve_plainly: ServePlainly, connect: Connect) -> None:
    server = await serve_plainly(sending(reply_bytes(418, b"short", X_Kind="teapot")))
    status, headers, body = await connect(server).request("POST", "/some/path", b'{"a": 1}')
    assert (status, headers["x-kind"], body) == (418, "teapot", b"short")
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/some/path", b'{"a": 1}')
    assert request.headers == {
        "host": f"{HOST}:{server.port}",
        "content-type": "application/json",
        "content-length": "8",
    }


async def test_requests_share_a_connection(serve_plainly: ServePlainly, connect: Connect) -> None:
    server = await serve_plainly(echo)
    connection = connect(server)
    assert [await ask(connection, body) for body in (b"1", b"", b"3" * 200_000)] == [
        b"1",
        b"",
        b"3" * 200_000,
    ]
    assert len(server.lines) == 1


async def test_a_connection_closed_while_idle_is_opened_again(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    """Without a failure: that it was closed is noticed before the next request."""
    server = await serve_plainly(echo)
    connection = connect(server)
    await ask(connection)
    server.lines[0].close()
    await until(lambda: not connection.is_open, "the connection notices")
    assert await ask(connection, b"2") == b"2"
    assert len(server.lines) == 2


async def test_who_wants_to_know_hears_when_an_idle_connection_is_closed(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    """Not when it closes the connection itself."""
    server = await serve_plainly(echo)
    connection = connect(server)
    told: list[bool] = []
    connection.on_close = lambda: told.append(True)
    await ask(connection)
    connection.close()
    await until(lambda: server.lines[0].closed, "it is closed")
    assert not told
    await ask(connection)
    server.lines[1].close()
    await until(lambda: told, "it is told")
    assert told == [True]


@pytest.mark.parametrize(
    "reply",
    [reply_bytes(200, b"1", version="1.0"), reply_bytes(200, b"1", Connection="close")],
    ids=["HTTP/1.0", "Connection: close"],
)
async def test_a_server_that_wants_a_connection_for_each_request_gets_it(
    reply: bytes, serve_plainly: ServePlainly, connect: Connect
) -> None:
    server = await serve_plainly(sending(reply, close=True))
    connection = connect(server)
    assert [await ask(connection) for _ in range(3)] == [b"1"] * 3
    assert len(server.lines) == 3


@pytest.mark.parametrize(
    "reply",
    [
        reply_bytes(200, Content_Length=None, Transfer_Encoding="chunked")
        + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply_bytes(200, b"abcde"),
        reply_bytes(200, b"abcde").replace(b"\r\n", b"\n"),
        b"\r\n" + reply_bytes(200, b"abcde"),
    ],
    ids=["chunked", "after 100 Continue", "bare line ends", "after an empty line"],
)
async def test_other_ways_to_write_a_reply(
    reply: bytes, serve_plainly: ServePlainly, connect: Connect
) -> None:
    server = await serve_plainly(sending(reply))
    connection = connect(server)
    assert [await ask(connection) for _ in range(2)] == [b"abcde"] * 2
    assert len(server.lines) == 1


@pytest.mark.parametrize("replies", [None, Replies()], ids=["alone", "of workers"])
async def test_a_reply_in_many_small_chunks_is_read_while_others_are(
    replies: Replies | None, serve_plainly: ServePlainly, cleanup: AsyncExitStack
) -> None:
    head = reply_bytes(200, Content_Length=None, Transfer_Encoding="chunked")
    server = await serve_plainly(sending(head + b"2\r\nxy\r\n" * 2_000 + b"0\r\n\r\n"))
    connections = [KeptAliveConnection(HOST, server.port, replies) for _ in range(20)]
    for connection in connections:
        cleanup.callback(connection.close)
    bodies = await asyncio.gather(*map(ask, connections))
    assert bodies == [b"xy" * 2_000] * 20
    assert await ask(connections[0]) == b"xy" * 2_000
    assert len(server.lines) == 20


async def test_a_reply_without_a_length_ends_with_its_connection(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    server = await serve_plainly(
        then(sending(reply_bytes(200, Content_Length=None) + b"abcde", close=True), echo)
    )
    connection = connect(server)
    assert await ask(connection) == b"abcde"
    assert await ask(connection, b"2") == b"2"


async def test_nobody_listens(serve_plainly: ServePlainly, connect: Connect) -> None:
    server = await serve_plainly(echo)
    await server.stop()
    with pytest.raises(ConnectionFailed, match=os.strerror(errno.ECONNREFUSED)) as caught:
        await ask(connect(server))
    assert caught.value.refused, "the request cannot have arrived"


async def reset(request: Message, line: Line) -> None:
    line.reset()


async def close(request: Message, line: Line) -> None:
    line.close()


@pytest.mark.parametrize(
    ("conduct", "reason"),
    [
        (reset, os.strerror(errno.ECONNRESET)),
        (close, "closed"),
        (sending(b"HTTP/1.1 20", close=True), "closed"),
        (sending(reply_bytes(200, b"abcde")[:-1], close=True), "closed"),
        (
            sending(
                reply_bytes(200, Content_Length=None, Transfer_Encoding="chunked")
                + b"5\r\nabcde\r\n",
                close=True,
            ),
            "closed",
        ),
        (sending(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "closed"),
        (sending(reply_bytes(200, b"1", Content_Length="1, 2")), "closed"),
        (sending(reply_bytes(200, b"1", Content_Length="many")), "closed"),
        (
            sending(reply_bytes(200, Content_Length=REPLY_BYTES_MAX + 1)),
            f"more than {REPLY_BYTES_MAX} bytes",
        ),
        (sending(reply_bytes(200, b"1", X_Long="x" * 100_000)), "more than 16384 bytes"),
        (sending(reply_bytes(200, b"1", Transfer_Encoding="gzip")), "closed"),
    ],
    ids=[
        "reset",
        "closed",
        "half a first line",
        "half a body",
        "half a chunked body",
        "no HTTP",
        "two lengths",
        "a length in words",
        "a body over the bound",
        "headers over the bound",
        "an unknown encoding",
    ],
)
async def test_no_whole_reply_is_a_failure_and_the_next_request_starts_afresh(
    conduct: Conduct, reason: str, serve_plainly: ServePlainly, connect: Connect
) -> None:
    server = await serve_plainly(then(conduct, echo))
    connection = connect(server)
    with pytest.raises(ConnectionFailed, match=reason) as caught:
        await ask(connection)
    assert not caught.value.refused, "the request may have arrived"
    assert await ask(connection, b"2") == b"2"
    assert len(server.lines) == 2


@pytest.mark.parametrize(
    ("reply", "status", "is_long"),
    [
        (reply_bytes(202, b"x" * 101), 202, True),
        (reply_bytes(200, b"x" * 101, Content_Length=None), 200, True),
        (reply_bytes(200, b"1", X_Long="x" * 20_000), None, False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_MAX + 1), None, False),
    ],
    ids=["length", "no length", "head", "interim"],
)
async def test_a_reply_beyond_what_a_request_allows_is_refused_and_nothing_of_it_is_kept(
    reply: bytes,
    status: int | None,
    is_long: bool,
    serve_plainly: ServePlainly,
    connect: Connect,
) -> None:
    server = await serve_plainly(then(sending(reply), echo))
    connection = connect(server)
    with pytest.raises(ReplyRefused, match="the reply was refused") as caught:
        await connection.request("POST", "/compute", b"1", None, 100)
    assert (caught.value.status, caught.value.is_long) == (status, is_long)
    assert "x" * 10 not in str(caught.value)
    assert connection.held == 0
    assert not connection.is_open
    assert await ask(connection, b"2" * 200_000) == b"2" * 200_000, "it was that request's bound"


async def test_a_reply_to_a_cancelled_request_does_not_answer_the_next(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    may_answer = asyncio.Event()

    async def late(request: Message, line: Line) -> None:
        await may_answer.wait()
        with suppress(ConnectionError):
            await line.reply(200, b"late")

    server = await serve_plainly(then(late, echo))
    connection = connect(server)
    first = asyncio.create_task(ask(connection))
    await until(lambda: server.requests, "the request arrives")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    may_answer.set()
    assert await ask(connection, b"2") == b"2"
    assert len(server.lines) == 2


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_a_reply_nobody_asked_for_does_not_answer_the_next_request(
    at_once: bool, serve_plainly: ServePlainly, connect: Connect
) -> None:
    """It would be taken for the result of another operation."""
    server = await serve_plainly(
        then(sending(reply_bytes(200, b"1") * (2 if at_once else 1)), echo)
    )
    connection = connect(server)
    assert await ask(connection) == b"1"
    if not at_once:
        await server.lines[0].reply(200, b"1")
    assert await ask(connection, b"2") == b"2"


async def test_closing_fails_the_request_under_way(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    async def silence(request: Message, line: Line) -> None:
        pass

    server = await serve_plainly(silence)
    connection = connect(server)
    request = asyncio.create_task(ask(connection))
    await until(lambda: server.requests, "the request arrives")
    connection.close()
    with pytest.raises(ConnectionFailed):
        await request


async def test_closing_twice_or_before_the_first_request_is_nothing(
    serve_plainly: ServePlainly, connect: Connect
) -> None:
    server = await serve_plainly(echo)
    connection = connect(server)
    connection.close()
    assert await ask(connection) == b"1"
    connection.close()
    connection.close()
    assert await ask(connection) == b"1"


# Greetings

RIGHT, WRONG = b"right", "another program answers there"


def greeting() -> Greeting:
    def is_right(reply: Reply) -> bool:
        return reply.body == RIGHT

    return Greeting("/hello", b"who are you?", is_right, WRONG)


@pytest.fixture
def greet(cleanup: AsyncExitStack) -> Connect:
    """Connects to a server that must answer a greeting."""

    def connect_to(server: PlainServer) -> KeptAliveConnection:
        headers = {"Authorization": "Bearer secret"}
        connection = KeptAliveConnection(HOST, server.port, headers=headers, greet=greeting)
        cleanup.callback(connection.close)
        return connection

    return connect_to


async def right(request: Message, line: Line) -> None:
    await line.reply(200, RIGHT)


async def test_a_greeting_comes_before_everything_else_on_a_connection_and_once(
    greet: Connect, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(then(right, echo))
    connection = greet(server)
    for body in (b"1", b"2"):
        assert await ask(connection, body) == body
    assert [each.path for each in server.requests] == ["/hello", "/compute", "/compute"]
    assert [each.headers.get("authorization") for each in server.requests] == [
        None,
        *["Bearer secret"] * 2,
    ]


async def test_each_new_connection_is_greeted(greet: Connect, serve_plainly: ServePlainly) -> None:
    async def conduct(request: Message, line: Line) -> None:
        await line.reply(200, RIGHT)
        if request.path == "/compute":
            line.close()

    server = await serve_plainly(conduct)
    connection = greet(server)
    for _ in range(2):
        await ask(connection)
        await until(lambda: not connection.is_open, "it is closed")
    assert [each.path for each in server.requests] == ["/hello", "/compute"] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        sending(reply_bytes(200, b"wrong")),
        sending(reply_bytes(404, {})),
        sending(reply_bytes(200, b"x" * 2_000)),
    ],
)
async def test_a_program_that_answers_a_greeting_wrongly_gets_nothing_more(
    greet: Connect, serve_plainly: ServePlainly, wrong: Conduct
) -> None:
    server = await serve_plainly(wrong)
    connection = greet(server)
    for _ in range(2):
        with pytest.raises(NotGreeted, match=WRONG) as failed:
            await ask(connection, b"1")
        assert not failed.value.sent
    assert {each.path for each in server.requests} == {"/hello"}


@pytest.mark.parametrize("wrong", [sending(b"", close=True), sending(b"HTTP/1.1 200 OK\r\n\r\nx")])
async def test_a_greeting_without_a_reply_has_sent_nothing_else(
    greet: Connect, serve_plainly: ServePlainly, wrong: Conduct
) -> None:
    server = await serve_plainly(wrong)
    with pytest.raises(ConnectionFailed) as failed:
        await ask(greet(server))
    assert not failed.value.sent
    assert {each.path for each in server.requests} == {"/hello"}


async def test_a_request_is_unsent_until_the_greeting_is_answered(
    greet: Connect, serve_plainly: ServePlainly
) -> None:
    go_on = asyncio.Event()

    async def late(request: Message, line: Line) -> None:
        await go_on.wait()
        await line.reply(200, RIGHT)

    server = await serve_plainly(then(late, echo))
    connection, sent = greet(server), []
    replied = asyncio.create_task(ask(connection, b"1"))
    await until(lambda: server.requests, "the greeting")
    connection.when_sent(lambda: sent.append(True))
    assert connection.unsent > 0
    assert sent == []
    go_on.set()
    assert await replied == b"1"
    assert sent == [True]
    assert connection.unsent == 0


async def test_a_request_that_is_abandoned_during_the_greeting_is_never_sent(
    greet: Connect, serve_plainly: ServePlainly
) -> None:
    async def never(request: Message, line: Line) -> None:
        pass

    server = await serve_plainly(never)
    connection = greet(server)
    replied = asyncio.create_task(ask(connection, b"1"))
    await until(lambda: server.requests, "the greeting")
    replied.cancel()
    with suppress(asyncio.CancelledError):
        await replied
    server.conduct = then(right, echo)
    assert await ask(connection, b"2") == b"2"
    assert [each.body for each in server.requests if each.path == "/compute"] == [b"2"]
