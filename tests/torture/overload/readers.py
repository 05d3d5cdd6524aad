"""Clients that do not read, read slowly, or ask for much."""

from __future__ import annotations

import asyncio
from collections import Counter

from harness.http import request_bytes
from torture.overload.load import always, ask_on, connections, drip, states_of
from torture.overload.scenario import Scenario

from dte import Client

LONG_ANSWER = "9" * 4_300
LONG_ANSWERS = 10_000


def long_answers(port: int) -> None:
    """Jobs whose answers have as many digits as there may be."""
    with Client(f"http://127.0.0.1:{port}") as client:
        client.map([LONG_ANSWER] * LONG_ANSWERS)


async def not_reading(port: int, seconds: float) -> Counter[str]:
    with connections(port, 300, receive_bytes=4_096) as lines:
        for line in lines:
            line.sendall(request_bytes("GET", f"/jobs?ids=1-{LONG_ANSWERS}"))
        await asyncio.sleep(seconds)
        return states_of(lines)


async def reading_slowly(port: int, seconds: float) -> Counter[str]:
    """A byte a second."""
    with connections(port, 300, receive_bytes=4_096) as lines:
        for line in lines:
            line.sendall(request_bytes("GET", f"/jobs?ids=1-{LONG_ANSWERS}"))
        await drip(lines, seconds, lambda line: line.recv(1))
        return Counter({"drips": 300})


async def asking_for_much(port: int, seconds: float) -> Counter[str]:
    """50 clients that read, as fast as they can."""
    return await ask_on(
        port, 50, seconds, always(request_bytes("GET", f"/jobs?ids=1-{LONG_ANSWERS}"))
    )


SCENARIOS = [
    Scenario("300 clients do not read replies of 45 MB", not_reading, long_answers),
    Scenario("300 clients read a byte a second", reading_slowly, long_answers),
    Scenario("50 clients read replies of 45 MB", asking_for_much, long_answers),
]
