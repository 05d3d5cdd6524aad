"""Bodies that are far too large, or just allowed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from harness.http import request_bytes
from torture.overload.load import FORMULA, MB, STEP, always, ask_on
from torture.overload.scenario import Scenario


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


SCENARIOS = [
    Scenario("20 bodies of 100 MB", bodies),
    Scenario("20 bodies of 100 MB in chunks", bodies_in_chunks),
    Scenario("20 bodies of 31 MB", large_bodies),
]
