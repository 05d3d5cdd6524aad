"""The scenarios of overload, from too many clients to hostile ones."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from harness.http import HOST, request_bytes
from torture.overload.large_journal import make_large_journal
from torture.overload.load import Asker, always, ask_on, connections, drip, states_of

from dte import Client
from dte.worker.server import WorkerServer, WorkerSettings

MB = 1_000_000
FORMULA = b'{"task": "1+(2*3)/4-5"}'
LONG_ANSWER = "9" * 4_300
LONG_ANSWERS = 10_000
STEP = 65_536
NICE = 5
"""The niceness of clients: they must burden the master, and not take its core away."""


@dataclass(frozen=True)
class Scenario:
    """One way to overload a master.

    Attributes:
        name: its row in the table.
        act: does it for some seconds, and counts the replies.
        prepare: done before anything is measured.
        workers: how many there are.
        settings: of the master.
        make_journal: makes the journal with which the master starts.
        health_p99_ms: the scenario fails if the p99 of GET /health is higher.
    """

    name: str
    act: Callable[[int, float], Coroutine[Any, Any, Counter[str]]]
    prepare: Callable[[int], None] = lambda port: None
    workers: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    make_journal: Callable[[Path], None] | None = None
    health_p99_ms: float | None = None


async def nothing(port: int, seconds: float) -> Counter[str]:
    await asyncio.sleep(seconds)
    return Counter()


# Too much of what is allowed


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


# Bodies


async def bodies(port: int, seconds: float) -> Counter[str]:
    """20 clients that send 100 MB each, with their length, again and again."""
    return await _send_bodies(port, seconds, lambda part: part, b"Content-Length: %d" % (100 * MB))


async def bodies_in_chunks(port: int, seconds: float) -> Counter[str]:
    """20 clients that send 100 MB each, in chunks, again and again."""
    return await _send_bodies(
        port,
        seconds,
        lambda part: b"%x\r\n%s\r\n" % (len(part), part),
        b"Transfer-Encoding: chunked",
    )


async def _send_bodies(
    port: int, seconds: float, coded: Callable[[bytes], bytes], field: bytes
) -> Counter[str]:
    counts: Counter[str] = Counter()
    part = coded(b" " * STEP)
    parts, rest = divmod(100 * MB, STEP)
    end = coded(b" " * rest) + (b"0\r\n\r\n" if b"chunked" in field else b"")

    async def send() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                counts[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            try:
                writer.write(b"POST /submit HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % field)
                for _ in range(parts):
                    writer.write(part)
                    await writer.drain()
                writer.write(end)
                counts[(await reader.readuntil(b"\r\n\r\n"))[9:12].decode()] += 1
            except (OSError, asyncio.IncompleteReadError):
                counts["closed"] += 1
            finally:
                writer.transport.abort()

    tasks = [asyncio.create_task(send()) for _ in range(20)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counts


async def large_bodies(port: int, seconds: float) -> Counter[str]:
    """20 clients that send what is just allowed, 31 MB of white space, again and again."""
    return await ask_on(
        port, 20, seconds, always(request_bytes("POST", "/submit", FORMULA.ljust(31 * MB)))
    )


# Clients that do not read


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


# Clients that do not come to the point


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


# Operators


async def backup(port: int, seconds: float) -> Counter[str]:
    """Backups one after another, at least one whole, while 4 clients submit and wait."""
    request = request_bytes("POST", "/submit?wait=10", FORMULA)
    counts: Counter[str] = Counter()
    asking = [asyncio.create_task(Asker(port, cycle([request]), counts).run()) for _ in range(4)]
    backups: Counter[str] = Counter()
    end = time.monotonic() + seconds
    try:
        while not backups or time.monotonic() < end:
            backups[f"backup {await asyncio.to_thread(_take_backup, port)}"] += 1
        return counts + backups
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _take_backup(port: int) -> str:
    """The size of a whole backup in MB, or why there is none."""
    connection = HTTPConnection(HOST, port, timeout=600)
    with closing(connection):
        try:
            connection.request("POST", "/backup")
            reply = connection.getresponse()
            size = sum(map(len, iter(lambda: reply.read(STEP), b"")))
        except (OSError, HTTPException) as error:
            return type(error).__name__
    return f"of {size // MB} MB" if reply.status == HTTPStatus.OK else str(reply.status)


SCENARIOS = [
    Scenario("nothing", nothing),
    Scenario("640 clients submit", singles),
    Scenario("640 clients submit and wait", singles_held),
    Scenario("640 clients submit, a connection each time", singles_anew),
    Scenario("640 clients submit, no worker", singles, workers=0),
    Scenario("20 clients submit batches of 10,000", batches),
    Scenario("20 clients submit batches of 10,000, no worker", batches, workers=0),
    Scenario("5,000 requests wait, and are answered at once", held, workers=0),
    Scenario("20 bodies of 100 MB", bodies),
    Scenario("20 bodies of 100 MB in chunks", bodies_in_chunks),
    Scenario("20 bodies of 31 MB", large_bodies),
    Scenario("300 clients do not read replies of 45 MB", not_reading, long_answers),
    Scenario("300 clients read a byte a second", reading_slowly, long_answers),
    Scenario("50 clients read replies of 45 MB", asking_for_much, long_answers),
    Scenario("500 heads at a byte a second", slow_heads),
    Scenario("500 bodies at a byte a second", slow_bodies),
    Scenario("2,000 idle connections", idle),
    Scenario(
        "3,000 connections where 1,000 may be",
        too_many,
        workers=0,
        settings={"CONNECTIONS_MAX": "1000"},
    ),
    Scenario(
        "backup of a journal of 1.1 GB while 4 clients submit",
        backup,
        make_journal=make_large_journal,
        health_p99_ms=20,
    ),
]


def done_to(port: int, scenario: Scenario, seconds: float) -> Counter[str]:
    """Let the clients of a scenario go on in a process of their own, and count the replies."""
    with ProcessPoolExecutor(1, get_context("spawn"), os.nice, (NICE,)) as process:
        return process.submit(_act, SCENARIOS.index(scenario), port, seconds).result()


def _act(number: int, port: int, seconds: float) -> Counter[str]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(SCENARIOS[number].act(port, seconds))
