"""Tasks: jobs of one call, the only kind of job that the dialects know."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from itertools import islice
from typing import Any

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.errors import InvalidRequest
from dte.core.graph.call import Call, CallState
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable
from dte.master.api.dialects.long_bodies import LONG_BYTES
from dte.wire.codec import encode
from dte.wire.nesting import nests_deeper
from dte.wire.references import has_marks

TASK = "task"
"""The name of a task's only node."""
COUNTED_IN_SLICE = 2_000
NOT_BEGUN = (CallState.WAITING, CallState.PAUSED, CallState.READY)
DEPTH_MAX = 400
"""The deepest nesting of arguments: Python reads about 1,000 levels, and their plan adds some."""


def quoted(value: Any) -> msgspec.Raw:
    """Encode arguments so that nothing in them is read as a reference to another node.

    Raises:
        InvalidRequest: they nest too deep.
    """
    try:
        raw = encode(value)
    except RecursionError:
        raise InvalidRequest("the arguments nest too deep") from None
    # Longer ones are measured in slices when the plan is read.
    if len(raw) <= LONG_BYTES and nests_deeper(raw, DEPTH_MAX):
        raise InvalidRequest(f"the arguments nest more than {DEPTH_MAX} levels deep")
    if has_marks(raw):
        raw = b'{"literal":' + raw + b"}"
    return msgspec.Raw(raw)


def only_call(job: Job) -> Call | None:
    """The call of a task; None for other jobs, and for a task whose call is no longer in memory."""
    if job.calls is None or job.calls.is_formula or len(job.calls.calls) != 1:
        return None
    return next(iter(job.calls.calls.values()))


def task_state(job: Job) -> JobState:
    """The state of a job as one task: it waits again when its call goes back to the queue."""
    if job.is_terminal:
        return job.state
    if job.cancelled:  # The cancellation is recorded; the end will be soon.
        return JobState.CANCELLING
    call = only_call(job)
    if call is None or call.is_terminal:  # An end that is not recorded is not shown yet.
        return JobState.WAITING if job.started_at is None else JobState.RUNNING
    return JobState.WAITING if call.shown_state in NOT_BEGUN else JobState.RUNNING


def count_by_state(jobs: JobTable) -> Generator[None, None, Counter[JobState]]:
    """Count the jobs in memory by their `task_state`, in slices."""
    newest = iter(list(jobs.newest(sys.maxsize)))
    found: Counter[JobState] = Counter()
    while some := list(islice(newest, COUNTED_IN_SLICE)):
        found.update(map(task_state, some))
        yield
    return found


def succeeded(value: Any, bytes_max: int) -> Outcome:
    """The outcome of a call that gave a result; a failure if its JSON is longer than the bound."""
    text = encode(value)
    return Outcome(CallState.SUCCEEDED, text) if len(text) <= bytes_max else too_long(bytes_max)


def too_long(bytes_max: int) -> Outcome:
    """The outcome of a call whose result is too long."""
    error = f"its result has more than {bytes_max} bytes (value_bytes_max)"
    return Outcome(CallState.FAILED, None, error, retry=False)
