"""Clients that submit formulas and ask for their answers, whatever happens to the master.

Some use `dte.AsyncClient` as users do; others know nothing but HTTP, and repeat a request with its
key until it is answered. All tell the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random

from harness.machine import HOST
from harness.workloads import Formula
from torture.chaos.accounting import Ledger
from torture.chaos.asking import WAIT_S, Asking
from torture.chaos.formulas import ChaosFormulas
from torture.chaos.outcome import Outcome

from dte import AsyncClient, Busy, DteError, FormulaError, JobFailed, NotFound, Unreachable
from dte.client.job import Job
from dte.core.errors import Unavailable

CLIENT_TIMEOUT_S = 8.0
"""How long a program waits for `dte.AsyncClient` before it gives up."""
FIRST, CHAIN_OPERATIONS = 1_000_001, (50, 600)
STYLES = {"short": 40, "floats": 15, "chain": 10, "long": 10}
STYLES |= {"zero": 8, "zeros": 7, "number": 5, "bad": 5}
STYLES |= {"call": 4, "nap": 5, "hostile": 14, "hostile_recorded": 1}
STYLES_OF_BATCHES = {"short": 8, "floats": 2, "zero": 1, "number": 1, "hostile": 1}
"""Of formulas that are submitted together: none of them is refused, nor takes long."""
BATCH = 20
HEAP, HEAP_PAUSE_S = (50, 500), (0.0, 6.0)
REPEATED = 0.2
"""How many of the requests that were answered are sent once more, with the same key."""


Action = Callable[[], Awaitable[None]]


class Load:
    """A number of clients, limited in how much they submit, so that memory and disk stay small.

    Args:
        port: where they find the master.
        ledger: records what they submit and what replies say.
        randoms: decides about what they do.
        rate: how many formulas a second at most, besides one heap after the other.
    """

    def __init__(self, port: int, ledger: Ledger, randoms: Random, rate: float) -> None:
        self._port = port
        self._ledger = ledger
        self._randoms = randoms
        self._asking = Asking(port, ledger, randoms)
        self._formulas = ChaosFormulas(
            randoms, STYLES, first=FIRST, chain_operations=CHAIN_OPERATIONS
        )
        self._pace = _Pace(rate)
        self._known: list[int] = []
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, clients: int, others: Sequence[Action] = ()) -> None:
        """Start clients of each kind, one that asks about old jobs, and one with heaps.

        Args:
            others: what further clients do, again and again.
        """
        actions = (self._use_http, self._use_client, self._use_http, self._insist)
        for number in range(clients):
            self._start(self._repeat(actions[number % len(actions)]))
        self._start(self._repeat(self._look_back))
        self._start(self._repeat(self._heap))
        for action in others:
            self._start(self._repeat(action))

    async def finish(self, timeout_s: float) -> int:
        """Submit nothing new, and wait for what was begun.

        Returns:
            How many clients were not done in that time; what they do is cancelled.
        """
        self._over = True
        _, waiting = await asyncio.wait(self._tasks, timeout=timeout_s)
        await self.stop()
        return len(waiting)

    async def rest(self, calls: int) -> None:
        """Submit calls that last until they are told to end."""
        formulas = self._noted(self._formulas.some(calls, {"rest": 1}))
        await self._submit(formulas, self._asking.new_key(), may_wait=False)

    async def stop(self) -> None:
        """Cancel what goes on.

        Raises:
            Exception: what a client did not expect; it is a fault of the clients here.
        """
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    def check(self) -> None:
        """Raise what a client did not expect."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))

    async def _repeat(self, action: Action) -> None:
        while not self._over:
            await action()
            await asyncio.sleep(self._randoms.uniform(0, 0.05))

    async def _take(self, size: int) -> list[Formula]:
        """New formulas: `size` of a batch, or one of any kind."""
        await self._pace.wait(size)
        return self._noted(self._formulas.some(size, STYLES if size == 1 else STYLES_OF_BATCHES))

    def _noted(self, formulas: list[Formula]) -> list[Formula]:
        """The formulas, after the ledger has recorded them."""
        for formula in formulas:
            self._ledger.submitted(formula)
        return formulas

    # With the client of dte

    async def _use_client(self) -> None:
        """Submit in one of the ways that there are; give up as a program would."""
        ways = (self._compute_new, self._submit_and_wait, self._map)
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT_S), AsyncClient(self._url) as client:
                for _ in range(self._randoms.randint(1, 5)):
                    await self._randoms.choice(ways)(client)
        except (Unreachable, TimeoutError):
            pass
        except (Busy, Unavailable) as error:
            await asyncio.sleep(min(1, error.retry_after_s))
        except DteError as error:
            self._asking.unexpected(f"dte.AsyncClient raised {error!r}")

    @property
    def _url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def _insist(self) -> None:
        """Submit with a key, and start anew with the same key until the answer is there."""
        (formula,) = await self._take(1)
        key = self._asking.new_key()
        while True:
            try:
                async with asyncio.timeout(self._randoms.uniform(0.5, 4.0)):
                    async with AsyncClient(self._url) as client:
                        await self._compute(client, formula, key)
                        return
            except (Unreachable, TimeoutError, Busy, Unavailable):
                await self._asking.pause()
            except DteError as error:
                self._asking.unexpected(f"dte.AsyncClient raised {error!r}")
                return

    async def _compute_new(self, client: AsyncClient) -> None:
        (formula,) = await self._take(1)
        await self._compute(client, formula)

    async def _compute(self, client: AsyncClient, formula: Formula, key: str | None = None) -> None:
        timeout_s = self._randoms.choice((None, 4.0))
        try:
            answer = await client.compute(formula.text, timeout_s, key=key)
        except FormulaError:
            self._ledger.refused(formula)
        except JobFailed as failure:
            self._ledger.answered(formula, Outcome.of_error(failure))
        else:
            self._ledger.answered(formula, Outcome.of_answer(answer))

    async def _submit_and_wait(self, client: AsyncClient) -> None:
        (formula,) = await self._take(1)
        try:
            job = await client.submit(formula.text)
        except FormulaError:
            self._ledger.refused(formula)
            return
        self._acknowledged([formula], [job.id])
        asked_at = time.monotonic()
        try:
            job = await client.wait(job)
        except NotFound:
            self._ledger.unknown(job.id)
        else:
            self._ledger.observed(job.id, _outcome(job), asked_at, time.monotonic())

    async def _map(self, client: AsyncClient) -> None:
        formulas = await self._take(self._randoms.randint(2, BATCH))
        texts = [formula.text for formula in formulas]
        values = await client.map(texts, return_exceptions=True)
        for formula, value in zip(formulas, values, strict=True):
            failed = isinstance(value, JobFailed)
            outcome = Outcome.of_error(value) if failed else Outcome.of_answer(value)
            self._ledger.answered(formula, outcome)

    # With plain HTTP

    async def _use_http(self) -> None:
        """Submit a formula or a batch, repeat until it is acknowledged, then ask until it ends."""
        size = self._randoms.choice((1, 1, 1, self._randoms.randint(2, BATCH)))
        formulas = await self._take(size)
        key = self._asking.new_key()
        jobs = await self._submit(formulas, key)
        if self._randoms.random() < REPEATED:
            await asyncio.sleep(self._randoms.uniform(0, 1))
            await self._submit(formulas, key)
        for job in jobs:
            while not await self._ask([job], WAIT_S):
                await self._asking.pause()

    async def _heap(self) -> None:
        """Submit so much work that a master that is killed finds much of it after its start."""
        await asyncio.sleep(self._randoms.uniform(*HEAP_PAUSE_S))
        formulas = self._noted(self._formulas.some(self._randoms.randint(*HEAP), {"floats": 1}))
        jobs = await self._submit(formulas, self._asking.new_key())
        while jobs and not await self._ask(jobs, WAIT_S):
            await self._asking.pause()

    async def _submit(
        self, formulas: Sequence[Formula], key: str, *, may_wait: bool = True
    ) -> list[int]:
        """The ids of the jobs, however often it takes; none if they are refused."""
        texts = [formula.text for formula in formulas]
        alone = len(texts) == 1
        body = {"task": texts[0]} if alone else {"tasks": texts}
        paths = ("/submit", f"/submit?wait={WAIT_S}") if may_wait else ("/submit",)
        path = self._randoms.choice(paths)
        while True:
            reply = await self._asking.once("POST", path, body, key)
            if reply is None:
                continue
            if reply.status == 400 and alone and reply.json.get("code") == "syntax":
                self._ledger.refused(formulas[0])
                return []
            if reply.status != 200:
                self._asking.unexpected(f"{reply.status} for POST {path} of {texts}: {reply.json}")
                return []
            jobs = [reply.json["job_id"]] if alone else reply.json["job_ids"]
            self._acknowledged(formulas, jobs)
            return list(jobs)

    async def _ask(self, jobs: Sequence[int], wait_s: float = 0.0) -> bool:
        """Ask how jobs stand; whether there is nothing more to ask."""
        asked_at = time.monotonic()
        ids = ",".join(map(str, jobs))
        path = f"/job/{ids}?wait={wait_s}" if len(jobs) == 1 else f"/jobs?ids={ids}&wait={wait_s}"
        reply = await self._asking.once("GET", path)
        if reply is None:
            return False
        if reply.status == 404:
            if len(jobs) == 1:
                self._ledger.unknown(jobs[0])
            for job in jobs if len(jobs) > 1 else ():
                await self._ask([job])
            return True
        if reply.status != 200:
            self._asking.unexpected(f"{reply.status} for GET {path}: {reply.json}")
            return True
        found = [reply.json] if len(jobs) == 1 else reply.json
        outcomes = {job["job_id"]: Outcome.of_job(job) for job in found}
        if list(outcomes) != list(jobs):
            self._asking.unexpected(f"{list(outcomes)} for GET {path}")
        for job, outcome in outcomes.items():
            self._ledger.observed(job, outcome, asked_at, time.monotonic())
        return None not in outcomes.values()

    async def _look_back(self) -> None:
        """Ask about jobs that were acknowledged at some time: they must be as they were."""
        await asyncio.sleep(self._randoms.uniform(0, 0.5))
        if self._known:
            size = self._randoms.randint(1, 20)
            jobs = list(dict.fromkeys(self._randoms.choices(self._known, k=size)))
            await self._ask(jobs)

    # Records in the ledger

    def _acknowledged(self, formulas: Sequence[Formula], jobs: Sequence[int]) -> None:
        if len(formulas) != len(jobs):
            self._asking.unexpected(f"{len(jobs)} jobs for {len(formulas)} formulas")
        for formula, job in zip(formulas, jobs, strict=False):
            self._ledger.acknowledged(formula, job)
            self._known.append(job)


class _Pace:
    """Bounds the average rate."""

    def __init__(self, rate: float) -> None:
        self._each_s = 1 / rate
        self._next = 0.0

    async def wait(self, size: int) -> None:
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + size * self._each_s
        await asyncio.sleep(start - now)


def _outcome(job: Job) -> Outcome | None:
    if not job.finished:
        return None
    if job.error is not None:
        return Outcome.of_error(job.error)
    return Outcome.of_answer(job.answer)
