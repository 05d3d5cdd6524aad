"""What the connections to a server may take together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from harness.http import HOST, Dial
from harness.until import until
from tornado.netutil import bind_sockets

from dte.wire.http.crowd import Crowd
from dte.wire.http.server import HttpServer, InSlices, Request

BODY_BYTES_MAX = 64_000_000
PART = b"x" * 1_000_000
HEAD = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"


class Peer:
    """A connection whose conduct a test decides."""

    def __init__(self, crowd: Crowd, held: int = 0) -> None:
        self.crowd = crowd
        self.held = held
        self.has_asked = self.is_at_work = self.is_over = self.closed = False
        self.receives = True

    def receive(self, receives: bool) -> None:
        self.receives = receives

    def close(self) -> None:
        self.closed = True
        self.crowd.leave(self)

    def hold(self, count: int) -> None:
        self.held += count
        self.crowd.moved(self, count)


async def test_at_the_bound_a_connection_that_asked_nothing_gives_way_first() -> None:
    crowd = Crowd(connections_max=3)
    asked, silent, newer = (Peer(crowd) for _ in range(3))
    for peer in (asked, silent, newer):
        assert crowd.enter(peer)
    asked.has_asked = True
    assert crowd.enter(Peer(crowd))
    assert [each.closed for each in (asked, silent, newer)] == [False, True, False]


async def test_then_the_one_that_has_been_quiet_for_longest_gives_way() -> None:
    crowd = Crowd(connections_max=3)
    peers = [Peer(crowd) for _ in range(3)]
    for peer in peers:
        peer.has_asked = True
        assert crowd.enter(peer)
    crowd.asked(peers[0])
    assert crowd.enter(Peer(crowd))
    assert [each.closed for each in peers] == [False, True, False]


async def test_a_new_one_is_refused_where_all_are_in_the_midst_of_something() -> None:
    crowd = Crowd(connections_max=2)
    for _ in range(2):
        peer = Peer(crowd)
        peer.has_asked = True
        assert crowd.enter(peer)
        peer.hold(10)
    assert not crowd.enter(Peer(crowd))


async def test_beyond_the_bytes_only_the_first_goes_on_until_there_is_room() -> None:
    crowd = Crowd(bytes_max=100)
    first, second, third = (Peer(crowd) for _ in range(3))
    for peer in (first, second, third):
        crowd.enter(peer)
    first.hold(90)
    second.hold(20)
    first.hold(90)
    third.hold(10)
    assert [each.receives for each in (first, second, third)] == [True, False, False]
    first.held = 0
    crowd.completed(first)
    assert second.receives
    second.held = 0
    crowd.completed(second)
    assert third.receives


async def test_where_bytes_are_short_what_has_stalled_is_closed() -> None:
    crowd = Crowd(bytes_max=100)
    first, second = Peer(crowd), Peer(crowd)
    for peer in (first, second):
        crowd.enter(peer)
    first.hold(90)
    second.hold(20)
    await until(lambda: first.closed, "it has stalled")
    assert second.receives
    assert not second.closed


async def test_what_is_slow_is_closed_and_what_is_being_answered_is_not() -> None:
    crowd = Crowd(slow_s=0.2)
    slow, working = Peer(crowd), Peer(crowd)
    working.is_at_work = True
    for peer in (working, slow):
        crowd.enter(peer)
        peer.hold(10)
    await until(lambda: slow.closed, "it is slow")
    assert not working.closed


# Over real sockets


class Served:
    """A server that answers in slices where it is asked for that."""

    def __init__(self, crowd: Crowd) -> None:
        self.slices = 0
        self.most_waiting = 0
        self.crowd = crowd
        self.server = HttpServer(self._answer, BODY_BYTES_MAX, crowd=crowd)
        sockets = bind_sockets(0, HOST)
        self.server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]

    def _answer(self, request: Request) -> tuple[int, bytes] | InSlices:
        return self._in_slices() if request.path == "/slices" else (200, b"{}")

    def _in_slices(self) -> InSlices:
        for _ in range(20):
            self.slices += 1
            yield
        return 200, b'"made"'


Start = Callable[..., Served]


@pytest.fixture
def start(cleanup: AsyncExitStack) -> Start:
    def started(**bounds: float) -> Served:
        served = Served(Crowd(**bounds))  # type: ignore[arg-type]
        cleanup.callback(served.server.stop)
        return served

    return started


async def test_an_answer_in_slices_comes_between_others(start: Start, dial: Dial) -> None:
    served = start()
    long, short = await dial(served.port), await dial(served.port)
    await long.send(b"POST /slices HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\n\r\n")
    await until(lambda: served.slices > 1, "it is being made")
    await short.send(b"GET / HTTP/1.1\r\n\r\n")
    reply = await short.read()
    assert reply is not None
    assert reply.body == b"{}"
    for body in (b'"made"', b"{}"):
        reply = await long.read()
        assert reply is not None
        assert reply.body == body


async def test_many_requests_in_one_packet_are_answered_in_their_order(
    start: Start, dial: Dial
) -> None:
    served = start()
    line = await dial(served.port)
    await line.send(b"GET / HTTP/1.1\r\n\r\nGET /slices HTTP/1.1\r\n\r\n" * 500)
    for number in range(1_000):
        reply = await line.read()
        assert reply is not None
        assert reply.body == (b'"made"' if number % 2 else b"{}")


async def test_a_server_that_stops_sends_the_answer_that_is_being_made(
    start: Start, dial: Dial
) -> None:
    served = start()
    line = await dial(served.port)
    await line.send(b"POST /slices HTTP/1.1\r\n\r\n")
    await until(lambda: served.slices > 1, "it is being made")
    served.server.stop()
    reply = await line.read()
    assert reply is not None
    assert reply.body == b'"made"'


async def test_bodies_that_never_end_do_not_fill_the_memory_nor_keep_others_away(
    start: Start, dial: Dial
) -> None:
    served = start(bytes_max=3_000_000)
    for _ in range(8):
        line = await dial(served.port)
        line.writer.write(HEAD % 50_000_000 + PART * 2)
    other = await dial(served.port)
    other.writer.write(HEAD % len(PART) + PART)
    reply = await other.read()
    assert reply is not None
    assert reply.status == 200
    assert served.crowd._bytes < 5_000_000


async def test_silent_connections_keep_nobody_away(start: Start, dial: Dial) -> None:
    served = start(connections_max=5)
    first = await dial(served.port)
    await first.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await first.read() is not None
    for _ in range(30):
        await dial(served.port)
    await asyncio.sleep(0)
    for line in (first, await dial(served.port)):
        await line.send(b"GET / HTTP/1.1\r\n\r\n")
        reply = await line.read()
        assert reply is not None
        assert reply.status == 200
