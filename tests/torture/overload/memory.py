"""Memory and time for what is large or malformed: jobs, replies of workers, heads."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from http.client import HTTPConnection
from itertools import cycle
from typing import Any

from harness.http import HOST, BlockingClient, Line, Message, PlainServer, exchange, request_bytes
from torture.overload.load import always, ask_on
from torture.overload.scenario import Scenario

MB = 1_000_000
LARGE = b"x" * (15 * MB)
LONG = b"x" * (5 * MB)
CALL = b'{"handler": "echo", "args": ["%s"]}'
READERS = 300
SLOTS = 60
DEAF = 12
LATE_S = 2.0


# Jobs


def large_job(port: int) -> None:
    """A job of 15 MB that only the journal has: of the ended ones the master keeps one."""
    client = BlockingClient(port)
    assert client.value("POST", "/jobs?wait=60", CALL % LARGE)["finished"]
    for _ in range(2):
        assert client.value("POST", "/jobs?wait=60", CALL % b"y")["finished"]


async def one_after_another(port: int, seconds: float) -> Counter[str]:
    """Calls with 15 MB, each when the last has ended."""
    return await ask_on(
        port, 1, seconds, always(request_bytes("POST", "/jobs?wait=60", CALL % LARGE))
    )


async def ten_at_once(port: int, seconds: float) -> Counter[str]:
    """Calls with 15 MB that wait: nobody has their handler."""
    body = CALL.replace(b"echo", b"unknown") % LARGE
    asked = [exchange(port, "POST", "/jobs", body) for _ in range(10)]
    replies = await asyncio.gather(*asked)
    await asyncio.sleep(seconds)
    return Counter(str(reply.status) for reply in replies)


async def readers(port: int, seconds: float) -> Counter[str]:
    """Readers of one job, and of its calls, who come together."""
    return await ask_on(port, READERS, seconds, _reading)


def _reading(number: int) -> cycle[bytes]:
    return cycle([request_bytes("GET", "/job/1/nodes" if number % 2 else "/job/1")])


# Replies of workers


def replying(
    begun: bytes, part: bytes = b"", parts: int = 0
) -> Callable[[int, float], Awaitable[Counter[str]]]:
    """A worker whose replies begin, go on with some parts, and never end."""

    async def act(port: int, seconds: float) -> Counter[str]:
        counts: Counter[str] = Counter()

        async def conduct(request: Message, line: Line) -> None:
            counts["asked"] += 1
            await line.send(begun)
            for _ in range(parts):
                await line.send(part)

        worker = PlainServer(conduct)
        async with AsyncExitStack() as stack:
            await worker.start()
            stack.push_async_callback(worker.stop)
            announced = {"worker_name": "hostile", "port": worker.port, "handlers": ["never"]}
            announced |= {"slots": SLOTS, "handler_slots": SLOTS, "incarnation": "a"}
            reply = await exchange(port, "POST", "/worker", announced)
            counts[str(reply.status)] += 1
            jobs = [{"handler": "never", "args": [n]} for n in range(2 * SLOTS)]
            reply = await exchange(port, "POST", "/jobs", json.dumps({"jobs": jobs}).encode())
            counts[str(reply.status)] += 1
            await asyncio.sleep(seconds)
        return counts

    return act


def head(*fields: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *fields, "", ""]).encode()


HUGE = head("Content-Length: 63999999")
ALLOWED = head("Content-Length: 15999999")
CHUNKED = head("Transfer-Encoding: chunked")
REPEATED = head(*["a: bb"] * 2_000, "Content-Length: 15") + b'{"result":null}'
INTERIM = head(status=100) * 2_000


# Requests to workers


async def deaf_workers(port: int, seconds: float) -> Counter[str]:
    """Workers on three hosts that receive nothing: their calls have a long result as argument.

    Others, whose calls have short arguments, are served in time meanwhile.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        for number in range(DEAF):
            deaf = stack.enter_context(socket.create_server(("", 0), backlog=1_000))
            said = {"worker_name": f"deaf{number}", "port": deaf.getsockname()[1]}
            said |= {"handlers": ["deaf"], "handler_slots": 200, "slots": 200}
            host = f"127.0.4.{1 + number % 3}"
            counts[str(await asyncio.to_thread(_announce, port, host, said))] += 1
        readers = b",".join(
            b'"n%d":{"handler":"deaf","args":[%d,{"ref":"a"}]}' % (number, number)
            for number in range(DEAF * 20)
        )
        graph = b'{"graph":{"a":%s,%s},"answer":"a"}' % (CALL % LONG, readers)
        reply = await exchange(port, "POST", "/jobs", graph)
        counts[str(reply.status)] += 1
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            asked_at = time.monotonic()
            reply = await exchange(port, "POST", "/jobs?wait=20", CALL % b"short")
            counts["200" if reply.json.get("finished") else "unfinished"] += 1
            counts["late"] += time.monotonic() - asked_at > LATE_S
            await asyncio.sleep(0.05)
    return counts


def _announce(port: int, host: str, said: dict[str, Any]) -> int:
    connection = HTTPConnection(HOST, port, timeout=30, source_address=(host, 0))
    try:
        connection.request("POST", "/worker", json.dumps(said))
        return connection.getresponse().status
    finally:
        connection.close()


# Heads


async def heads(fields: bytes, port: int, seconds: float) -> Counter[str]:
    """8 connections, each opened again when it is closed, with one head after another."""
    request = b"GET /nothing%s\r\n\r\n" % fields
    return await ask_on(port, 8, seconds, always(request))


START = b" HTTP/1.1\r\nHost: x\r\n"
MANY = START + b"\r\n".join(b"x-%d: y" % number for number in range(5_500))
REPEATS = START + b"\r\n".join([b"x: y"] * 10_000)
WITHIN = START + b"\r\n".join(b"x-%d: %s" % (number, b"y" * 150) for number in range(95))
PARAMETERS = b"?" + b"&".join(b"a%d=%d" % (number, number) for number in range(999)) + START[:-2]
MEMORY = {"workers": 0, "memory_mb_most": 300, "health_p99_ms": 50, "turn_s_most": 0.1}
HEADS = {"workers": 0, "memory_mb_most": 100, "health_p99_ms": 50, "turn_s_most": 0.1}
SCENARIOS = [
    Scenario("calls of 15 MB, one after another", one_after_another, memory_mb_most=600),
    Scenario("10 calls of 15 MB that wait", ten_at_once, workers=0, memory_mb_most=550),
    Scenario(
        "300 readers of a job of 15 MB of the journal",
        readers,
        large_job,
        settings={"JOBS_KEPT": "1"},
        memory_mb_most=500,
    ),
    Scenario("60 replies of workers that never end, of 64 MB", replying(HUGE, LARGE, 4), **MEMORY),
    Scenario(
        "60 replies of workers that never end, of 16 MB", replying(ALLOWED, LARGE, 1), **MEMORY
    ),
    Scenario(
        "60 replies of workers in chunks of 2 bytes",
        replying(CHUNKED, b"2\r\nxy\r\n" * 9_000, 1_000),
        **MEMORY,
    ),
    Scenario("replies of workers with a header 2,000 times", replying(REPEATED), **MEMORY),
    Scenario("interim replies of workers without end", replying(INTERIM, INTERIM, 1_000), **MEMORY),
    Scenario(
        f"{DEAF} workers that do not receive their calls",
        deaf_workers,
        health_p99_ms=50,
        memory_mb_most=350,
        turn_s_most=0.1,
        none_of=("late", "unfinished"),
    ),
    Scenario("8 connections with heads of 5,500 headers", partial(heads, MANY), **HEADS),
    Scenario("8 connections with one header 10,000 times", partial(heads, REPEATS), **HEADS),
    Scenario("8 connections with heads of 15 kB", partial(heads, WITHIN), **HEADS),
    Scenario("8 connections with 999 parameters", partial(heads, PARAMETERS), **HEADS),
]
