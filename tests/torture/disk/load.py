"""Clients that submit formulas as fast as they are answered, and remember what they were told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import count
from typing import Any

from harness.http import PlainClient, open_line

AFTER_REFUSAL_S = 0.05
ASKED_AT_ONCE = 1_000
WAIT_S = 30


class Load:
    """Clients, with all that they submitted and were told.

    Attributes:
        accepted: the formulas of the jobs that were acknowledged, by number.
        statuses: how often each status was the answer.
        retry_after: what refusals told in that header.
        accepted_ms: how long each acknowledgement took.
        accepted_at: when the last one came, on the monotonic clock.
        ends: how jobs have ended, as clients were told.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(1)
        self.accepted: dict[int, str] = {}
        self.statuses: Counter[int] = Counter()
        self.retry_after: Counter[str | None] = Counter()
        self.accepted_ms: list[float] = []
        self.accepted_at = 0.0
        self.ends: dict[int, tuple[Any, str | None]] = {}

    async def run(self, clients: int, over: asyncio.Event) -> None:
        """Submit until it is over."""
        await asyncio.gather(*(self._submit(over) for _ in range(clients)))

    async def _submit(self, over: asyncio.Event) -> None:
        line = await open_line(self._port)
        while not over.is_set():
            number = next(self._numbers)
            task = f"{number}*3-{number}/({number}-{number % 10})" if number > 9 else f"{number}/3"
            asked_at = time.monotonic()
            reply = await line.ask("POST", "/submit", {"task": task})
            self.statuses[reply.status] += 1
            if reply.status == 200:
                self.accepted_at = time.monotonic()
                self.accepted_ms.append((self.accepted_at - asked_at) * 1e3)
                self.accepted[reply.json["job_id"]] = task
            else:
                self.retry_after[reply.headers.get("retry-after")] += 1
                await asyncio.sleep(AFTER_REFUSAL_S)
        line.close()

    async def ask_for_all(self) -> list[str]:
        """Wait until all that was accepted has ended; what is lost, changed or wrong."""
        found: list[str] = []
        client, numbers = PlainClient(self._port), sorted(self.accepted)
        for start in range(0, len(numbers), ASKED_AT_ONCE):
            asked = numbers[start : start + ASKED_AT_ONCE]
            ids = ",".join(map(str, asked))
            reply = await client.get(f"/jobs?ids={ids}&wait={WAIT_S}")
            if reply.status != 200:
                found.append(f"jobs {asked[0]} to {asked[-1]}: {reply.body.decode()}")
                continue
            for job in reply.json:
                found += self._compare(job)
        return found

    def _compare(self, job: dict[str, Any]) -> list[str]:
        number = job["job_id"]
        if not job["finished"]:
            return [f"job {number} has not ended"]
        end = job["answer"], job["error"]
        if self.ends.setdefault(number, end) != end:
            return [f"job {number} ended otherwise before: {self.ends[number]}"]
        task = self.accepted[number]
        try:
            right = end == (eval(task), None)
        except ZeroDivisionError:
            right = end[1] is not None and "division by zero" in end[1]
        return [] if right else [f"job {number}, {task}, is wrong: {end}"]
