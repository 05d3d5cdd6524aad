"""The client for programs with an event loop, Tornado's or asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from dte.client import calls
from dte.client.errors import JobFailed
from dte.client.exchange import Attempt, Call, NoReply, Response
from dte.client.patience import PATIENCE_S, Contact, patiently
from dte.client.replies import Job, JobSummary, WorkerInfo
from dte.core.operations import Number
from dte.wire.connection import ConnectionFailed, KeptAliveConnection

T = TypeVar("T")

IDLE_MAX = 64
"""How many connections are kept for later calls."""


class AsyncClient:
    """A master, for coroutines. All is as with `dte.Client`: methods, errors, and patience.

    Args:
        master_url: as ``http://host:port``.
        patience_s: for how long a master that has answered before is tried while it is away.
    """

    def __init__(
        self, master_url: str = "http://localhost:5000", *, patience_s: float = PATIENCE_S
    ) -> None:
        self.master_url = master_url
        self._host, self._port = calls.check_url(master_url)
        self._contact = Contact(patience_s)
        self._idle: list[KeptAliveConnection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def submit(self, formula: str, *, key: str | None = None) -> Job:
        """Submit a formula; the job has an `id` to ask for later."""
        return await self._run(calls.submit(formula, key))

    async def compute(
        self, formula: str, timeout_s: float | None = None, *, key: str | None = None
    ) -> Number:
        """Submit a formula and give its value."""
        return (await self._run(calls.compute(formula, timeout_s, key))).result()

    async def map(
        self,
        formulas: Iterable[str],
        timeout_s: float | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[Number | JobFailed]:
        """Submit many formulas and give their values in order."""
        jobs = await self._run(calls.map_formulas(formulas, timeout_s))
        return calls.results(jobs, return_exceptions)

    async def wait(self, job: Job | int, timeout_s: float | None = None) -> Job:
        """The job when it has ended."""
        return await self._run(calls.wait(calls.number_of(job), timeout_s))

    async def job(self, job: Job | int) -> Job:
        """How a job stands now."""
        return await self._run(calls.job(calls.number_of(job)))

    async def jobs(self) -> list[JobSummary]:
        """The last 100 jobs, the newest first."""
        return await self._run(calls.jobs())

    async def workers(self) -> list[WorkerInfo]:
        """The workers that the master knows."""
        return await self._run(calls.workers())

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _run(self, call: Call[T]) -> T:
        attempts = patiently(call, self._contact)
        try:
            attempt = next(attempts)
            while True:
                if attempt.pause_s:
                    await asyncio.sleep(attempt.pause_s)
                try:
                    response = await self._send(attempt)
                except NoReply as error:
                    attempt = attempts.throw(error)
                else:
                    attempt = attempts.send(response)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _send(self, attempt: Attempt) -> Response:
        connection = self._connection()
        try:
            async with asyncio.timeout(attempt.timeout_s):
                status, headers, body = await connection.request(
                    attempt.method, attempt.path, attempt.body, attempt.headers
                )
        except TimeoutError as error:
            raise self._no_reply("timed out", sent=True, silent=True) from error
        except ConnectionFailed as error:
            raise self._no_reply(str(error), sent=error.sent) from error
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return Response(status, body, headers.get("Retry-After"))

    def _no_reply(self, reason: str, *, sent: bool, silent: bool = False) -> NoReply:
        return NoReply(f"no reply from {self.master_url}: {reason}", sent=sent, silent=silent)

    def _connection(self) -> KeptAliveConnection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # Connections belong to the loop that made them.
            self.close()
            self._loop = loop
        return self._idle.pop() if self._idle else KeptAliveConnection(self._host, self._port)
