"""The exchanges with a master, without any input or output of their own.

An exchange is a generator: it yields a `Request`, is sent the `Response`, and returns a result.
`dte.client.patience` repeats requests that got no reply. The shells (`blocking`, `asynchronous`)
send the requests to the master and pass the responses back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Generic, TypeVar

from dte.client.errors import MasterFault
from dte.client.exact import Decoder, encode
from dte.client.exchange import Deadline, Exchange, Request, read
from dte.client.graphs import AnyHandler, CallOptions, call_body, handler_name
from dte.client.job import Job, JobFailed, JobSummary
from dte.client.keys import key_header
from dte.client.replies import BatchAccepted, LoginLink, NodeInfo, Retried, Why, WorkerInfo
from dte.core.errors import Conflict, FormulaError, TooLarge

WAIT_S = 20.0
"""The longest time that the master holds one request. A longer wait takes several requests."""
SOON_S = 0.1
"""The pause after a reply that came too soon: a master that is shutting down holds no request."""
BATCH_FORMULAS = 2_000
BATCH_CHARS = 1_000_000
"""Bounds of one batch: large for speed, and small enough for a quick reply."""

_job: Decoder[Job] = Decoder(Job)
_jobs: Decoder[list[Job]] = Decoder(list[Job])
_summaries: Decoder[list[JobSummary]] = Decoder(list[JobSummary])
_workers: Decoder[list[WorkerInfo]] = Decoder(list[WorkerInfo])
_accepted: Decoder[BatchAccepted] = Decoder(BatchAccepted)
_retried: Decoder[Retried] = Decoder(Retried)
_link: Decoder[LoginLink] = Decoder(LoginLink)
_why: Decoder[Why] = Decoder(Why)
_nodes: Decoder[list[NodeInfo]] = Decoder(list[NodeInfo])


def submit(formula: str, key: str | None = None) -> Exchange[Job]:
    """Submit a formula, under the given key or a new one."""
    return (yield from submit_body("/submit", _formula_body(formula), key))


def submit_plan(body: bytes, key: str | None) -> Exchange[Job]:
    """Submit the JSON of ``POST /jobs``."""
    return (yield from submit_body("/jobs", body, key))


def submit_call(
    handler: AnyHandler,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    options: CallOptions,
) -> Exchange[Job]:
    """Submit a call of a handler."""
    body = call_body(handler, args, named, options)
    return (yield from submit_plan(body, options.get("key")))


def submit_body(path: str, body: bytes, key: str | None) -> Exchange[Job]:
    """Submit the JSON of one job."""
    headers = key_header(key)
    submitted = read(_job, (yield Request("POST", path, body, headers)))
    # A lone number is its own answer at once, but the short reply leaves the answer out.
    return (yield from job(submitted.id)) if submitted.finished else submitted


def compute(formula: str, timeout_s: float | None, key: str | None = None) -> Exchange[Job]:
    """Submit a formula and wait for the end of its job."""
    body = _formula_body(formula)
    return (yield from run_body("/submit", body, key, Deadline(timeout_s)))


def run_plan(body: bytes, timeout_s: float | None, key: str | None) -> Exchange[Job]:
    """Submit the JSON of ``POST /jobs`` and wait for the end of the job."""
    return (yield from run_body("/jobs", body, key, Deadline(timeout_s)))


def call(
    handler: AnyHandler,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    options: CallOptions,
) -> Exchange[Job]:
    """Submit a call of a handler and wait for the end of its job."""
    body = call_body(handler, args, named, options)
    return (yield from run_plan(body, options.get("timeout_s"), options.get("key")))


def run_body(path: str, body: bytes, key: str | None, deadline: Deadline) -> Exchange[Job]:
    """Submit the JSON of one job and wait for its end."""
    headers = key_header(key)
    request = Request("POST", path, body, headers, hold_s=WAIT_S, deadline=deadline)
    submitted = read(_job, (yield request))
    # The short reply of a request that was not held has `finished`, but neither answer nor error.
    if submitted.succeeded or submitted.error is not None:
        return submitted
    return (yield from _wait(submitted.id, deadline))


def map_each(
    what: Iterable[str] | AnyHandler,
    arguments: Sequence[Any],
    options: CallOptions,
) -> Exchange[list[Job]]:
    """Submit formulas, or calls of a handler, and wait for the end of all.

    Args:
        what: the formulas, or the handler.
        arguments: lists with the arguments of each call, all of one length; for formulas nothing,
            or the time to wait.
    """
    if isinstance(what, str) or callable(what):
        return map_calls(what, arguments, options)
    if options.keys() - {"timeout_s"}:
        raise TypeError("formulas have no options; map a handler with these")
    timeouts_s = [*arguments] or [options.get("timeout_s")]
    if len(timeouts_s) > 1 or not isinstance(timeouts_s[0], int | float | None):
        raise TypeError("formulas take no arguments; map(handler, arguments) calls a handler")
    return map_formulas(what, timeouts_s[0])


def map_formulas(formulas: Iterable[str], timeout_s: float | None) -> Exchange[list[Job]]:
    """Submit formulas in batches and wait for the end of all; return the jobs in order."""
    if isinstance(formulas, str):
        raise TypeError("a list of formulas is expected, not one formula")
    batches: _Batches[str] = _Batches("/submit", _formulas_body, "formula")
    texts = [_checked(formula) for formula in formulas]
    return (yield from batches.run(texts, Deadline(timeout_s)))


def map_calls(
    handler: AnyHandler, arguments: Sequence[Any], options: CallOptions
) -> Exchange[list[Job]]:
    """Submit calls of a handler in batches and wait for the end of all; return the jobs in order.

    Nothing is submitted before all calls are known to be JSON.
    """
    name = handler_name(handler)
    if not arguments:
        raise TypeError(
            f"a list of formulas is expected, not one formula; map({name!r}, arguments) calls a "
            "handler"
        )
    for each in arguments:
        if isinstance(each, str | bytes | Mapping) or not isinstance(each, Iterable):
            raise TypeError(f"map takes lists of arguments, not {each!r:.50}")
    if options.get("key") is not None:
        raise TypeError("a key is that of one job, and map makes one for each call")
    columns = [list(each) for each in arguments]
    if len(lengths := {len(column) for column in columns}) > 1:
        raise ValueError(f"the lists of arguments differ in length: {sorted(lengths)}")
    bodies = [call_body(name, args, {}, options) for args in zip(*columns, strict=True)]
    batches: _Batches[bytes] = _Batches("/jobs", _calls_body, "call")
    return (yield from batches.run(bodies, Deadline(options.get("timeout_s"))))


def _checked(formula: str) -> str:
    """Return a formula; raise `TypeError` if it is no text."""
    if not isinstance(formula, str):
        raise TypeError(f"a formula is a text, such as '1+2', not {type(formula).__name__}")
    return formula


def _formula_body(formula: str) -> bytes:
    if isinstance(formula, bytes | bytearray | memoryview):
        _checked(formula)  # JSON would have it in base64.
    return encode({"task": formula})


def _formulas_body(formulas: Sequence[str]) -> bytes:
    return encode({"tasks": formulas})


def _calls_body(calls: Sequence[bytes]) -> bytes:
    return b'{"jobs":[%s]}' % b",".join(calls)


Item = TypeVar("Item", str, bytes)


@dataclass(frozen=True, slots=True)
class _Batches(Generic[Item]):
    """Submits items in batches, and waits for the ends of their jobs.

    Attributes:
        body: builds the body of a request for some items.
        item: the word for an item in errors.
    """

    path: str
    body: Callable[[Sequence[Item]], bytes]
    item: str

    def run(self, items: Sequence[Item], deadline: Deadline) -> Exchange[list[Job]]:
        """Submit all items; return the jobs in order."""
        ended: list[Job] = []
        count_max = BATCH_FORMULAS
        while len(ended) < len(items):
            part = _batch(items, len(ended), count_max)
            try:
                ended += yield from self._run_batch(part, deadline)
            except FormulaError as error:
                index = len(ended) + (error.index or 0)
                raise FormulaError(error.reason, error.column, error.caret, index) from None
            except TooLarge as error:
                if len(part) == 1:
                    text = str(error).removeprefix("formula 0: ")
                    raise TooLarge(f"{self.item} {len(ended)}: {text}") from None
                # The master accepted none of them. Halving also isolates one that is too large.
                count_max = len(part) // 2
        return ended

    def _run_batch(self, part: Sequence[Item], deadline: Deadline) -> Exchange[list[Job]]:
        headers = key_header(None)  # A key for each batch: a halved batch is another submission.
        body = self.body(part)
        request = Request("POST", self.path, body, headers, hold_s=WAIT_S, deadline=deadline)
        asked_at = time.monotonic()
        accepted = read(_accepted, (yield request))
        found = accepted.jobs
        while len(found) < len(part) or not all(job.finished for job in found):
            if len(accepted.job_ids) != len(part):
                raise MasterFault(f"{len(accepted.job_ids)} ids for {len(part)} {self.item}s")
            if found and not deadline.left_s():
                raise deadline.missed(accepted.job_ids)
            # The ids of a batch are consecutive.
            path = f"/jobs?ids={accepted.job_ids[0]}-{accepted.job_ids[-1]}"
            pause_s = _pause_s(asked_at)
            asked_at = time.monotonic() + pause_s
            found = read(_jobs, (yield _question(path, deadline, accepted.job_ids, pause_s)))
            if len(found) != len(part):
                raise MasterFault(f"{len(found)} jobs for {len(part)} ids")
        return found


def _batch(items: Sequence[Item], start: int, count_max: int) -> list[Item]:
    """Return the next items within the bounds of a batch, at least one."""
    part, chars = [items[start]], len(items[start])
    for item in items[start + 1 : start + count_max]:
        chars += len(item)
        if chars > BATCH_CHARS:
            break
        part.append(item)
    return part


def results(jobs: list[Job], return_exceptions: bool) -> list[Any]:
    """Return the answers of jobs that have ended; return or raise a `JobFailed` if one failed."""
    values: list[Any] = []
    for job in jobs:
        try:
            values.append(job.result())
        except JobFailed as error:
            if not return_exceptions:
                raise
            values.append(error)
    return values


def wait(number: int, timeout_s: float | None) -> Exchange[Job]:
    """Wait for the end of a job."""
    return (yield from _wait(number, Deadline(timeout_s)))


def _wait(number: int, deadline: Deadline) -> Exchange[Job]:
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


def _question(path: str, deadline: Deadline, jobs: Sequence[int], pause_s: float) -> Request:
    """Build a request that the master holds until the jobs have ended."""
    return Request("GET", path, hold_s=WAIT_S, deadline=deadline, jobs=jobs, pause_s=pause_s)


def _pause_s(asked_at: float) -> float:
    """Return the pause before the next question about jobs that have not ended."""
    return SOON_S if time.monotonic() - asked_at < SOON_S else 0.0


def cancel(number: int) -> Exchange[Job]:
    """Cancel a job. A job that was cancelled before is no error."""
    try:
        return read(_job, (yield Request("POST", f"/job/{number}/cancel")))
    except Conflict:  # The reply to the first attempt may have been lost.
        found = yield from job(number)
        if found.state != "cancelled":
            raise
        return found


def retry(number: int) -> Exchange[Job]:
    """Retry the failed part of a job, as a new job."""
    headers = key_header(None)
    again = read(_retried, (yield Request("POST", f"/job/{number}/retry", headers=headers)))
    return Job(again.id, False, retry_of=again.retry_of)


def job(number: int) -> Exchange[Job]:
    """Fetch the status of a job."""
    return read(_job, (yield Request("GET", f"/job/{number}")))


def login_link() -> Exchange[str]:
    """Make a link that logs a browser in once; return it, relative to the master's URL."""
    return read(_link, (yield Request("POST", "/session/link"))).path


def why(number: int) -> Exchange[Why]:
    """Explain why the unfinished operations of a job wait."""
    return read(_why, (yield Request("GET", f"/job/{number}/why")))


def nodes(number: int) -> Exchange[list[NodeInfo]]:
    """List the calls of a job."""
    return read(_nodes, (yield Request("GET", f"/job/{number}/nodes")))


def jobs() -> Exchange[list[JobSummary]]:
    """List the last 100 jobs, the newest first."""
    return read(_summaries, (yield Request("GET", "/jobs")))


def workers() -> Exchange[list[WorkerInfo]]:
    """List the workers that the master knows."""
    return read(_workers, (yield Request("GET", "/worker")))


def number_of(job: Job | int) -> int:
    """Return the id of a job, given as a `Job` or as an id.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(job, Job):
        return job.id
    try:
        return int(job) if isinstance(job, str) else index(job)
    except (TypeError, ValueError):
        raise TypeError(f"one job is expected, as a dte.Job or by its id, not {job!r}") from None
