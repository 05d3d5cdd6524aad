"""A receiver of webhooks that fails, answers slowly, hangs up, and is down for a while."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random
from typing import Any

from harness.http import Line, Message, PlainServer
from harness.machine import HOST, free_port

CONDUCTS = {"take": 70, "fail": 8, "slow": 10, "hang up": 6, "redirect": 3, "tear": 3}
SLOW_S = (0.3, 3.0)
UP_S, DOWN_S = (5.0, 15.0), (0.5, 4.0)
TAKEN, FAILED, MOVED = 204, 500, 302


@dataclass(frozen=True, slots=True)
class Notice:
    """A delivery.

    Attributes:
        body: what the master says of the job.
        at: when it came.
        taken: it was answered with a 2xx.
    """

    body: dict[str, Any]
    at: float
    taken: bool


class Receiver:
    """Listens at a port of this machine.

    Attributes:
        notices: the deliveries so far.
        downs: how often it was down.
    """

    def __init__(self, randoms: Random) -> None:
        self._randoms = randoms
        self._port = free_port()
        self._server: PlainServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_well = False
        self.notices: list[Notice] = []
        self.downs = 0

    @property
    def url(self) -> str:
        """Where deliveries go."""
        return f"http://{HOST}:{self._port}/ended"

    async def start(self) -> None:
        """Listen, and be down now and then."""
        await self._listen()
        self._task = asyncio.create_task(self._come_and_go())

    async def heal(self) -> None:
        """Take everything from now on."""
        self._is_well = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._server is None:
            await self._listen()

    async def close(self) -> None:
        """End all connections and listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._end()

    async def _come_and_go(self) -> None:
        while True:
            await asyncio.sleep(self._randoms.uniform(*UP_S))
            await self._end()
            self.downs += 1
            await asyncio.sleep(self._randoms.uniform(*DOWN_S))
            await self._listen()

    async def _listen(self) -> None:
        server = PlainServer(self._take)
        await server.start(HOST, self._port)
        self._server = server

    async def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    async def _take(self, request: Message, line: Line) -> None:
        conduct = "take"
        if not self._is_well:
            (conduct,) = self._randoms.choices([*CONDUCTS], [*CONDUCTS.values()])
        if conduct == "slow":
            await asyncio.sleep(self._randoms.uniform(*SLOW_S))
        taken = conduct in ("take", "slow")
        self.notices.append(Notice(request.json, time.monotonic(), taken))
        if taken:
            await line.reply(TAKEN)
        elif conduct == "fail":
            await line.reply(FAILED, {"error": "not now"})
        elif conduct == "redirect":
            await line.reply(MOVED, None, Location=self.url)
        elif conduct == "tear":
            await line.send(b"HTTP/1.1 20")
            line.reset()
        else:
            line.reset()
