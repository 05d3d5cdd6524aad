"""A reply is whole, or none, or nonsense; the accounting must not take one for the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from harness.machine import HOST

from torture.chaos.plain_http import Garbled, NoReply, Reply, request

Serve = Callable[[bytes], Awaitable[int]]


@pytest.fixture
def serve(cleanup: AsyncExitStack) -> Serve:
    """Starts a server that sends some bytes and closes, and gives its port."""

    async def start(raw: bytes) -> int:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, HOST, 0)
        cleanup.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    return start


def reply(content: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, content)


async def test_a_whole_reply_is_read(serve: Serve) -> None:
    port = await serve(reply(b'{"a": 5.0}', 10))
    assert await request(port, "GET", "/") == Reply(200, {"a": 5.0})


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nCont", reply(b'{"a": 5', 10)])
async def test_a_part_of_a_reply_is_none(serve: Serve, raw: bytes) -> None:
    port = await serve(raw)
    with pytest.raises(NoReply):
        await request(port, "GET", "/")


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
    serve: Serve, raw: bytes
) -> None:
    port = await serve(raw)
    with pytest.raises(Garbled):
        await request(port, "GET", "/")


async def test_silence_is_no_reply(cleanup: AsyncExitStack) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, HOST, 0)
    cleanup.callback(server.close)
    with pytest.raises(NoReply):
        await request(server.sockets[0].getsockname()[1], "GET", "/", timeout_s=0.1)
