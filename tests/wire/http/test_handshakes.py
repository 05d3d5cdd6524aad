"""Handshakes that fail, take long, or are too many: the others are served."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from harness.certificates import Authority, Pair
from harness.http import HOST, Dial, Line
from harness.tls import ask_tls, open_tls, trusting
from harness.until import until
from tornado.netutil import bind_sockets

from dte.wire.http import handshakes
from dte.wire.http.certificates import ServerTls
from dte.wire.http.server import HttpServer, Request

MUCH = b"x" * 3_000_000


class Secure:
    """A server with TLS that answers with what it was asked."""

    def __init__(self, tls: ServerTls) -> None:
        self.server = HttpServer(self._answer, len(MUCH), tls=tls)
        sockets = bind_sockets(0, HOST)
        self.server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]

    def _answer(self, request: Request) -> tuple[int, bytes]:
        return 200, request.body or b"{}"

    @property
    def under_way(self) -> int:
        """The number of handshakes under way."""
        assert self.server._handshakes is not None
        return len(self.server._handshakes)


Start = Callable[..., Secure]


@pytest.fixture
def start(cleanup: AsyncExitStack, authority: Authority, server_pair: Pair) -> Start:
    def started(client_ca: str = "") -> Secure:
        served = Secure(ServerTls(server_pair.cert, server_pair.key, client_ca))
        cleanup.callback(served.server.stop)
        return served

    return started


async def ended(line: Line) -> bytes:
    """What a server sent before it closed or reset a connection."""
    try:
        async with asyncio.timeout(20):
            return await line.reader.read()
    except ConnectionError:
        return b""


async def test_many_requests_are_served_on_one_connection(
    start: Start, authority: Authority
) -> None:
    line = await open_tls(start().port, trusting(authority))
    for body in (b"{}", MUCH, b"[1]", MUCH):
        assert (await line.ask("POST", "/", body)).body == body
    line.close()


async def test_plain_http_is_told_to_use_tls_and_logged_once(
    start: Start, authority: Authority, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    served = start()
    for _ in range(3):
        line = await dial(served.port)
        reply = await line.ask("POST", "/submit", b"x" * 100_000)
        assert reply.status == 400
        assert "https://" in reply.json["error"]
        assert await ended(line) == b""
    assert len([text for text in caplog.messages if "does not speak TLS" in text]) == 1
    assert (await ask_tls(served.port, trusting(authority), "GET", "/")).status == 200


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\x16\x03\x01" + b"\xff" * 500, b"\x16", b""])
async def test_garbage_costs_nobody_anything(
    start: Start, authority: Authority, dial: Dial, garbage: bytes
) -> None:
    served = start()
    line = await dial(served.port)
    await line.send(garbage)
    line.writer.write_eof()
    await ended(line)
    await until(lambda: not served.under_way, "its handshake has ended")
    assert (await ask_tls(served.port, trusting(authority), "GET", "/")).status == 200


async def test_a_handshake_that_takes_too_long_is_ended(
    start: Start, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.05)
    served = start()
    for begun in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
        line = await dial(served.port)
        await line.send(begun)
        await ended(line)
    assert not served.under_way


async def test_beyond_the_bound_the_oldest_handshake_is_ended(
    start: Start, authority: Authority, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKES_MAX", 10)
    served = start()
    lines = [await dial(served.port) for _ in range(20)]
    for line in lines[:15]:
        await ended(line)
    assert served.under_way == 5
    assert (await ask_tls(served.port, trusting(authority), "GET", "/")).status == 200


async def test_one_group_leaves_room_for_the_others(
    authority: Authority,
    server_pair: Pair,
    dial: Dial,
    cleanup: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKES_MAX", 10)
    served = Secure(ServerTls(server_pair.cert, server_pair.key))
    cleanup.callback(served.server.stop)
    assert served.server._handshakes is not None
    served.server._handshakes._group_of = lambda address: str(address[0])
    first = await dial(served.port, source="127.0.0.2")
    lines = [await dial(served.port, source="127.0.0.3") for _ in range(20)]
    for line in lines[:15]:
        await ended(line)
    assert served.under_way == 6
    first.close()


async def test_many_handshakes_at_once_all_succeed(start: Start, authority: Authority) -> None:
    served, context = start(), trusting(authority)
    asked = [ask_tls(served.port, context, "GET", "/") for _ in range(50)]
    assert {reply.status for reply in await asyncio.gather(*asked)} == {200}


async def test_a_client_without_a_certificate_is_not_served_where_one_is_demanded(
    start: Start, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = start(authority.file)
    mine = authority.issue("DNS:shop", file="shop")
    assert (await ask_tls(served.port, trusting(authority, mine), "GET", "/")).status == 200
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    for other in (None, stranger.issue("DNS:shop", file="shop")):
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await ask_tls(served.port, trusting(authority, other), "GET", "/")
    assert not served.under_way


async def test_a_server_that_stops_ends_handshakes(start: Start, dial: Dial) -> None:
    served = start()
    line = await dial(served.port)
    await until(lambda: served.under_way, "its handshake is under way")
    served.server.stop()
    await ended(line)
    assert not served.under_way
