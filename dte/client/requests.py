"""The client's calls, built once and without any input or output.

A call is a generator: it yields a `Request`, is sent the `Response`, and returns its result.
`dte.client.patience` sends requests again, and the shells (`blocking`, `asynchronous`) only carry
them to the master and responses back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from dte.client.errors import JobFailed, MasterFault
from dte.client.exact import Decoder
from dte.client.exchange import Call, Deadline, Request, read
from dte.client.keys import key_header
from dte.client.replies import BatchAccepted, Job, JobSummary, WorkerInfo
from dte.core.errors import FormulaError, TooLarge
from dte.wire.codec import encode

WAIT_S = 20.0
"""How long one request is held by the master; longer waits are several."""
SOON_S = 0.1
"""A master that is ending lets go at once of what it is to hold; it is given this time."""
BATCH_FORMULAS = 2_000
BATCH_CHARS = 1_000_000
"""Formulas in one request: many, for speed, and few enough to be answered soon."""
URL_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)

_job: Decoder[Job] = Decoder(Job)
_jobs: Decoder[list[Job]] = Decoder(list[Job])
_summaries: Decoder[list[JobSummary]] = Decoder(list[JobSummary])
_workers: Decoder[list[WorkerInfo]] = Decoder(list[WorkerInfo])
_accepted: Decoder[BatchAccepted] = Decoder(BatchAccepted)


def submit(formula: str, key: str | None = None) -> Call[Job]:
    """Submit a formula, under a key of the caller's or a new one."""
    return (yield from submit_body("/submit", encode({"task": formula}), key))


def submit_body(path: str, body: bytes, key: str | None) -> Call[Job]:
    """Submit the JSON of one job."""
    headers = key_header(key)
    submitted = read(_job, (yield Request("POST", path, body, headers)))
    # A lone number has its value at once, which the short reply leaves out.
    return (yield from job(submitted.id)) if submitted.finished else submitted


def job(number: int) -> Call[Job]:
    """How a job stands."""
    return read(_job, (yield Request("GET", f"/job/{number}")))


def jobs() -> Call[list[JobSummary]]:
    """The last 100 jobs, the newest first."""
    return read(_summaries, (yield Request("GET", "/jobs")))


def workers() -> Call[list[WorkerInfo]]:
    """The workers that the master knows."""
    return read(_workers, (yield Request("GET", "/worker")))


def wait(number: int, timeout_s: float | None) -> Call[Job]:
    """The job when it has ended."""
    return (yield from _wait(number, Deadline(timeout_s)))


def _wait(number: int, deadline: Deadline) -> Call[Job]:
    pause_s = 0.0
    while True:
        asked_at = time.monotonic() + pause_s
        path = f"/job/{number}"
        found = read(_job, (yield _question(path, deadline, [number], pause_s)))
        if found.finished:
            return found
        if not deadline.left_s():
            raise deadline.missed([number])
        pause_s = _pause_s(asked_at)


def compute(formula: str, timeout_s: float | None, key: str | None = None) -> Call[Job]:
    """Submit a formula, and give the job when it has ended."""
    body = encode({"task": formula})
    return (yield from run_body("/submit", body, key, Deadline(timeout_s)))


def run_body(path: str, body: bytes, key: str | None, deadline: Deadline) -> Call[Job]:
    """Submit the JSON of one job, and give the job when it has ended."""
    headers = key_header(key)
    request = Request("POST", path, body, headers, hold_s=WAIT_S, deadline=deadline)
    submitted = read(_job, (yield request))
    # The short reply, to a request that was not held, says at most that it has ended.
    if submitted.succeeded or submitted.error is not None:
        return submitted
    return (yield from _wait(submitted.id, deadline))


def map_formulas(formulas: Iterable[str], timeout_s: float | None) -> Call[list[Job]]:
    """Submit formulas in batches, and give the jobs, in order, when all have ended."""
    if isinstance(formulas, str):
        raise TypeError("a list of formulas is expected, not one formula")
    formulas = list(formulas)
    deadline = Deadline(timeout_s)
    ended: list[Job] = []
    count_max = BATCH_FORMULAS
    while len(ended) < len(formulas):
        part = _batch(formulas, len(ended), count_max)
        try:
            ended += yield from _map_batch(part, deadline)
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


def _map_batch(part: Sequence[str], deadline: Deadline) -> Call[list[Job]]:
    body = encode({"tasks": part})
    headers = key_header(None)  # One a batch: a smaller one is another submission.
    request = Request("POST", "/submit", body, headers, hold_s=WAIT_S, deadline=deadline)
    asked_at = time.monotonic()
    accepted = read(_accepted, (yield request))
    found = accepted.jobs
    while len(found) < len(part) or not all(job.finished for job in found):
        if len(accepted.job_ids) != len(part):
            raise MasterFault(f"{len(accepted.job_ids)} ids for {len(part)} formulas")
        if found and not deadline.left_s():
            raise deadline.missed(accepted.job_ids)
        # The ids of one batch are in one range.
        path = f"/jobs?ids={accepted.job_ids[0]}-{accepted.job_ids[-1]}"
        pause_s = _pause_s(asked_at)
        asked_at = time.monotonic() + pause_s
        found = read(_jobs, (yield _question(path, deadline, accepted.job_ids, pause_s)))
        if len(found) != len(part):
            raise MasterFault(f"{len(found)} jobs for {len(part)} ids")
    return found


def _question(path: str, deadline: Deadline, jobs: Sequence[int], pause_s: float) -> Request:
    """How do these jobs stand when they have ended?"""
    return Request("GET", path, hold_s=WAIT_S, deadline=deadline, jobs=jobs, pause_s=pause_s)


def _pause_s(asked_at: float) -> float:
    """The time to wait before asking again about jobs that have not ended."""
    return SOON_S if time.monotonic() - asked_at < SOON_S else 0.0


def results(jobs: list[Job], return_exceptions: bool) -> list[Any]:
    """The values of jobs that have ended, or their failures.

    Raises:
        JobFailed: the first that failed, unless they are to be returned.
    """
    values: list[Any] = []
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
