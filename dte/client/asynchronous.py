"""The client for programs with an event loop, Tornado's or asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from dte.client import calls
from dte.client.blocking import RETRY_PAUSES_S
from dte.client.calls import Call, Request, Response
from dte.client.errors import JobFailed, Unreachable
from dte.client.replies import Job, JobSummary, WorkerInfo
from dte.core.operations import Number
from dte.wire.connection import ConnectionFailed, KeptAliveConnection

T = TypeVar("T")

IDLE_MAX = 64
"""How many connections are kept for later calls."""


class AsyncClient:
    """A master, for coroutines. The methods are those of `dte.Client`, and raise the same.

    Args:
        master_url: as ``http://host:port``.
    """

    def __init__(self, master_url: str = "http://localhost:5000") -> None:
        self.master_url = master_url
        self._host, self._port = calls.check_url(master_url)
        self._idle: list[KeptAliveConnection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def submit(self, formula: str) -> Job:
        """Submit a formula; the job has an `id` to ask for later."""
        return await self._run(calls.submit(formula))

    async def compute(self, formula: str, timeout_s: float | None = None) -> Number:
        """Submit a formula and give its value."""
        return (await self._run(calls.compute(formula, timeout_s))).result()

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
        try:
            request = next(call)
            while True:
                request = call.send(await self._send(request))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _send(self, request: Request) -> Response:
        for pause_s in (*RETRY_PAUSES_S, None):
            connection = self._connection()
            try:
                async with asyncio.timeout(request.timeout_s):
                    status, headers, body = await connection.request(
                        request.method, request.path, request.body
                    )
            except (ConnectionFailed, TimeoutError) as error:
                refused = isinstance(error, ConnectionFailed) and error.refused
                silent = isinstance(error, TimeoutError)  # Once is enough, it takes a minute.
                if pause_s is None or silent or not (request.repeatable or refused):
                    raise self._unreachable(request, error, refused) from error
                await asyncio.sleep(pause_s)
            else:
                if len(self._idle) < IDLE_MAX:
                    self._idle.append(connection)
                else:
                    connection.close()
                return Response(status, body, headers.get("Retry-After"))
        raise AssertionError("the last attempt raises or returns")

    def _connection(self) -> KeptAliveConnection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # Connections belong to the loop that made them.
            self.close()
            self._loop = loop
        return self._idle.pop() if self._idle else KeptAliveConnection(self._host, self._port)

    def _unreachable(self, request: Request, error: Exception, refused: bool) -> Unreachable:
        accepted = "" if request.repeatable or refused else "; whether it was accepted is not known"
        reason = "timed out" if isinstance(error, TimeoutError) else str(error)
        return Unreachable(f"no reply from {self.master_url}: {reason}{accepted}")
