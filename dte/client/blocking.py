"""The blocking client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar, Unpack

from dte.client import requests
from dte.client.events import Event, Subscription
from dte.client.exact import encode
from dte.client.exchange import Attempt, Exchange, NoReply, Response
from dte.client.graphs import CallOptions, Graph, Node, When, check_options
from dte.client.job import Job, JobSummary
from dte.client.patience import PATIENCE_S, Contact, patiently
from dte.client.replies import NodeInfo, Why, WorkerInfo
from dte.wire.http.client import CONNECT_TIMEOUT_S
from dte.wire.http.stream import is_silent

T = TypeVar("T")


class Client:
    """A master, for programs that wait. It may be used by several threads.

    A program goes on while its master restarts. What gets no reply is sent again: a question
    changes nothing, and a submission has a key by which the master knows one that it has accepted
    already. A master that has answered before is tried for `patience_s` seconds, with growing
    pauses, but never beyond the `timeout_s` of a method; one that never has for 3 seconds, as its
    URL may be wrong. One that cannot accept work now, and says so, is asked again in the same way.

    Every method raises `dte.Unreachable` when the master does not answer, and what the master says
    is wrong as the `dte.DteError` that it is.

    Args:
        master_url: as ``http://host:port``.
        patience_s: for how long a master that has answered before is tried while it is away.
    """

    def __init__(
        self, master_url: str = "http://localhost:5000", *, patience_s: float = PATIENCE_S
    ) -> None:
        self.master_url = master_url
        self._host, self._port = requests.check_url(master_url)
        self._contact = Contact(patience_s)
        self._idle: list[http.client.HTTPConnection] = []

    def submit(self, formula: str, *, key: str | None = None) -> Job:
        """Submit a formula; the job has an `id` to ask for later.

        Args:
            key: 1 to 200 printable ASCII characters, for a program that may have to submit the
                formula again, say after a restart of its own: with the same key it gets the job
                that the first submission made. Without one, each call is another submission.

        Raises:
            FormulaError: it has a syntax error.
            TooLarge: it is longer than the master takes.
            Conflict: the key was used for another formula.
            Busy: too much work waits there.
            Unavailable: the master could not accept work for as long as it was tried.
            StorageFull: its disk is full.
            ValueError: the key is none.
        """
        return self._run(requests.submit(formula, key))

    def compute(
        self, formula: str, timeout_s: float | None = None, *, key: str | None = None
    ) -> Any:
        """Submit a formula and give its value.

        Args:
            key: as for `submit`.

        Raises:
            JobFailed: there is none, because of a division by zero, say.
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
        """
        return self._run(requests.compute(formula, timeout_s, key)).result()

    def map(
        self,
        formulas: Iterable[str],
        timeout_s: float | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Submit many formulas and give their values in order.

        Args:
            return_exceptions: give `JobFailed` in the place of a value, raise none.

        Raises:
            FormulaError: one has a syntax error; its `index` says which.
            JobFailed: one has no value.
            WaitTimeout: not all within `timeout_s` seconds; the jobs go on.
        """
        jobs = self._run(requests.map_formulas(formulas, timeout_s))
        return requests.results(jobs, return_exceptions)

    def call(self, handler: str, /, *args: Any, **named: Any) -> Any:
        """Call a handler on some worker, and give its result.

        All that is given are the handler's arguments, by position or by name; how the call is to
        be done is said by `with_options`.

        Raises:
            JobFailed: it gave none; `JobTimedOut` or `JobCancelled` if that is why.
            TypeError, ValueError: an argument cannot be sent.
        """
        return Calls(self, {}).call(handler, *args, **named)

    def submit_call(self, handler: str, /, *args: Any, **named: Any) -> Job:
        """Submit a call of a handler, as `call`; the job has an `id` to ask for later."""
        return Calls(self, {}).submit_call(handler, *args, **named)

    def with_options(self, **options: Unpack[CallOptions]) -> Calls:
        """What is to hold for calls: ``client.with_options(priority=5, retries=2).call(…)``.

        Args:
            options: those of `dte.client.graphs.CallOptions`.
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
        """Submit a graph of calls, and give its answer.

        Args:
            answer: the node whose result it is. Without it, that of the one node that no other
                waits for; of several, a dict of their results by name.
            timeout_s: how long to wait for it; the job goes on.
            priority: higher is sooner; of all nodes that have none of their own.
            after: jobs that must have ended before.
            when: ``done`` to begin also when one of these failed.
            notify: a URL that is told when the job has ended.
            key: as for `submit`.

        Raises:
            JobFailed: there is none, as a call failed that it needs.
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
            InvalidRequest: the graph has a cycle, say.
        """
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
        """Submit a graph of calls, as `run`; the job has an `id` to ask for later."""
        body = graph.body(answer, priority=priority, after=after, when=when, notify=notify)
        return self._run(requests.submit_plan(body, key))

    def submit_plan(self, plan: Mapping[str, Any] | bytes, *, key: str | None = None) -> Job:
        """Submit what ``POST /jobs`` takes, as a dict or as its JSON."""
        body = plan if isinstance(plan, bytes) else encode(plan)
        return self._run(requests.submit_plan(body, key))

    def cancel(self, job: Job | int) -> Job:
        """Cancel a job: what waits never starts, what runs is stopped.

        Returns:
            The job, which is ``cancelling`` until the workers have stopped; `wait` for that.

        Raises:
            Conflict: it has ended otherwise.
            NotFound: there is no such job.
        """
        return self._run(requests.cancel(requests.number_of(job)))

    def retry(self, job: Job | int) -> Job:
        """Have the failed part of a job done again, with the results that there are.

        Returns:
            The job that does it, a new one.

        Raises:
            Conflict: it has not failed.
            NotFound: there is no such job.
        """
        return self._run(requests.retry(requests.number_of(job)))

    def why(self, job: Job | int) -> Why:
        """What the unfinished operations of a job wait for.

        Raises:
            NotFound: there is no such job.
        """
        return self._run(requests.why(requests.number_of(job)))

    def nodes(self, job: Job | int) -> list[NodeInfo]:
        """The calls of a job, with their results.

        Raises:
            NotFound: there is no such job.
        """
        return self._run(requests.nodes(requests.number_of(job)))

    def events(
        self, job: Job | int | None = None, *, after: int | None = None
    ) -> Generator[Event, None, None]:
        """The events of a job until it has ended, or of all jobs for ever, as they happen.

        A connection that breaks is made again, and goes on after the last event.

        Args:
            after: the `id` of an event, to go on after it. Else those of a job begin with how it
                stands, those of all with what happens next.

        Raises:
            NotFound: there is no such job.
            Busy: too many listen already.
            Unreachable: the master has been away for too long.
        """
        number = None if job is None else requests.number_of(job)
        return self._events(Subscription(number, self._contact, after))

    def wait(self, job: Job | int, timeout_s: float | None = None) -> Job:
        """The job when it has ended.

        Raises:
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
            NotFound: there is no such job.
        """
        return self._run(requests.wait(requests.number_of(job), timeout_s))

    def job(self, job: Job | int) -> Job:
        """How a job stands now.

        Raises:
            NotFound: there is no such job.
        """
        return self._run(requests.job(requests.number_of(job)))

    def jobs(self) -> list[JobSummary]:
        """The last 100 jobs, the newest first."""
        return self._run(requests.jobs())

    def workers(self) -> list[WorkerInfo]:
        """The workers that the master knows."""
        return self._run(requests.workers())

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _events(self, subscription: Subscription) -> Generator[Event, None, None]:
        while not subscription.over:
            time.sleep(subscription.pause_s)
            connection = http.client.HTTPConnection(self._host, self._port, CONNECT_TIMEOUT_S)
            try:
                yield from self._stream(connection, subscription)
            except (OSError, http.client.HTTPException) as error:
                subscription.lost(self._no_reply(error, sent=connection.sock is not None))
            finally:
                connection.close()

    def _stream(
        self, connection: http.client.HTTPConnection, subscription: Subscription
    ) -> Generator[Event, None, None]:
        """The events that come over one connection."""
        attempt = subscription.attempt()
        connection.connect()
        connection.sock.settimeout(attempt.timeout_s)
        connection.request(attempt.method, attempt.path, headers=dict(attempt.headers))
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
        connection = self._connection()
        sent = connection.sock is not None
        try:
            if not sent:
                connection.connect()
                sent = True
            connection.sock.settimeout(attempt.timeout_s)
            headers = {"Content-Type": "application/json", **attempt.headers}
            connection.request(attempt.method, attempt.path, attempt.body, headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            silent = sent and isinstance(error, TimeoutError)
            raise self._no_reply(error, sent=sent, silent=silent) from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return Response(reply.status, body, reply.headers.get("Retry-After"))

    def _no_reply(self, error: Exception, *, sent: bool, silent: bool = False) -> NoReply:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NoReply(f"no reply from {self.master_url}: {reason}", sent=sent, silent=silent)

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # Another thread took the last.
                break
            if connection.sock is not None and is_silent(connection.sock):
                return connection
            connection.close()
        return http.client.HTTPConnection(self._host, self._port, CONNECT_TIMEOUT_S)


class Calls:
    """A client with what holds for calls, see `Client.with_options`."""

    def __init__(self, client: Client, options: CallOptions) -> None:
        self._client = client
        self._options = options

    def call(self, handler: str, /, *args: Any, **named: Any) -> Any:
        """As `Client.call`.

        Raises:
            WaitTimeout: there is no result within `timeout_s` seconds; the job goes on.
        """
        return self._client._run(requests.call(handler, args, named, self._options)).result()

    def submit_call(self, handler: str, /, *args: Any, **named: Any) -> Job:
        """As `Client.submit_call`."""
        return self._client._run(requests.submit_call(handler, args, named, self._options))
