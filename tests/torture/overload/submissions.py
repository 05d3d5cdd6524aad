"""Too much of what is allowed: submissions, alone and in batches, held and not."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice

from harness.http import request_bytes
from torture.overload.load import FORMULA, always, ask_on, connections, states_of
from torture.overload.scenario import Scenario

from dte.worker.server import WorkerServer, WorkerSettings


async def nothing(port: int, seconds: float) -> Counter[str]:
    await asyncio.sleep(seconds)
    return Counter()


async def singles(port: int, seconds: float) -> Counter[str]:
    return await ask_on(port, 640, seconds, always(request_bytes("POST", "/submit", FORMULA)))


async def singles_held(port: int, seconds: float) -> Counter[str]:
    return await ask_on(
        port, 640, seconds, always(request_bytes("POST", "/submit?wait=10", FORMULA))
    )


async def singles_anew(port: int, seconds: float) -> Counter[str]:
    """A connection for each."""
    request = request_bytes("POST", "/submit", FORMULA, Connection="close")
    return await ask_on(port, 640, seconds, always(request))


async def batches(port: int, seconds: float) -> Counter[str]:
    return await ask_on(port, 20, seconds, lambda n: cycle(islice(_batches(n), 4)))


def _batches(seed: int) -> Iterator[bytes]:
    """Batches of 10,000 formulas that differ."""
    randoms = random.Random(seed)
    while True:
        numbers = (randoms.randrange(10**6) for _ in range(10_000))
        tasks = [f"{number}+(2*{number})/4-5" for number in numbers]
        yield request_bytes("POST", "/submit", json.dumps({"tasks": tasks}).encode())


async def held(port: int, seconds: float) -> Counter[str]:
    """5,000 requests that are held as nobody computes; after half the time, somebody does."""
    with connections(port, 5_000) as lines:
        for line in lines:
            line.sendall(request_bytes("POST", "/submit?wait=60", FORMULA))
        await asyncio.sleep(seconds / 2)
        worker = WorkerServer(WorkerSettings(f"http://127.0.0.1:{port}", "127.0.0.1", 0, "late"))
        worker.start()
        await asyncio.sleep(seconds / 2)
        await worker.drain()
        return states_of(lines)


SCENARIOS = [
    Scenario("nothing", nothing),
    Scenario("640 clients submit", singles),
    Scenario("640 clients submit and wait", singles_held),
    Scenario("640 clients submit, a connection each time", singles_anew),
    Scenario("640 clients submit, no worker", singles, workers=0),
    Scenario("20 clients submit batches of 10,000", batches),
    Scenario("20 clients submit batches of 10,000, no worker", batches, workers=0),
    Scenario("5,000 requests wait, and are answered at once", held, workers=0),
]
