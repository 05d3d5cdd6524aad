"""The blocking client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from dte.client import calls
from dte.client.errors import JobFailed
from dte.client.exchange import Attempt, Call, NoReply, Response
from dte.client.patience import PATIENCE_S, Contact, patiently
from dte.client.replies import Job, JobSummary, WorkerInfo
from dte.core.operations import Number
from dte.wire.connection import CONNECT_TIMEOUT_S, is_silent

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
        self._host, self._port = calls.check_url(master_url)
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
        return self._run(calls.submit(formula, key))

    def compute(
        self, formula: str, timeout_s: float | None = None, *, key: str | None = None
    ) -> Number:
        """Submit a formula and give its value.

        Args:
            key: as for `submit`.

        Raises:
            JobFailed: there is none, because of a division by zero, say.
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
        """
        return self._run(calls.compute(formula, timeout_s, key)).result()

    def map(
        self,
        formulas: Iterable[str],
        timeout_s: float | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[Number | JobFailed]:
        """Submit many formulas and give their values in order.

        Args:
            return_exceptions: give `JobFailed` in the place of a value, raise none.

        Raises:
            FormulaError: one has a syntax error; its `index` says which.
            JobFailed: one has no value.
            WaitTimeout: not all within `timeout_s` seconds; the jobs go on.
        """
        jobs = self._run(calls.map_formulas(formulas, timeout_s))
        return calls.results(jobs, return_exceptions)

    def wait(self, job: Job | int, timeout_s: float | None = None) -> Job:
        """The job when it has ended.

        Raises:
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
            NotFound: there is no such job.
        """
        return self._run(calls.wait(calls.number_of(job), timeout_s))

    def job(self, job: Job | int) -> Job:
        """How a job stands now.

        Raises:
            NotFound: there is no such job.
        """
        return self._run(calls.job(calls.number_of(job)))

    def jobs(self) -> list[JobSummary]:
        """The last 100 jobs, the newest first."""
        return self._run(calls.jobs())

    def workers(self) -> list[WorkerInfo]:
        """The workers that the master knows."""
        return self._run(calls.workers())

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

    def _run(self, call: Call[T]) -> T:
        attempts = patiently(call, self._contact)
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
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            silent = sent and isinstance(error, TimeoutError)
            text = f"no reply from {self.master_url}: {reason}"
            raise NoReply(text, sent=sent, silent=silent) from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return Response(reply.status, body, reply.headers.get("Retry-After"))

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
