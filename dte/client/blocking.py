"""The blocking client."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from dte.client import calls
from dte.client.calls import Call, Request, Response
from dte.client.errors import JobFailed, Unreachable
from dte.client.replies import Job, JobSummary, WorkerInfo
from dte.core.operations import Number
from dte.wire.connection import is_silent

T = TypeVar("T")

RETRY_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses before a request is sent again that can be; a master restarts in less."""


class Client:
    """A master, for programs that wait. It may be used by several threads.

    Every method raises `dte.Unreachable` when the master does not answer, and what the master says
    is wrong as the `dte.DteError` that it is.

    Args:
        master_url: as ``http://host:port``.
    """

    def __init__(self, master_url: str = "http://localhost:5000") -> None:
        self.master_url = master_url
        self._host, self._port = calls.check_url(master_url)
        self._idle: list[http.client.HTTPConnection] = []

    def submit(self, formula: str) -> Job:
        """Submit a formula; the job has an `id` to ask for later.

        Raises:
            FormulaError: it has a syntax error.
            TooLarge: it is longer than the master takes.
            Busy: too much work waits there.
        """
        return self._run(calls.submit(formula))

    def compute(self, formula: str, timeout_s: float | None = None) -> Number:
        """Submit a formula and give its value.

        Raises:
            JobFailed: there is none, because of a division by zero, say.
            WaitTimeout: not within `timeout_s` seconds; the job goes on.
        """
        return self._run(calls.compute(formula, timeout_s)).result()

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
        try:
            request = next(call)
            while True:
                request = call.send(self._send(request))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _send(self, request: Request) -> Response:
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._send_once(request)
            except ConnectionRefusedError:
                pass  # It has not arrived, whatever it is.
            except (OSError, http.client.HTTPException) as error:
                # Who was silent once is not asked again: each time takes a minute.
                if not request.repeatable or isinstance(error, TimeoutError):
                    raise self._unreachable(request, error) from error
            time.sleep(pause_s)
        try:
            return self._send_once(request)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(request, error) from error

    def _unreachable(self, request: Request, error: Exception) -> Unreachable:
        accepted = (
            ""
            if request.repeatable or isinstance(error, ConnectionRefusedError)
            else ("; whether it was accepted is not known")
        )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"no reply from {self.master_url}: {reason}{accepted}")

    def _send_once(self, request: Request) -> Response:
        connection = self._connection()
        try:
            connection.timeout = request.timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(request.timeout_s)
            connection.request(
                request.method, request.path, request.body, {"Content-Type": "application/json"}
            )
            reply = connection.getresponse()
            body = reply.read()
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
        return http.client.HTTPConnection(self._host, self._port)
