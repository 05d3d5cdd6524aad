"""The bounds that the incomplete replies of all workers share."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
from harness.http import Line, Message, ServePlainly
from harness.until import until

from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.master.dispatch import replies as bounds
from dte.master.dispatch.replies import Replies, batch_reply_bytes, value_reply_bytes
from dte.wire.http.client import KeptAliveConnection
from master import fakes
from master.rig import Hire, Rig


class Incomplete:
    """Stands in for a connection with an incomplete reply.

    Attributes:
        refused: the reason, once it is refused.
    """

    def __init__(self, replies: Replies, host: str) -> None:
        self._replies = replies
        self.host = host
        self.held = 0
        self.refused = ""

    def receive(self, count: int) -> None:
        self.held += count
        self._replies.grew(cast(KeptAliveConnection, self))

    def refuse(self, reason: str) -> None:
        self.refused = reason
        self._replies.ended(cast(KeptAliveConnection, self))


async def test_beyond_the_bound_the_longest_reply_of_the_host_with_most_is_refused() -> None:
    replies = Replies(bytes_max=1_000)
    large = [Incomplete(replies, "10.0.0.1") for _ in range(3)]
    small = [Incomplete(replies, f"10.0.0.{n}") for n in (2, 3)]
    for connection, count in zip([*large, *small], (250, 300, 250, 90, 90), strict=True):
        connection.receive(count)
    assert not any(each.refused for each in large + small)
    small[0].receive(40)
    assert [bool(each.refused) for each in large] == [False, True, False]
    assert "1020 of 1000 bytes (worker_replies_bytes_max)" in large[1].refused
    assert not any(each.refused for each in small)
    assert replies.bytes == 720


async def test_one_reply_that_alone_exceeds_the_bound_is_refused() -> None:
    replies = Replies(bytes_max=1_000)
    connection = Incomplete(replies, "10.0.0.1")
    connection.receive(1_001)
    assert connection.refused
    assert replies.bytes == 0


async def test_a_reply_goes_on_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with enough bytes in the time is not slow, however long it takes in all."""
    monkeypatch.setattr(bounds, "SLOW_BYTES", 100)
    replies = Replies(slow_s=0.2)
    slow, steady = (Incomplete(replies, "10.0.0.1") for _ in range(2))
    slow.receive(1)
    while not slow.refused:
        steady.receive(100)
        await asyncio.sleep(0.01)
    assert "100 bytes in 0.2 s" in slow.refused
    assert not steady.refused
    steady.refuse("over")
    assert replies.bytes == 0


async def test_of_those_that_are_behind_some_go_on_at_a_time_in_their_order() -> None:
    replies = Replies()
    order: list[int] = []
    times: list[float] = []

    def go_on(number: int) -> None:
        order.append(number)
        times.append(asyncio.get_running_loop().time())
        if order.count(number) < 3:
            replies.later(partial(go_on, number))

    count = 2 * bounds.PARTS_A_TURN
    for number in range(count):
        replies.later(partial(go_on, number))
    await until(lambda: len(order) == 3 * count, "all have gone on to their ends")
    assert order == [n % count for n in range(3 * count)]
    starts = times[:: bounds.PARTS_A_TURN]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert min(pauses) > bounds.PARTS_EVERY_S / 2


def test_the_bounds_follow_from_what_was_asked() -> None:
    assert batch_reply_bytes(1_024) == 1_024 * (INTEGER_DIGITS_MAX + 10) + 1_000
    assert value_reply_bytes(16_000_000) == 16_001_000
    for least in batch_reply_bytes(1), value_reply_bytes(1):
        assert least == bounds.SMALL_REPLY_BYTES, "error pages are longer than numbers"


@pytest.mark.parametrize("form", [{}, {"batch_max": 100}], ids=["single", "batch"])
async def test_the_longest_reply_that_is_right_is_taken(
    form: dict[str, Any], rig: Rig, hire: Hire
) -> None:
    """The seed's workers repeat the operation."""
    await hire(rig, fakes.good, **form)
    half = "9" * 2_100
    tasks = "+".join(f"{half}*{half}" for _ in range(50))
    assert (await rig.compute(f"({tasks})-49*{half}*{half}"))["answer"] == int(half) ** 2


async def test_an_operation_whose_replies_are_too_long_fails_and_the_worker_says_why(
    rig: Rig, hire: Hire
) -> None:
    await hire(rig, fakes.replying(200, b" " * 100_000), batch_max=10, incarnation="a")
    job = await rig.compute("1+2")
    assert job["state"] == "failed"
    assert "the body has more than 65536 bytes" in job["error"]


# What others say


SECRET = "SECRET-OF-A-NEIGHBOUR"
STRANGERS = {
    "banner": f"{SECRET} ready\r\n\r\n",
    "banner of words": f"220 {SECRET} {SECRET} ESMTP\r\n\r\n",
    "status": f"HTTP/1.1 {SECRET} OK\r\n\r\n",
    "header": f"HTTP/1.1 200 OK\r\n {SECRET}\r\n\r\n",
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n",
    "encoding": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
    "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n",
    **{
        f"page {status}": f"HTTP/1.1 {status} {SECRET}\r\nX: {SECRET}\r\nContent-Length: 32\r\n\r\n"
        f"\x1b]0;\x07\r\n{SECRET}    "
        for status in (200, 202, 204, 302, 401, 404, 500, 503)
    },
    "object": f'HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{{"key":"{SECRET}"}}',
    "list": f'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n["{SECRET}"]',
    "result": f'HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n{{"{SECRET}":1,"result":"1"}}',
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("batch_max", [1, 2])
@pytest.mark.parametrize("incarnation", ["", "a"])
async def test_no_word_of_a_stranger_is_shown(
    said: str,
    batch_max: int,
    incarnation: str,
    rig: Rig,
    hire: Hire,
    serve_plainly: ServePlainly,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody announces the port of another program, to learn what it says."""

    async def stranger(request: Message, line: Line) -> None:
        await line.send(said.encode())
        line.close()

    port = (await serve_plainly(stranger)).port
    more = {"batch_max": batch_max, "slots": 2, "incarnation": incarnation, "handlers": ["peek"]}
    said_back = [(await rig.post("/worker", {"worker_name": "w", "port": port} | more)).body]
    await rig.submit("1+1")
    number = await rig.accept(handler="peek", args=[1])
    await until(lambda: rig.worker(port).failures or rig.worker(port).unreachable, "it fails")
    said_back.append((await rig.post("/worker", {"worker_name": "w", "port": port} | more)).body)
    job = f"/job/{number}"
    for path in ("/worker", "/jobs", job, f"{job}/nodes", f"{job}/why"):
        reply = await rig.get(path)
        said_back.append(reply.body)
    shown = b"".join(said_back).decode() + caplog.text
    assert SECRET not in shown
    assert "\x1b" not in shown
