"""The client's calls, built once and without any input or output.

A call is a generator: it yields a `Request`, is sent the `Response`, and returns its result. The
shells (`blocking`, `asynchronous`) only carry requests to the master and responses back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from dte.client.errors import JobFailed, MasterFault, WaitTimeout
from dte.client.replies import BatchAccepted, ErrorReply, Job, JobSummary, WorkerInfo
from dte.core.errors import (
    Busy,
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    TooLarge,
    WaitTooLong,
)
from dte.core.operations import Number
from dte.wire.codec import Decoder, Malformed, encode

T = TypeVar("T")

WAIT_S = 20.0
"""How long one request is held by the master; longer waits are several."""
SILENCE_S = 60.0
"""Silence after which there will be no response, besides the time that a request is held."""
SILENCE_MIN_S = 5.0
BATCH_FORMULAS = 2_000
BATCH_CHARS = 1_000_000
"""Formulas in one request: many, for speed, and few enough to be answered soon."""
URL_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)


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
    timeout_s: float = SILENCE_S
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


def submit(formula: str) -> Call[Job]:
    """Submit a formula."""
    body = encode({"task": formula})
    submitted = _read(_job, (yield Request("POST", "/submit", body, repeatable=False)))
    # A lone number has its value at once, which the short reply leaves out.
    return (yield from job(submitted.id)) if submitted.finished else submitted


def job(number: int) -> Call[Job]:
    """How a job stands."""
    return _read(_job, (yield Request("GET", f"/job/{number}")))


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
        found = _read(_job, (yield from _hold("GET", f"/job/{number}", deadline)))
        if found.finished:
            return found
        if time.monotonic() >= deadline:
            assert timeout_s is not None
            raise WaitTimeout([number], timeout_s)


def compute(formula: str, timeout_s: float | None) -> Call[Job]:
    """Submit a formula, and give the job when it has ended."""
    deadline = _deadline(timeout_s)
    body = encode({"task": formula})
    submitted = _read(_job, (yield from _hold("POST", "/submit", deadline, body)))
    left_s = None if timeout_s is None else max(0.0, deadline - time.monotonic())
    if submitted.answer is not None or submitted.error is not None:
        return submitted
    try:
        return (yield from wait(submitted.id, left_s))
    except WaitTimeout:
        assert timeout_s is not None
        raise WaitTimeout([submitted.id], timeout_s) from None


def map_formulas(formulas: Iterable[str], timeout_s: float | None) -> Call[list[Job]]:
    """Submit formulas in batches, and give the jobs, in order, when all have ended."""
    if isinstance(formulas, str):
        raise TypeError("a list of formulas is expected, not one formula")
    formulas = list(formulas)
    deadline = _deadline(timeout_s)
    ended: list[Job] = []
    count_max = BATCH_FORMULAS
    while len(ended) < len(formulas):
        part = _batch(formulas, len(ended), count_max)
        try:
            ended += yield from _map_batch(part, deadline, timeout_s)
        except FormulaError as error:
            index = len(ended) + (error.index or 0)
            raise FormulaError(error.reason, error.column, error.caret, index) from None
        except TooLarge as error:
            if len(part) == 1:
                text = str(error).removeprefix("formula 0: ")
                raise TooLarge(f"formula {len(ended)}: {text}") from None
            # Nothing of it was accepted. Fewer may be: what is too large alone is found so too.
            count_max = len(part) // 2
    return ended


def _batch(formulas: Sequence[str], start: int, count_max: int) -> list[str]:
    """The next formulas: not too many, and together not too long, but at least one."""
    part, chars = [formulas[start]], len(formulas[start])
    for formula in formulas[start + 1 : start + count_max]:
        chars += len(formula)
        if chars > BATCH_CHARS:
            break
        part.append(formula)
    return part


def _map_batch(part: Sequence[str], deadline: float, timeout_s: float | None) -> Call[list[Job]]:
    body = encode({"tasks": part})
    accepted = _read(_accepted, (yield from _hold("POST", "/submit", deadline, body)))
    found = accepted.jobs
    while len(found) < len(part) or not all(job.finished for job in found):
        if len(accepted.job_ids) != len(part):
            raise MasterFault(f"{len(accepted.job_ids)} ids for {len(part)} formulas")
        if found and time.monotonic() >= deadline:
            assert timeout_s is not None
            raise WaitTimeout(accepted.job_ids, timeout_s)
        # The ids of one batch are in one range.
        path = f"/jobs?ids={accepted.job_ids[0]}-{accepted.job_ids[-1]}"
        found = _read(_jobs, (yield from _hold("GET", path, deadline)))
        if len(found) != len(part):
            raise MasterFault(f"{len(found)} jobs for {len(part)} ids")
    return found


def _hold(method: str, path: str, deadline: float, body: bytes = b"") -> Call[Response]:
    """Make a request that the master holds until what it asks for has ended."""
    wait_max_s = WAIT_S
    while True:
        wait_s = max(0.0, min(wait_max_s, deadline - time.monotonic()))
        held = f"{path}{'&' if '?' in path else '?'}wait={wait_s!r}" if wait_s else path
        # Whoever has little time is not kept waiting for a master that has stopped.
        silence_s = min(SILENCE_S, max(SILENCE_MIN_S, deadline - time.monotonic()))
        request = Request(method, held, body, silence_s + wait_s, repeatable=method == "GET")
        response = yield request
        shorter_s = _wait_max_s(response)
        if shorter_s is None or not shorter_s < wait_s:
            return response
        wait_max_s = shorter_s  # This master holds no request for so long.


def _wait_max_s(response: Response) -> float | None:
    """The longest wait of a master, if a response says that the one asked for was too long."""
    if response.status != WaitTooLong.status:
        return None
    error = _error_of(response)
    return error.wait_max_s if isinstance(error, WaitTooLong) else None


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
    if timeout_s is None:
        return float("inf")
    if not timeout_s >= 0:
        raise ValueError(f"timeout_s is {timeout_s}; a number of seconds from 0 is expected")
    return time.monotonic() + timeout_s


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
    if reply.code == WaitTooLong.code:
        return WaitTooLong("", reply.wait_max_s)
    if reply.code == Busy.code:
        retry_after = response.retry_after or "1"
        return Busy(reply.error, int(retry_after) if retry_after.isdigit() else 1)
    return _ERRORS.get(reply.code, MasterFault)(reply.error)


def check_url(url: str) -> tuple[str, int]:
    """Host and port of a master's URL.

    Raises:
        ValueError: it is not of the form ``http://HOST[:PORT]``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    rest = url.partition("://")[2].rstrip("/")
    if url.partition("://")[0] != "http" or not URL_HOST.fullmatch(rest) or not host:
        raise ValueError(f"{url!r} is not a master's URL; http://HOST:PORT is expected")
    return host, 80 if port is None else port
