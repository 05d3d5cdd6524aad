"""Heads of requests: their bounds, and how many long ones are read in a turn."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest
from harness.http import Dial, request_bytes
from harness.until import until

from dte.master.http.meters import Budget
from dte.master.http.server import PARAMETERS_MAX
from dte.master.http.stream import HEAD_SMALL, BoundedStream, ManyFields
from dte.wire.http.reader import FIELDS_MAX, HEAD_BYTES_MAX
from master.rig import Rig

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n"
END = b"\r?\n\r?\n"


def with_fields(count: int, value: bytes = b"b") -> bytes:
    """A request with so many headers."""
    fields = b"".join(b"x-%d: %s\r\n" % (number, value) for number in range(count - 1))
    return GET % b"/health" + fields + b"\r\n"


BYTES = f"the path and the headers have more than {HEAD_BYTES_MAX} bytes"
FIELDS = f"there are more than {FIELDS_MAX} headers"
PARAMETERS = f"the query has more than {PARAMETERS_MAX} parameters"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (with_fields(FIELDS_MAX + 1), FIELDS),
        (with_fields(6_500), FIELDS),
        (GET % b"/health" + b"a: b\r\n" * 10_000 + b"\r\n", FIELDS),
        (GET % b"/health" + b"a: b\r\n" * 2_000, FIELDS),
        (GET % b"/health" + b"a: %s\r\n\r\n" % (b"b" * 17_000), BYTES),
        (GET % b"/health" + b"a: " + b"b" * 17_000, BYTES),
        (GET % (b"/" + b"x" * 17_000) + b"\r\n", BYTES),
        (GET % (b"/jobs?" + b"a=1&" * 999) + b"\r\n", PARAMETERS),
        (GET % (b"/health?" + b"&" * 100) + b"\r\n", PARAMETERS),
    ],
    ids=[
        "a header too many",
        "6,500 headers",
        "one header 10,000 times",
        "headers without end",
        "a long header",
        "a long header without end",
        "a long path",
        "999 parameters",
        "empty parameters",
    ],
)
async def test_a_head_beyond_a_bound_gets_a_431_that_names_it(
    raw: bytes, error: str, rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    await line.send(raw)
    reply = await line.read()
    assert reply is not None
    assert (reply.status, reply.json) == (431, {"error": error, "code": "too_large"})
    assert (await rig.get("/health")).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        with_fields(FIELDS_MAX, b"b" * 140),
        request_bytes("GET", "/health", Cookie="c=" + "d" * 8_000, Via="1.1 proxy"),
        with_fields(2).replace(b"\r\n", b"\n"),
    ],
    ids=["as many as may be", "a long cookie", "bare line ends"],
)
@pytest.mark.parametrize("pieces", [1, 500], ids=["whole", "in pieces"])
async def test_a_head_within_the_bounds_is_answered(
    raw: bytes, pieces: int, rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    size = len(raw) // pieces + 1
    for _ in range(2):  # The second time on the same connection.
        for start in range(0, len(raw), size):
            await line.send(raw[start : start + size])
        reply = await line.read()
        assert reply is not None
        assert reply.status == 200


async def test_as_many_parameters_as_may_be_come_to_the_route(rig: Rig) -> None:
    query = "&".join(["ids=1"] * PARAMETERS_MAX)
    reply = await rig.get(f"/jobs?{query}")
    assert reply.status == 400
    assert reply.json["error"].startswith(f"query parameter 'ids' is given {PARAMETERS_MAX} times")


class Heads:
    """Decides when long heads are read: the first at once, the others when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self._came = 0

    def enter(self) -> asyncio.Future[None] | None:
        self._came += 1
        if self._came == 1:
            return None
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]


def streams_of(
    cleanup: AsyncExitStack, heads: Heads, count: int
) -> list[tuple[socket.socket, BoundedStream]]:
    """Clients, and the master's streams from them."""
    opened = []
    for _ in range(count):
        client, mine = socket.socketpair()
        budget = Budget("replies_bytes_max", 1_000, 1)
        opened.append((client, BoundedStream(mine, budget, lambda _: None, heads.enter)))
        cleanup.callback(client.close)
        cleanup.callback(opened[-1][1].close)
    return opened


async def test_long_heads_are_read_when_they_are_admitted_and_short_ones_at_once(
    cleanup: AsyncExitStack,
) -> None:
    """A thousand connections with 16 kB each would otherwise be read in one turn."""
    heads = Heads()
    opened = streams_of(cleanup, heads, 4)
    order: list[int] = []

    async def read(number: int) -> None:
        await opened[number][1].read_until_regex(END, HEAD_BYTES_MAX)
        order.append(number)

    reading = [asyncio.create_task(read(number)) for number in range(4)]
    await asyncio.sleep(0)
    for number in range(3):
        opened[number][0].send(b"x" * HEAD_SMALL + b"\r\n\r\n")
        await until(lambda number=number: len(heads.waiting) >= number, "it has come")
    opened[2][0].send(b"the next request")
    opened[3][0].send(b"y\r\n\r\n")
    await until(lambda: order == [0, 3], "the first and the short one are read")
    opened[1][0].close()
    for waiting in heads.waiting:
        waiting.set_result(None)
    await until(lambda: 2 in order, "the other is read")
    await asyncio.wait(reading)
    assert heads._came == 3, "more bytes are no other head"


async def test_a_head_in_pieces_is_searched_once(cleanup: AsyncExitStack) -> None:
    """To search all of it for each piece would take seconds for one head."""
    ((client, stream),) = streams_of(cleanup, Heads(), 1)
    searched = 0

    class Received(bytearray):
        def find(self, *arguments: object) -> int:
            nonlocal searched
            searched += len(self) - int(arguments[1])  # type: ignore[call-overload]
            return super().find(*arguments)  # type: ignore[arg-type]

    stream._read_buffer = Received()
    reading = asyncio.ensure_future(stream.read_until_regex(END, HEAD_BYTES_MAX))
    for _ in range(400):
        client.send(b"x" * 20)
        await asyncio.sleep(0)
    client.send(b"\r\n\r\n")
    assert len(await reading) == 8_004
    assert 8_004 <= searched < 4 * 8_004


async def test_too_many_fields_are_noticed_before_the_end_of_a_head(
    cleanup: AsyncExitStack,
) -> None:
    ((client, stream),) = streams_of(cleanup, Heads(), 1)
    reading = asyncio.ensure_future(stream.read_until_regex(END, HEAD_BYTES_MAX))
    client.send(b"a: b\r\n" * 200)
    await until(stream.closed, "it is closed")
    assert isinstance(stream.error, ManyFields)
    reading.cancel()
