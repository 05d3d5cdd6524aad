"""The blocking client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any, TypeVar, Unpack

from dte.client import requests
from dte.client.connecting import new_connection, no_reply
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
from dte.client.values import Node
from dte.wire.access import Access, Shown
from dte.wire.http.stream import is_silent

T = TypeVar("T")


class Client:
    """A blocking client of a master. Several threads may share it.

    A program survives a restart of its master, because requests without a reply are sent again:
    queries change nothing, and each submission has a key by which the master recognises it. The
    client retries for `patience_s` seconds, with growing pauses, when it has reached this master
    before, and for 3 seconds when it never has, because the URL may be wrong. A master that cannot
    accept work at the moment is retried too.

    A method's `timeout_s` is the longest time to wait, in seconds, including retries; None waits
    forever. A job that has not ended by then continues, and the method raises `dte.WaitTimeout`.

    Every method raises `dte.Unreachable` if the master does not answer, `dte.NotFound` if there is
    no such job, and another `dte.DteError` if the master refuses the request.

    Args:
        master_url: the URL of the master, ``http://host:port``, or ``https://host/path``.
        patience_s: the time to retry a master that has answered before.
        token: the token to send; by default that in DTE_TOKEN, or in the file that DTE_TOKEN_FILE
            names.
        token_file: a file with the token, which is read again once the token is refused.
        tls_ca: a file with the certificate of the authority that signed the master's; by default
            DTE_TLS_CA, or else the authorities that the system trusts.
        tls_cert, tls_key: files with the certificate and the key that this client shows to a master
            that demands one; by default DTE_TLS_CERT and DTE_TLS_KEY.
    """

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
        self._idle: list[http.client.HTTPConnection] = []

    @property
    def reached(self) -> bool:
        """True if the master has answered this client."""
        return self._contact.answered

    def submit(self, formula: str, *, key: str | None = None) -> Job:
        """Submit a formula, and return its job without waiting for the answer.

        Args:
            key: an idempotency key, 1 to 200 printable ASCII characters. A program that repeats a
                submission under its key, for example after a crash, gets the existing job. Without
                a key, each call submits a new job.

        Raises:
            FormulaError: the formula has a syntax error.
            TooLarge: the formula is longer than the master accepts.
            Conflict: the key was used for another formula.
            Busy: too much work waits at the master.
            Unavailable: the master could not accept work for as long as the client retried.
            StorageFull: the master's disk is full.
            ValueError: the key is not valid.
        """
        return self._run(requests.submit(formula, key))

    def compute(
        self, formula: str, timeout_s: float | None = None, *, key: str | None = None
    ) -> Any:
        """Submit a formula, wait for its value and return it.

        Args:
            key: an idempotency key, see `submit`.

        Raises:
            JobFailed: the formula has no value, for example after a division by zero.
        """
        return self._run(requests.compute(formula, timeout_s, key)).result()

    def map(
        self,
        formulas: Iterable[str] | AnyHandler,
        *arguments: Any,
        timeout_s: float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Compute many formulas, or call a handler many times, and return the values in order.

        ``client.map(["1+2", "3*4"])`` computes formulas; ``client.map("thumb", photos)`` calls the
        handler for each photo, and ``client.map("thumb", photos, sizes)`` for each pair. Nothing is
        submitted before all calls are known to be valid JSON.

        Args:
            formulas: the formulas, or the name of a handler.
            arguments: lists with the arguments of the handler, all of one length.
            return_exceptions: return a `JobFailed` in place of a missing value instead of raising.

        Raises:
            FormulaError: a formula has a syntax error; `index` is its position.
            JobFailed: a formula or a call has no value.
            TypeError, ValueError: an argument cannot be converted to JSON, or the lists differ in
                length.
        """
        return Calls(self, {"timeout_s": timeout_s}).map(
            formulas, *arguments, return_exceptions=return_exceptions
        )

    def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Any:
        """Call a handler on a worker, wait for its result and return it.

        All arguments are the handler's own, by position or by name. Options of the call are set by
        `with_options`.

        Raises:
            JobFailed: the call has no result; `JobTimedOut` or `JobCancelled` if it timed out or
                was cancelled.
            TypeError, ValueError: an argument cannot be converted to JSON.
        """
        return Calls(self, {}).call(handler, *args, **named)

    def submit_call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Job:
        """Submit a call of a handler, and return its job without waiting for the result."""
        return Calls(self, {}).submit_call(handler, *args, **named)

    def with_options(self, **options: Unpack[CallOptions]) -> Calls:
        """Set options for calls, see `dte.client.graphs.CallOptions`.

        For example: ``client.with_options(priority=5, retries=2).call(…)``.
        """
        check_options(options)
        return Calls(self, options)

    def run(
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
        """Submit a graph of calls, wait for its answer and return it.

        Args:
            answer: the node whose result is the answer. By default the answer is the result of the
                only node that no other node uses, or a dict of results by name if there are
                several.
            priority: nodes with a higher priority run first; the default for all nodes.
            after: jobs that must end before.
            when: ``"success"``: those jobs must succeed; ``"done"``: they may fail.
            notify: a URL to POST to when the job ends.
            key: an idempotency key, see `submit`.

        Raises:
            JobFailed: there is no answer, because a call that it needs failed.
            InvalidRequest: the graph is not valid, for example because it has a cycle.
        """
        check_graph(graph)
        body = graph.body(answer, priority=priority, after=after, when=when, notify=notify)
        return self._run(requests.run_plan(body, timeout_s, key)).result()

    def submit_graph(
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
        """Submit a graph of calls like `run`, and return its job without waiting."""
        check_graph(graph)
        body = graph.body(answer, priority=priority, after=after, when=when, notify=notify)
        return self._run(requests.submit_plan(body, key))

    def submit_plan(self, plan: Mapping[str, Any] | bytes, *, key: str | None = None) -> Job:
        """Submit a body of ``POST /jobs`` that makes one job, as a dict or as JSON."""
        return self._run(requests.submit_plan(plan_body(plan), key))

    def cancel(self, job: Job | int) -> Job:
        """Cancel a job: its waiting calls never start, its running calls are stopped.

        Returns:
            The job. It is ``cancelling`` until the workers have stopped; `wait` waits for that.

        Raises:
            Conflict: the job has ended, and not by cancellation.
        """
        return self._run(requests.cancel(requests.number_of(job)))

    def retry(self, job: Job | int) -> Job:
        """Retry the failed part of a job, and return the new job, which reuses existing results.

        Raises:
            Conflict: the job has not failed.
        """
        return self._run(requests.retry(requests.number_of(job)))

    def why(self, job: Job | int) -> Why:
        """Explain why the unfinished operations of a job wait."""
        return self._run(requests.why(requests.number_of(job)))

    def nodes(self, job: Job | int) -> list[NodeInfo]:
        """List the calls of a job, with their results."""
        return self._run(requests.nodes(requests.number_of(job)))

    def events(
        self, job: Job | int | None = None, *, after: int | None = None
    ) -> Generator[Event, None, None]:
        """Yield the events of a job until it ends, or of all jobs forever, as they happen.

        After a broken connection the client reconnects and continues after the last event.

        Args:
            after: the `id` of an event, to continue after it. By default the events of one job
                begin with its current status, and those of all jobs with the next event.

        Raises:
            Busy: too many clients receive events already.
        """
        number = None if job is None else requests.number_of(job)
        return self._events(Subscription(number, self._contact, after))

    def wait(self, job: Job | int, timeout_s: float | None = None) -> Job:
        """Wait for the end of a job and return the job."""
        return self._run(requests.wait(requests.number_of(job), timeout_s))

    def job(self, job: Job | int) -> Job:
        """Return the current status of a job."""
        return self._run(requests.job(requests.number_of(job)))

    def jobs(self) -> list[JobSummary]:
        """List the last 100 jobs, the newest first."""
        return self._run(requests.jobs())

    def workers(self) -> list[WorkerInfo]:
        """List the workers that the master knows."""
        return self._run(requests.workers())

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.master_url!r})"

    def _events(self, subscription: Subscription) -> Generator[Event, None, None]:
        while not subscription.over:
            time.sleep(subscription.pause_s)
            connection = new_connection(self._access)
            try:
                yield from self._stream(connection, subscription)
            except (OSError, http.client.HTTPException) as error:
                sent = connection.sock is not None
                subscription.lost(no_reply(self._access, error, sent=sent))
            finally:
                connection.close()

    def _stream(
        self, connection: http.client.HTTPConnection, subscription: Subscription
    ) -> Generator[Event, None, None]:
        """Yield the events of one connection."""
        attempt = subscription.attempt()
        connection.connect()
        connection.sock.settimeout(attempt.timeout_s)
        headers = {**attempt.headers, **self._access.headers()}
        connection.request(attempt.method, self._access.path(attempt.path), headers=headers)
        reply = connection.getresponse()
        if not subscription.is_stream(reply.status, reply.headers.get("Content-Type", "")):
            retry_after = reply.headers.get("Retry-After")
            subscription.refused(Response(reply.status, reply.read(), retry_after))
            return
        while not subscription.over:
            piece = reply.read1()
            if not piece:
                raise ConnectionError("the stream of events has ended")
            yield from subscription.feed(piece)

    def login_link(self) -> str:
        """Return a URL that logs a browser in once, within a minute.

        The person who opens it may do what the token of this client allows. Without tokens it is
        the page of the master.

        Raises:
            Unauthorized: the master does not know the token.
        """
        return f"{self.master_url.rstrip('/')}/{self._run(requests.login_link())}"

    def _run(self, exchange: Exchange[T]) -> T:
        attempts = patiently(exchange, self._contact)
        try:
            attempt = next(attempts)
            while True:
                if attempt.pause_s:
                    time.sleep(attempt.pause_s)
                try:
                    response = self._send(attempt)
                except NoReply as error:
                    attempt = attempts.throw(error)
                else:
                    attempt = attempts.send(response)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _send(self, attempt: Attempt) -> Response:
        shown = self._access.headers()
        headers = {"Content-Type": "application/json", **attempt.headers, **shown}
        path = self._access.path(attempt.path)
        connection = self._connection()
        sent = connection.sock is not None
        try:
            if not sent:
                connection.connect()
                sent = True
            connection.sock.settimeout(attempt.timeout_s)
            connection.request(attempt.method, path, attempt.body, headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            silent = sent and isinstance(error, TimeoutError)
            raise no_reply(self._access, error, sent=sent, silent=silent) from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return Response(reply.status, body, reply.headers.get("Retry-After"))

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # Another thread took the last one.
                break
            if connection.sock is not None and is_silent(connection.sock):
                return connection
            connection.close()
        return new_connection(self._access)


class Calls:
    """A client with options for calls, see `Client.with_options`."""

    def __init__(self, client: Client, options: CallOptions) -> None:
        self._client = client
        self._options = options

    def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Any:
        """Call a handler with these options, see `Client.call`."""
        return self._client._run(requests.call(handler, args, named, self._options)).result()

    def submit_call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Job:
        """Submit a call with these options, see `Client.submit_call`."""
        return self._client._run(requests.submit_call(handler, args, named, self._options))

    def map(
        self,
        formulas: Iterable[str] | AnyHandler,
        *arguments: Any,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Call a handler many times with these options, see `Client.map`."""
        jobs = self._client._run(requests.map_each(formulas, arguments, self._options))
        return requests.results(jobs, return_exceptions)
