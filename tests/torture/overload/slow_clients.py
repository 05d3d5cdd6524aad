"""Clients that do not come to the point."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import cycle

from harness.http import request_bytes
from torture.overload.load import FORMULA, connections, drip, states_of
from torture.overload.scenario import Scenario


async def slow_heads(port: int, seconds: float) -> Counter[str]:
    """500 requests whose head comes at a byte a second."""
    with connections(port, 500) as lines:
        letters = iter(cycle(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000))
        await drip(lines, seconds, lambda line: line.send(bytes([next(letters)])))
        return states_of(lines)


async def slow_bodies(port: int, seconds: float) -> Counter[str]:
    """500 requests whose body comes at a byte a second."""
    with connections(port, 500) as lines:
        for line in lines:
            line.sendall(request_bytes("POST", "/submit", b'{"task"', Content_Length=1_000_000))
        await drip(lines, seconds, lambda line: line.send(b" "))
        return states_of(lines)


async def idle(port: int, seconds: float) -> Counter[str]:
    with connections(port, 2_000) as lines:
        await asyncio.sleep(seconds)
        return states_of(lines)


async def too_many(port: int, seconds: float) -> Counter[str]:
    """3,000 connections where 1,000 may be, and on each a request that is held."""
    with ExitStack() as stack:
        opened = []
        for _ in range(30):
            lines = stack.enter_context(connections(port, 100))
            for line in lines:
                with suppress(OSError):
                    line.sendall(request_bytes("POST", "/submit?wait=60", FORMULA))
            opened += lines
            await asyncio.sleep(seconds / 30)
        return states_of(opened)


SCENARIOS = [
    Scenario("500 heads at a byte a second", slow_heads),
    Scenario("500 bodies at a byte a second", slow_bodies),
    Scenario("2,000 idle connections", idle),
    Scenario(
        "3,000 connections where 1,000 may be",
        too_many,
        workers=0,
        settings={"CONNECTIONS_MAX": "1000"},
    ),
]
