"""A reply is whole, or none, or nonsense; an accounting must not take one for the other."""

from __future__ import annotations

import pytest

from harness.http import Conduct, Line, Malformed, Message, NoReply, ServePlainly, body_of, exchange


def sending(raw: bytes) -> Conduct:
    """Answers with some bytes, and closes."""

    async def conduct(_: Message, line: Line) -> None:
        await line.send(raw)
        line.close()

    return conduct


def reply(content: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, content)


async def test_a_whole_reply_is_read(serve_plainly: ServePlainly) -> None:
    server = await serve_plainly(sending(reply(b'{"a": 5.0}', 10)))
    found = await exchange(server.port, "GET", "/")
    assert (found.status, found.json) == (200, {"a": 5.0})


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nCont", reply(b'{"a": 5', 10)])
async def test_a_part_of_a_reply_is_none(serve_plainly: ServePlainly, raw: bytes) -> None:
    server = await serve_plainly(sending(raw))
    with pytest.raises(NoReply):
        await exchange(server.port, "GET", "/")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        reply(b'{"a": 5.', 8),
        reply(b"{}{}", 2),
    ],
)
async def test_a_whole_reply_that_is_no_http_with_json_is_nonsense(
    serve_plainly: ServePlainly, raw: bytes
) -> None:
    server = await serve_plainly(sending(raw))
    with pytest.raises(Malformed):
        await exchange(server.port, "GET", "/")


async def test_silence_is_no_reply(serve_plainly: ServePlainly) -> None:
    async def say_nothing(_: Message, line: Line) -> None:
        await line.reader.read()

    server = await serve_plainly(say_nothing)
    with pytest.raises(NoReply):
        await exchange(server.port, "GET", "/", timeout_s=0.1)


@pytest.mark.parametrize(
    ("received", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (reply(b"ab", 3), None),
        (reply(b"abc", 3), b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_a_body_is_there_when_it_is_whole(received: bytes, body: bytes | None) -> None:
    assert body_of(received) == body
