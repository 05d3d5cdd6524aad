"""The client's calls, built once and without any input or output.

A call is a generator: it yields a `Request`, is sent the `Response`, and returns its result. The
shells (`blocking`, `asynchronous`) only carry requests to the master and responses back.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dte.client.errors import JobFailed, MasterFault, WaitTimeout
from dte.client.replies import BatchAccepted, ErrorReply, Job, JobSummary, WorkerInfo
from dte.core.errors import Busy, DteError, FormulaError, InvalidRequest, NotFound, TooLarge
from dte.core.operations import Number
from dte.wire.codec import Decoder, Malformed, encode

T = TypeVar("T")

WAIT_S = 20.0
"""How long one request is held by the master; longer waits are several."""
BATCH_FORMULAS = 2_000
"""Formulas in one request: many, for speed, and few enough to be answered soon."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send.

    Attributes:
        timeout_s: silence after which there will be no response.
        repeatable: whether sending it twice does no harm.
    """

    method: str
    path: str
    body: bytes = b""
    timeout_s: float = 30.0
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    body: bytes
    retry_after: str | None = None


Call = Generator[Request, Response, T]

_job: Decoder[Job] = Decoder(Job)
_jobs: Decoder[list[Job]] = Decoder(list[Job])
_summaries: Decoder[list[JobSummary]] = Decoder(list[JobSummary])
_workers: Decoder[list[WorkerInfo]] = Decoder(list[WorkerInfo])
_accepted: Decoder[BatchAccepted] = Decoder(BatchAccepted)
_error: Decoder[ErrorReply] = Decoder(ErrorReply)

_ERRORS: dict[str, type[DteError]] = {
    error.code: error for error in (InvalidRequest, NotFound, TooLarge, Busy)
}


def submit(formula: str, wait_s: float = 0.0) -> Call[Job]:
    """Submit a formula, and wait up to `wait_s` seconds for its end."""
    path = f"/submit?wait={wait_s:g}" if wait_s else "/submit"
    body = encode({"task": formula})
    return _read(_job, (yield Request("POST", path, body, 30 + wait_s, repeatable=False)))


def job(number: int, wait_s: float = 0.0) -> Call[Job]:
    """How a job stands, after waiting up to `wait_s` seconds for its end."""
    path = f"/job/{number}?wait={wait_s:g}" if wait_s else f"/job/{number}"
    return _read(_job, (yield Request("GET", path, timeout_s=30 + wait_s)))


def jobs() -> Call[list[JobSummary]]:
    """The last 100 jobs, the newest first."""
    return _read(_summaries, (yield Request("GET", "/jobs")))


def workers() -> Call[list[WorkerInfo]]:
    """The workers that the master knows."""
    return _read(_workers, (yield Request("GET", "/worker")))


def wait(number: int, timeout_s: float | None) -> Call[Job]:
    """The job when it has ended."""
    deadline = _deadline(timeout_s)
    while True:
        found = yield from job(number, _wait_s(deadline))
        if found.finished:
            return found
        if time.monotonic() >= deadline:
            assert timeout_s is not None
            raise WaitTimeout([number], timeout_s)


def compute(formula: str, timeout_s: float | None) -> Call[Job]:
    """Submit a formula, and give the job when it has ended."""
    deadline = _deadline(timeout_s)
    submitted = yield from submit(formula, _wait_s(deadline))
    if submitted.finished:
        return submitted
    left_s = None if timeout_s is None else max(0.0, deadline - time.monotonic())
    try:
        return (yield from wait(submitted.id, left_s))
    except WaitTimeout:
        assert timeout_s is not None
        raise WaitTimeout([submitted.id], timeout_s) from None


def map_formulas(formulas: Sequence[str], timeout_s: float | None) -> Call[list[Job]]:
    """Submit formulas in batches, and give the jobs, in order, when all have ended."""
    deadline = _deadline(timeout_s)
    ended: list[Job] = []
    for start in range(0, len(formulas), BATCH_FORMULAS):
        part = formulas[start : start + BATCH_FORMULAS]
        ended += yield from _map_batch(part, start, deadline, timeout_s)
    return ended


def _map_batch(
    part: Sequence[str], start: int, deadline: float, timeout_s: float | None
) -> Call[list[Job]]:
    wait_s = _wait_s(deadline)
    # A wait of 0 would leave out how the jobs stand.
    path = f"/submit?wait={max(wait_s, 0.001):g}"
    request = Request("POST", path, encode({"tasks": part}), 60 + wait_s, repeatable=False)
    try:
        accepted = _read(_accepted, (yield request))
    except FormulaError as error:
        index = start + (error.index or 0)
        raise FormulaError(error.reason, error.column, error.caret, index) from None
    found = accepted.jobs
    while not all(job.finished for job in found):
        if time.monotonic() >= deadline:
            assert timeout_s is not None
            raise WaitTimeout(accepted.job_ids, timeout_s)
        # The ids of one batch are in one range.
        ids = f"{accepted.job_ids[0]}-{accepted.job_ids[-1]}"
        wait_s = _wait_s(deadline)
        path = f"/jobs?ids={ids}&wait={wait_s:g}"
        found = _read(_jobs, (yield Request("GET", path, timeout_s=60 + wait_s)))
    return found


def results(jobs: list[Job], return_exceptions: bool) -> list[Number | JobFailed]:
    """The values of jobs that have ended, or their failures.

    Raises:
        JobFailed: the first that failed, unless they are to be returned.
    """
    values: list[Number | JobFailed] = []
    for job in jobs:
        try:
            values.append(job.result())
        except JobFailed as error:
            if not return_exceptions:
                raise
            values.append(error)
    return values


def number_of(job: Job | int) -> int:
    """The id of a job that is given as itself or as its id."""
    return job.id if isinstance(job, Job) else job


def _deadline(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s


def _wait_s(deadline: float) -> float:
    return min(WAIT_S, max(0.0, deadline - time.monotonic()))


def _read(decoder: Decoder[T], response: Response) -> T:
    """The value of a good response.

    Raises:
        DteError: what the master says is wrong.
    """
    if response.status != 200:
        raise _error_of(response)
    try:
        return decoder.decode(response.body)
    except Malformed as error:
        raise MasterFault(f"not a reply of a dte master: {error}") from None


def _error_of(response: Response) -> DteError:
    try:
        reply = _error.decode(response.body)
    except Malformed:
        text = response.body[:200].decode(errors="replace").strip()
        return MasterFault(f"status {response.status}, not from a dte master: {text}")
    if reply.code == FormulaError.code:
        return FormulaError(reply.reason, reply.column, reply.caret, reply.index)
    if reply.code == Busy.code:
        retry_after = response.retry_after or "1"
        return Busy(reply.error, int(retry_after) if retry_after.isdigit() else 1)
    return _ERRORS.get(reply.code, MasterFault)(reply.error)


def check_url(url: str) -> tuple[str, int]:
    """Host and port of a master's URL.

    Raises:
        ValueError: it is not of the form ``http://HOST[:PORT]``.
    """
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host:
        host, port = port, "80"
    if scheme != "http" or not host or "/" in host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{url!r} is not a master's URL; http://HOST:PORT is expected")
    return host.strip("[]"), int(port)
