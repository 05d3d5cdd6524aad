"""The floor: a loop that only posts batches of sums to two workers over kept-alive connections.

It parses nothing, knows no order of operations and keeps no promise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dte.wire.codec import Decoder, encode
from dte.wire.http.client import KeptAliveConnection
from dte.wire.messages.batches import Batch, BatchResult

OWN_BATCH = 512
"""Operations in a request to dte's workers."""
PLAIN_BATCH = 256
"""The same to plain ones."""
REQUESTS = 2
"""Requests to a worker at a time: one is on its way while one is done."""

_own: Decoder[BatchResult] = Decoder(BatchResult)


def own_workers(ports: Sequence[int], operations: int) -> float:
    """Operations a second with dte's own workers and its messages, which are columns."""

    def body(operands: range) -> bytes:
        numbers: list[int | float] = list(operands)
        return encode(Batch(1, "+" * len(numbers), numbers, numbers))

    def results(reply: bytes) -> list[Any]:
        return list(_own.decode(reply).results)

    return asyncio.run(loop(ports, operations, OWN_BATCH, body, results))


def plain_workers(ports: Sequence[int], operations: int) -> float:
    """Operations a second with the workers of `plain_server`, in messages as anybody would."""

    def body(operands: range) -> bytes:
        return msgspec.json.encode([("+", number, number) for number in operands])

    def results(reply: bytes) -> list[Any]:
        return msgspec.json.decode(reply, type=list[int | float])

    return asyncio.run(loop(ports, operations, PLAIN_BATCH, body, results))


async def loop(
    ports: Sequence[int],
    operations: int,
    batch: int,
    body: Callable[[range], bytes],
    results: Callable[[bytes], list[Any]],
) -> float:
    """Operations a second, with the given batches and messages."""
    batches = [
        range(start, min(start + batch, operations)) for start in range(0, operations, batch)
    ]

    async def post(port: int) -> None:
        connection = KeptAliveConnection("127.0.0.1", port)
        while batches:
            operands = batches.pop()
            status, _, reply = await connection.request("POST", "/compute", body(operands))
            assert status == 200, reply
            assert results(reply) == [2 * number for number in operands]
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(post(port) for port in ports for _ in range(REQUESTS)))
    return operations / (time.perf_counter() - started)
