"""What clients do with jobs that have calls: submit, ask, cancel, retry, and ask why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torture.simulation.executions import Executions
from torture.simulation.network import NoReply
from torture.simulation.plans import PlanMaker, PlanSpec
from torture.simulation.world import Violation

from dte.wire.codec import encode

if TYPE_CHECKING:
    from torture.simulation.clients import Client
    from torture.simulation.ledger import Ledger

CANCELS, CANCELS_TWICE = 0.3, 0.4
AT_AN_END = 0.6
"""How many cancels come while a worker reports a call of the job."""
AWAITS_AN_END_S = 3.0
RETRIES = 0.3
CURIOUS = 0.5
"""How many clients ask why a job has not ended, and how its calls stand."""
TRY_AGAIN = (429, 503, 507)


@dataclass(slots=True)
class Caller:
    """The part of a client that is about jobs with calls."""

    client: Client
    plans: PlanMaker
    executions: Executions
    ledger: Ledger
    forgiving: bool

    async def submit_and_ask(self, key: str) -> None:
        """Submit a job, perhaps cancel it, and ask until it has ended."""
        random = self.client.random
        plan = self.plans.some(self.ledger.numbers)
        number = await self._submit(plan, key)
        if number is None:
            return
        if random.random() < CURIOUS:
            await self._look_inside(number)
        if random.random() < CANCELS:
            await self._choose_the_moment(number)
            await self._cancel(number)
            if random.random() < CANCELS_TWICE:
                await self._cancel(number)
        await self._ask(number)
        if random.random() < RETRIES:
            await self._retry(plan, number)

    async def _submit(self, plan: PlanSpec, key: str) -> int | None:
        """Submit until it is known what became of it: the job's number, None if there is none."""
        body, wait_s = encode(plan.body), self.client.random.choice((0.0, 0.0, 0.5, 5.0))
        while True:
            try:
                status, reply = await self.client.call("plan", body, plan.name, key, wait_s)
            except NoReply:
                if not key:
                    return None
                await self.client.pause()
                continue
            if status in TRY_AGAIN:
                await self.client.pause()
            elif status == 404 and self.forgiving:
                return None
            elif status != 200:
                raise Violation(f"{plan.name} was answered by {status} {reply}")
            else:
                number: int = reply["job_ids"][0]
                self.ledger.accepted(plan.name, number)
                return number

    async def _ask(self, number: int) -> None:
        while not await self.client.look([number], self.client.random.choice((0.0, 1.0, 10.0))):
            if self.client.random.random() < CURIOUS / 2:
                await self._look_inside(number)
            await self.client.pause()

    async def _look_inside(self, number: int) -> None:
        """Ask why it has not ended, and how its calls stand."""
        for route in ("why", "nodes"):
            await self._try(route, number, (404,) if self.forgiving else ())

    async def _choose_the_moment(self, number: int) -> None:
        """Wait until a job is to be cancelled."""
        if self.client.random.random() >= AT_AN_END:
            await self.client.pause()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(AWAITS_AN_END_S):
                await self.executions.next_of(number)
                self.client.saw("a cancel comes while a call is reported")

    async def _cancel(self, number: int) -> None:
        """Cancel until the master has heard it."""
        while (status := await self._try("cancel", number, (404, 409))) in (0, *TRY_AGAIN):
            await self.client.pause()
        self.client.saw(f"a cancel is answered by {status}")

    async def _retry(self, plan: PlanSpec, number: int) -> None:
        """Have a job's failed part done again, and ask for that."""
        try:
            status, reply = await self.client.call("retry", number, 0.0)
        except NoReply:
            return
        if status == 200:
            self.ledger.accepted(plan.name, reply["job_id"])
            await self._ask(reply["job_id"])
        elif status not in (409, *TRY_AGAIN) and not self.forgiving:
            raise Violation(f"a retry of job {number} was answered by {status} {reply}")

    async def _try(self, route: str, number: int, also: Sequence[int]) -> int:
        """Ask once: the status, 0 if there was no reply."""
        reply: Any
        try:
            status, reply = await self.client.call(route, number, 0.0)
        except NoReply:
            return 0
        if status not in (200, *TRY_AGAIN, *also):
            raise Violation(f"{route} of job {number} was answered by {status} {reply}")
        return status
