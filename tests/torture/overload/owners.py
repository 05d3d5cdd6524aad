"""One who takes what all share: receivers that never answer, workers with ever new names."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count, cycle

from harness.http import HOST, Line, PlainServer, exchange, request_bytes
from harness.http import Message as Request
from torture.overload.load import Asker, ask_on
from torture.overload.scenario import Scenario

SILENT_HOSTS = 40
JOBS_AT_A_TIME = 500
TOLD_S = 2.0
"""A receiver that answers is told of its job within this time, or `late`."""
SILENT_S, PAUSE_S = 5.0, 0.1
"""The others have been silent for some time when it is told first."""
NAMES = 900
WEBHOOKS_MAX = 5_000


async def silent_receivers(port: int, seconds: float) -> Counter[str]:
    """Jobs with webhooks to hosts that never answer, and some to one that does."""
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        urls = []
        for number in range(SILENT_HOSTS):
            silent = PlainServer(_never)
            await silent.start(f"127.0.3.{number + 1}")
            stack.push_async_callback(silent.stop)
            urls.append(f"http://127.0.3.{number + 1}:{silent.port}/")
        requests = [_jobs([url] * JOBS_AT_A_TIME) for url in urls]
        flood = asyncio.create_task(Asker(port, cycle(requests), counts).run())
        try:
            await _tell_one(port, seconds, counts, stack)
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
    return counts


async def _never(request: Request, line: Line) -> None:
    """No reply, until the client hangs up."""
    await line.reader.read()


async def _tell_one(port: int, seconds: float, counts: Counter[str], stack: AsyncExitStack) -> None:
    """Submit jobs with webhooks to a receiver that answers, and see how soon it is told."""
    told: dict[str, asyncio.Event] = {}

    async def take(request: Request, line: Line) -> None:
        told[request.path].set()
        await line.reply(204)

    good = PlainServer(take)
    await good.start()
    stack.push_async_callback(good.stop)
    await asyncio.sleep(SILENT_S)
    end = time.monotonic() + seconds
    for number in count():
        if time.monotonic() > end:
            break
        path = f"/{number}"
        told[path] = asyncio.Event()
        body = {"formula": "1+2", "notify": f"http://{HOST}:{good.port}{path}"}
        reply = await exchange(port, "POST", "/jobs?wait=20", body)
        if reply.status != 201:
            counts[f"one that answers: {reply.status}"] += 1
            continue
        try:
            async with asyncio.timeout(TOLD_S):
                await told[path].wait()
            counts["told"] += 1
        except TimeoutError:
            counts["late"] += 1
        await asyncio.sleep(PAUSE_S)


def _jobs(urls: list[str]) -> bytes:
    jobs = [{"formula": "1+2", "notify": url} for url in urls]
    return request_bytes("POST", "/jobs", {"jobs": jobs})


async def new_names(port: int, seconds: float) -> Counter[str]:
    """Workers that announce 900 new names of handlers each, and go on as others."""

    def requests(client: int) -> Iterator[bytes]:
        for number in count():
            names = [f"{'h' * 80}{client}_{number}_{place}" for place in range(NAMES)]
            said = {"worker_name": f"w{number}", "port": 1 + number % 60_000, "draining": True}
            yield request_bytes("POST", "/worker", json.dumps(said | {"handlers": names}).encode())

    return await ask_on(port, 2, seconds, requests)


SCENARIOS = [
    Scenario(
        f"webhooks to {SILENT_HOSTS} hosts that never answer",
        silent_receivers,
        settings={"WEBHOOKS_MAX": str(WEBHOOKS_MAX)},
        health_p99_ms=50,
        memory_mb_most=600,
        none_of=("late", "one that answers: 429"),
    ),
    Scenario(
        "workers with ever new names of handlers",
        new_names,
        health_p99_ms=50,
        memory_mb_most=150,
    ),
]
