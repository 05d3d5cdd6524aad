"""The client for programs with an event loop of asyncio or Tornado."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, Unpack

from dte.client import requests
from dte.client.connecting import no_reply
from dte.client.events import Event, Subscription
from dte.client.exchange import Attempt, Exchange, NoReply, Response
from dte.client.graphs import (
    AnyHandler,
    CallOptions,
    Graph,
    When,
    check_graph,
    check_options,
    plan_body,
)
from dte.client.job import Job, JobSummary
from dte.client.patience import PATIENCE_S, Contact, patiently
from dte.client.replies import NodeInfo, Why, WorkerInfo
from dte.client.streaming import StreamingReply
from dte.client.values import Node
from dte.wire.access import Access, Shown
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection

T = TypeVar("T")

IDLE_MAX = 64
"""The number of idle connections that are kept for later requests."""


class AsyncClient:
    """A client for coroutines. Arguments, methods, errors and retries are those of `dte.Client`."""

    def __init__(
        self,
        master_url: str = "http://localhost:5000",
        *,
        patience_s: float = PATIENCE_S,
        **shown: Unpack[Shown],
    ) -> None:
        self.master_url = master_url
        self._access = Access(master_url, **shown)
        self._access.check()
        self._contact = Contact(patience_s, self._access)
        self._idle: list[KeptAliveConnection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def submit(self, formula: str, *, key: str | None = None) -> Job:
        """Submit a formula, and return its job without waiting for the answer."""
        return await self._run(requests.submit(formula, key))

    async def compute(
        self, formula: str, timeout_s: float | None = None, *, key: str | None = None
    ) -> Any:
        """Submit a formula, wait for its value and return it."""
        return (await self._run(requests.compute(formula, timeout_s, key))).result()

    async def map(
        self,
        formulas: Iterable[str] | AnyHandler,
        *arguments: Any,
        timeout_s: float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Compute many formulas, or call a handler many times, and return the values in order."""
        return await AsyncCalls(self, {"timeout_s": timeout_s}).map(
            formulas, *arguments, return_exceptions=return_exceptions
        )

    async def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Any:
        """Call a handler on a worker, wait for its result and return it."""
        return await AsyncCalls(self, {}).call(handler, *args, **named)

    async def submit_call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Job:
        """Submit a call of a handler, and return its job without waiting for the result."""
        return await AsyncCalls(self, {}).submit_call(handler, *args, **named)

    def with_options(self, **options: Unpack[CallOptions]) -> AsyncCalls:
        """Set options for calls: ``await client.with_options(priority=5).call(…)``."""
        check_options(options)
        return AsyncCalls(self, options)

    async def run(
        self,
        graph: Graph,
        answer: Node | str | None = None,
        timeout_s: float | None = None,
        *,
        priority: int = 0,
        after: Iterable[Job | int] = (),
        when: When = "success",
        notify: str = "",
        key: str | None = None,
    ) -> Any:
        """Submit a graph of calls, wait for its answer and return it."""
        check_graph(graph)
        body = graph.body(answer, priority=priority, after=after, when=when, notify=notify)
        return (await self._run(requests.run_plan(body, timeout_s, key))).result()

    async def submit_graph(
        self,
        graph: Graph,
        answer: Node | str | None = None,
        *,
        priority: int = 0,
        after: Iterable[Job | int] = (),
        when: When = "success",
        notify: str = "",
        key: str | None = None,
    ) -> Job:
        """Submit a graph of calls, and return its job without waiting."""
        check_graph(graph)
        body = graph.body(answer, priority=priority, after=after, when=when, notify=notify)
        return await self._run(requests.submit_plan(body, key))

    async def submit_plan(self, plan: Mapping[str, Any] | bytes, *, key: str | None = None) -> Job:
        """Submit a body of ``POST /jobs`` that makes one job, as a dict or as JSON."""
        return await self._run(requests.submit_plan(plan_body(plan), key))

    async def cancel(self, job: Job | int) -> Job:
        """Cancel a job: its waiting calls never start, its running calls are stopped."""
        return await self._run(requests.cancel(requests.number_of(job)))

    async def retry(self, job: Job | int) -> Job:
        """Retry the failed part of a job as a new job, and return the new job."""
        return await self._run(requests.retry(requests.number_of(job)))

    async def why(self, job: Job | int) -> Why:
        """Explain why the unfinished operations of a job wait."""
        return await self._run(requests.why(requests.number_of(job)))

    async def nodes(self, job: Job | int) -> list[NodeInfo]:
        """List the calls of a job, with their results."""
        return await self._run(requests.nodes(requests.number_of(job)))

    async def events(
        self, job: Job | int | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a job until it ends, or of all jobs forever, as they happen."""
        number = None if job is None else requests.number_of(job)
        subscription = Subscription(number, self._contact, after)
        while not subscription.over:
            await asyncio.sleep(subscription.pause_s)
            reply = StreamingReply()
            try:
                async with aclosing(self._stream(reply, subscription)) as events:
                    async for event in events:
                        yield event
            finally:
                await reply.close()

    async def wait(self, job: Job | int, timeout_s: float | None = None) -> Job:
        """Wait for the end of a job and return the job."""
        return await self._run(requests.wait(requests.number_of(job), timeout_s))

    async def job(self, job: Job | int) -> Job:
        """Return the current status of a job."""
        return await self._run(requests.job(requests.number_of(job)))

    async def jobs(self) -> list[JobSummary]:
        """List the last 100 jobs, the newest first."""
        return await self._run(requests.jobs())

    async def workers(self) -> list[WorkerInfo]:
        """List the workers that the master knows."""
        return await self._run(requests.workers())

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.master_url!r})"

    async def _stream(
        self, reply: StreamingReply, subscription: Subscription
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of one connection."""
        attempt = subscription.attempt()
        try:
            async with asyncio.timeout(attempt.timeout_s):
                await reply.begin(self._access, attempt.path, attempt.headers)
        except OSError as error:
            subscription.lost(no_reply(self._access, error, sent=False))
            return
        headers = reply.headers
        is_stream = subscription.is_stream(reply.status, headers.get("Content-Type", ""))
        body = b""
        while not subscription.over:
            try:
                async with asyncio.timeout(attempt.timeout_s):
                    piece = await reply.piece()
            except TimeoutError:
                piece = b""
            if piece and is_stream:
                for event in subscription.feed(piece):
                    yield event
            elif piece:
                body += piece
            elif is_stream:
                subscription.lost(self._no_reply("the stream of events has ended", sent=True))
                return
            else:
                subscription.refused(Response(reply.status, body, headers.get("retry-after")))
                return

    async def _run(self, exchange: Exchange[T]) -> T:
        attempts = patiently(exchange, self._contact)
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
        headers = {**attempt.headers, **self._access.headers()}
        path = self._access.path(attempt.path)
        connection = self._connection()
        try:
            async with asyncio.timeout(attempt.timeout_s):
                status, fields, body = await connection.request(
                    attempt.method, path, attempt.body, headers
                )
        except TimeoutError as error:
            raise self._no_reply("timed out", sent=True, silent=True) from error
        except ConnectionFailed as error:
            raise self._no_reply(str(error), sent=error.sent, insecure=error.insecure) from error
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return Response(status, body, fields.get("retry-after"))

    def _no_reply(self, reason: str, **about: bool) -> NoReply:
        return NoReply(f"no reply from {self.master_url}: {reason}", **about)

    def _connection(self) -> KeptAliveConnection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # Connections belong to the loop that opened them.
            self.close()
            self._loop = loop
        if self._idle:
            return self._idle.pop()
        address = self._access.address
        return KeptAliveConnection(address.host, address.port, secure=self._access.tls)


class AsyncCalls:
    """A client with options for calls, see `AsyncClient.with_options`."""

    def __init__(self, client: AsyncClient, options: CallOptions) -> None:
        self._client = client
        self._options = options

    async def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Any:
        """Call a handler with these options, see `AsyncClient.call`."""
        job = await self._client._run(requests.call(handler, args, named, self._options))
        return job.result()

    async def submit_call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Job:
        """Submit a call with these options, see `AsyncClient.submit_call`."""
        return await self._client._run(requests.submit_call(handler, args, named, self._options))

    async def map(
        self,
        formulas: Iterable[str] | AnyHandler,
        *arguments: Any,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Call a handler many times with these options, see `dte.Client.map`."""
        exchange = requests.map_each(formulas, arguments, self._options)
        return requests.results(await self._client._run(exchange), return_exceptions)
