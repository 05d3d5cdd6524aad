"""Requests that go to a worker past its master: its port has bounds like the master's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from torture.overload.load import MB, always, ask_on, connections
from torture.overload.scenario import Scenario

HEALTH_P99_MS, BUSY_P99_MS = 50.0, 100.0
"""While it works the worker has the whole of its share of a core that others want, too."""
MEMORY_MB_MOST = 300.0
CALL = (
    b'{"lease":%d,"job_id":1,"node":"x","handler":"sleep","args":[3600],"timeout":null,'
    b'"attempt":1,"lease_s":100000}'
)
CALLS = 20_000
Act = Callable[[int, float], Coroutine[Any, Any, Counter[str]]]
LONG = b"9" * 4_300
OPERATIONS = 1_024


def post(body: bytes) -> bytes:
    return b"POST /compute HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def unfinished_bodies(port: int, seconds: float) -> Counter[str]:
    """40 clients that send 60 of 64 MB each, and then nothing."""
    counts: Counter[str] = Counter()

    async def send() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST /compute HTTP/1.1\r\nContent-Length: 63999999\r\n\r\n")
            for _ in range(60):
                writer.write(b" " * MB)
                await writer.drain()
            await asyncio.sleep(seconds)
        except OSError:
            counts["closed"] += 1
        finally:
            writer.transport.abort()

    tasks = [asyncio.create_task(send()) for _ in range(40)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return counts


async def silent(port: int, seconds: float) -> Counter[str]:
    """3,000 connections that ask nothing."""
    with connections(port, 3_000):
        await asyncio.sleep(seconds)
    return Counter()


def calls(_: int) -> Iterable[bytes]:
    lease = 10**12
    while True:
        yield post(b'{"calls":[%s]}' % b",".join(CALL % (lease + each) for each in range(CALLS)))
        lease += CALLS


async def too_many_calls(port: int, seconds: float) -> Counter[str]:
    """4 clients that send 20,000 calls in each request."""
    return await ask_on(port, 4, seconds, calls)


async def long_call(port: int, seconds: float) -> Counter[str]:
    """A client that sends a call of 60 MB again and again."""
    request = post(CALL.replace(b"[3600]", b'[3600,"%s"]' % (b"x" * 60 * MB)) % 1)
    return await ask_on(port, 1, seconds, always(request))


async def long_integers(port: int, seconds: float) -> Counter[str]:
    """4 clients that send the longest batches of the longest integers."""
    column = b",".join([LONG] * OPERATIONS)
    body = b'{"lease":1,"operations":"%s","op1":[%s],"op2":[%s]}'
    request = post(body % (b"-" * OPERATIONS, column, column))
    return await ask_on(port, 4, seconds, always(request))


def _of_worker(name: str, act: Act, health_p99_ms: float = HEALTH_P99_MS) -> Scenario:
    return Scenario(
        name,
        act,
        of_worker=True,
        health_p99_ms=health_p99_ms,
        memory_mb_most=MEMORY_MB_MOST,
    )


SCENARIOS = [
    _of_worker("a worker: 40 bodies of 60 MB that never end", unfinished_bodies),
    _of_worker("a worker: 3,000 silent connections", silent),
    _of_worker("a worker: 20,000 calls a request", too_many_calls),
    _of_worker("a worker: a call of 60 MB again and again", long_call, BUSY_P99_MS),
    _of_worker("a worker: batches of the longest integers", long_integers, BUSY_P99_MS),
]
