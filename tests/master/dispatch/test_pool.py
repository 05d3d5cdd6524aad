"""Connections to workers: one for each request under way, kept for the next."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from harness.http import HOST, Line, Message, PlainServer, ServePlainly
from harness.until import until
from tornado.ioloop import IOLoop

from dte.master.dispatch.pool import ConnectionPool, Peer
from dte.wire.http.client import ConnectionFailed
from master import fakes


@pytest.fixture
def pool(io_loop: IOLoop, cleanup: AsyncExitStack) -> ConnectionPool:
    pool = ConnectionPool()
    cleanup.callback(pool.close)
    return pool


def peer(server: PlainServer) -> Peer:
    return Peer(f"{HOST}:{server.port}")


async def echo(request: Message, line: Line) -> None:
    await line.reply(200, [request.path, request.json])


async def test_a_reply_is_given_with_its_status(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(echo)
    assert await pool.post(peer(server), "/stop", b"7") == (200, b'["/stop", 7]')
    server.conduct = fakes.replying(503, {"error": "busy"})
    assert await pool.post(peer(server), "/stop", b"7") == (503, b'{"error": "busy"}')


async def test_requests_after_each_other_share_a_connection(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(echo)
    for number in range(5):
        await pool.post(peer(server), "/compute", b"%d" % number)
    assert len(server.lines) == 1


async def test_each_request_under_way_has_a_connection_of_its_own(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    """One that is held for long keeps no other waiting."""
    may_reply = asyncio.Event()
    server = await serve_plainly(fakes.held_until(may_reply, echo))
    held = asyncio.create_task(pool.post(peer(server), "/compute", b"1"))
    await until(lambda: server.requests, "the first arrives")
    server.conduct = echo
    assert await pool.post(peer(server), "/compute", b"2") == (200, b'["/compute", 2]')
    assert not held.done()
    may_reply.set()
    assert await held == (200, b'["/compute", 1]')
    await asyncio.gather(*(pool.post(peer(server), "/compute", b"3") for _ in range(2)))
    assert len(server.lines) == 2, "both are used again"


async def test_a_worker_that_hangs_up_after_each_reply_is_asked_on_new_connections(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(fakes.on_one_connection_each)
    for _ in range(3):
        body = b'{"operation": "sum", "op1": 1, "op2": 2}'
        status, _ = await pool.post(peer(server), "/compute", body)
        assert status == 200
    assert len(server.lines) == 3
    assert not pool._idle


async def test_a_connection_that_the_worker_closes_is_forgotten(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(echo)
    await pool.post(peer(server), "/compute", b"1")
    server.lines[0].close()
    await until(lambda: not pool._idle, "it is forgotten")
    assert (await pool.post(peer(server), "/compute", b"2"))[0] == 200


async def test_a_failure_closes_what_is_idle_to_the_same_process_and_to_no_other(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    """After a reset the others lead to a process that has ended."""
    bad, good = await serve_plainly(echo), await serve_plainly(echo)
    await pool.post(peer(good), "/compute", b"1")
    await asyncio.gather(*(pool.post(peer(bad), "/compute", b"1") for _ in range(2)))
    bad.conduct = fakes.resetting
    with pytest.raises(ConnectionFailed) as failed:
        await pool.post(peer(bad), "/compute", b"2")
    assert (failed.value.sent, failed.value.refused) == (True, False)
    assert list(pool._idle) == [peer(good)]


async def test_nobody_listening_is_told_from_a_break(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(echo)
    await server.stop()
    with pytest.raises(ConnectionFailed) as failed:
        await pool.post(peer(server), "/compute", b"1")
    assert failed.value.refused


async def test_who_gives_up_a_request_closes_its_connection(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    """Its reply would be taken for that of the next request."""
    server = await serve_plainly(fakes.silent)
    request = asyncio.create_task(pool.post(peer(server), "/compute", b"1"))
    await until(lambda: server.requests, "it arrives")
    request.cancel()
    await until(lambda: server.lines[0].closed, "the worker sees it")
    assert not pool._idle


async def test_closing_closes_what_is_idle(
    pool: ConnectionPool, serve_plainly: ServePlainly
) -> None:
    server = await serve_plainly(echo)
    await asyncio.gather(*(pool.post(peer(server), "/compute", b"1") for _ in range(2)))
    pool.close()
    await until(lambda: all(line.closed for line in server.lines), "all are closed")
