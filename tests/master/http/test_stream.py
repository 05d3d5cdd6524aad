from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from harness.until import until
from tornado.iostream import StreamClosedError

from dte.master.http.meters import Budget
from dte.master.http.stream import (
    BODY_S,
    SENT_A_TURN,
    SLOW_BYTES,
    Awaited,
    BoundedStream,
    last_reply,
)

SLOW_S = 10.0


class Ends:
    """A connection whose one end is the master's stream, and whose other is the client's socket."""

    def __init__(self) -> None:
        mine, self.client = socket.socketpair()
        self.client.setblocking(False)
        self.replies = Budget("replies_bytes_max", 1_000, 1)
        self.closed: list[BoundedStream] = []
        self.stream = BoundedStream(mine, self.replies, self.closed.append)

    async def take(self, count: int) -> bytes:
        """Take so many bytes as the client."""
        taken = b""
        while len(taken) < count:
            taken += await asyncio.get_running_loop().sock_recv(self.client, count - len(taken))
        return taken


@pytest.fixture
def ends(cleanup: AsyncExitStack) -> Callable[[], Ends]:
    def opened() -> Ends:
        both = Ends()
        cleanup.callback(both.stream.close)
        cleanup.callback(both.client.close)
        return both

    return opened


# What is sent


async def test_what_the_client_has_not_taken_is_counted(ends: Callable[[], Ends]) -> None:
    both = ends()
    size = 5_000_000
    both.stream.write(bytes(size))
    assert 0 < both.stream.unsent == both.replies.bytes < size
    await both.take(size)
    assert both.stream.unsent == both.replies.bytes == 0


async def test_what_a_client_that_left_has_not_taken_counts_no_more(
    ends: Callable[[], Ends],
) -> None:
    both = ends()
    both.stream.write(bytes(5_000_000))
    both.client.close()
    await until(both.stream.closed, "it is closed")
    assert both.replies.bytes == 0
    assert both.closed == [both.stream]


async def test_several_streams_are_counted_together(ends: Callable[[], Ends]) -> None:
    one, other = ends(), ends()
    other.stream.replies = one.replies
    for both in (one, other):
        both.stream.write(bytes(5_000_000))
    assert one.replies.bytes == one.stream.unsent + other.stream.unsent
    one.stream.close()
    assert one.replies.bytes == other.stream.unsent


async def test_nothing_is_counted_for_a_stream_that_is_closed(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.stream.close()
    with pytest.raises(StreamClosedError):
        await both.stream.write(b"x")
    both.stream.close()
    assert both.replies.bytes == 0
    assert both.closed == [both.stream]


async def test_parts_arrive_whole_and_in_order(ends: Callable[[], Ends]) -> None:
    both = ends()
    parts = [b"head", *(bytes([number]) * 700_000 for number in range(10)), b"", b"end"]
    last = [both.stream.write(part) for part in parts][-1]
    assert await both.take(sum(map(len, parts))) == b"".join(parts)
    await last


async def test_in_a_turn_of_the_loop_a_stream_is_sent_no_more_than_a_part(
    ends: Callable[[], Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast its client is, and in however many parts the reply is written."""
    both = ends()
    sent: list[int] = []

    def send(data: memoryview) -> int:
        sent.append(len(data))
        return len(data)

    both.stream.socket.close()
    monkeypatch.setattr(both.stream, "socket", both.client)
    monkeypatch.setattr("tornado.iostream.IOStream.write_to_fd", lambda self, data: send(data))
    for _ in range(5):
        both.stream.write(bytes(1_000_000))
    assert sum(sent) == SENT_A_TURN
    await until(lambda: both.stream.unsent == 0, "all is sent")
    assert sum(sent) == 5_000_000
    assert max(sent) == SENT_A_TURN


# Who is too slow


async def test_a_client_that_does_not_take_its_reply_is_too_slow(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.stream.await_now(Awaited.NOTHING)
    both.stream.write(bytes(5_000_000))
    assert not both.stream.is_too_slow(100, SLOW_S)
    assert not both.stream.is_too_slow(100 + SLOW_S, SLOW_S)
    assert both.stream.is_too_slow(100.1 + SLOW_S, SLOW_S)


async def test_a_client_that_takes_enough_is_not_too_slow(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.stream.write(bytes(20_000_000))
    for second in range(0, 50, 5):
        assert not both.stream.is_too_slow(second, SLOW_S)
        before = both.stream.unsent
        while before - both.stream.unsent < SLOW_BYTES:
            await both.take(SLOW_BYTES)
            await asyncio.sleep(0)


async def test_one_that_takes_a_byte_now_and_then_is(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.stream.write(bytes(5_000_000))
    slow = []
    for second in range(0, 20, 5):
        await both.take(1)
        slow.append(both.stream.is_too_slow(second, SLOW_S))
    assert slow == [False, False, False, True]


async def test_one_that_has_taken_all_is_not(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.stream.await_now(Awaited.NOTHING)
    both.stream.write(b"reply")
    assert not any(both.stream.is_too_slow(second, SLOW_S) for second in range(0, 1_000, 5))


@pytest.mark.parametrize("awaited", [Awaited.HEAD, Awaited.BODY])
async def test_one_that_sends_a_byte_now_and_then_is(
    awaited: Awaited, ends: Callable[[], Ends]
) -> None:
    both = ends()
    both.stream.await_now(awaited)
    never = both.stream.read_bytes(10**6)
    slow = []
    for second in range(0, 20, 5):
        both.client.send(b"x")
        moved = both.stream._moved
        await until(lambda moved=moved: both.stream._moved > moved, "it arrives")
        slow.append(both.stream.is_too_slow(second, SLOW_S))
    assert slow == [False, False, False, True]
    both.stream.close()
    with pytest.raises(StreamClosedError):
        await never


async def test_one_that_is_idle_or_waits_for_its_reply_is_not(ends: Callable[[], Ends]) -> None:
    both = ends()
    for awaited in (Awaited.HEAD, Awaited.NOTHING):
        both.stream.await_now(awaited)
        assert not any(both.stream.is_too_slow(second, SLOW_S) for second in range(0, 1_000, 5))


async def test_a_body_has_to_be_there_in_the_end(ends: Callable[[], Ends]) -> None:
    """However much of it comes."""
    both = ends()
    both.stream.await_now(Awaited.BODY)
    now = time.monotonic()
    assert not both.stream.is_too_slow(now, 1e9)
    assert both.stream.is_too_slow(now + BODY_S + 1, 1e9)


async def test_each_request_has_time_of_its_own(ends: Callable[[], Ends]) -> None:
    both = ends()
    for second in range(0, 1_000, 5):
        both.stream.await_now(Awaited.NOTHING)
        both.stream.await_now(Awaited.HEAD)
        both.client.send(b"x")
        await both.stream.read_bytes(1)
        assert not both.stream.is_too_slow(second, SLOW_S)


# Last words


def test_a_last_reply_is_json_and_says_that_it_is_the_last() -> None:
    head, _, body = last_reply(429, "why", "busy", 1).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 429 Too Many Requests",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Retry-After: 1",
        b"Connection: close",
    ]
    assert json.loads(body) == {"error": "why", "code": "busy"}


async def test_a_last_word_is_heard_by_who_is_still_sending(ends: Callable[[], Ends]) -> None:
    """What is closed with something unread is reset, and what was said is lost."""
    both = ends()
    both.client.send(bytes(50_000))
    both.stream.say(b"no more")
    both.stream.close()
    assert await both.take(7) == b"no more"
    assert await asyncio.get_running_loop().sock_recv(both.client, 1) == b""


async def test_a_last_word_to_who_has_gone_does_no_harm(ends: Callable[[], Ends]) -> None:
    both = ends()
    both.client.close()
    both.stream.say(b"no more")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_nothing_is_left_of_a_connection_that_was_reset(no_collector: None) -> None:
    """Tens of kilobytes each would wait for the garbage collector, which comes once a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        mine, _ = listening.accept()
    stream = BoundedStream(mine, Budget("replies_bytes_max", 1, 1), lambda stream: None)
    reading = asyncio.ensure_future(stream.read_bytes(1))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(StreamClosedError):
        await reading
    assert isinstance(stream.error, ConnectionResetError)
    known = weakref.ref(stream)
    del stream, reading, mine
    await until(lambda: known() is None, "it is freed")
