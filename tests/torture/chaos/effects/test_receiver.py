"""A receiver that is not well takes some deliveries, and notes all."""

from __future__ import annotations

import asyncio
from random import Random
from urllib.parse import urlsplit

from harness.http import open_line, request_bytes
from torture.chaos.effects.receiver import Receiver

TRIES = 100


def test_a_receiver_fails_now_and_then_until_it_is_healed() -> None:
    async def deliver(receiver: Receiver, number: int) -> int | None:
        port = urlsplit(receiver.url).port
        assert port is not None
        line = await open_line(port)
        await line.send(request_bytes("POST", "/ended", {"job_id": number}))
        reply = await line.read()
        line.close()
        return None if reply is None else reply.status

    async def scenario() -> None:
        receiver = Receiver(Random(1))
        await receiver.start()
        try:
            statuses = await asyncio.gather(*(deliver(receiver, each) for each in range(TRIES)))
            assert {None, 500, 302} <= set(statuses)
            taken = sum(notice.taken for notice in receiver.notices)
            assert 0 < taken < TRIES == len(receiver.notices)
            await receiver.heal()
            await asyncio.gather(*(deliver(receiver, each) for each in range(TRIES)))
            assert all(notice.taken for notice in receiver.notices[TRIES:])
        finally:
            await receiver.close()

    asyncio.run(scenario())
