"""A job: what a client submits and asks about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.states import Stateful


class JobState(Enum):
    """The states of a job; the last four are terminal.

    accepting ──▶ waiting ──▶ running ──▶ ending ──▶ succeeded, failed, timed_out, cancelled
                     │           └──▶ cancelling ▲
                     └───────────────────────────┘

    A job is accepting until its acceptance is recorded, and nobody sees it before. It is ending
    until its end is recorded, and nobody sees its end before. It is cancelling while workers stop
    its calls.
    """

    ACCEPTING = "accepting"
    WAITING = "waiting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__  # Members are unique; the hash of `Enum` costs more than `enter`.


def state_after(state: CallState) -> JobState:
    """The end of a job by that of the call that failed it."""
    if state is CallState.TIMED_OUT:
        return JobState.TIMED_OUT
    return JobState.CANCELLED if state is CallState.CANCELLED else JobState.FAILED


TERMINAL = frozenset((JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT, JobState.CANCELLED))
NEXT_STATES: dict[JobState, frozenset[JobState]] = {
    JobState.ACCEPTING: frozenset((JobState.WAITING,)),
    JobState.WAITING: frozenset((JobState.RUNNING, JobState.CANCELLING, JobState.ENDING)),
    JobState.RUNNING: frozenset((JobState.CANCELLING, JobState.ENDING)),
    JobState.CANCELLING: frozenset((JobState.ENDING,)),
    JobState.ENDING: TERMINAL,
    **dict.fromkeys(TERMINAL, frozenset()),
}


@dataclass(slots=True, eq=False)
class Job(Stateful[JobState]):
    """One submitted formula, call or graph of calls.

    Attributes:
        number: the job's id, an integer from 1.
        task: the formula, cut after `TASK_CHARS_KEPT`; a description for people if there is a plan.
        operations: the number of its operations, calls included.
        submitted_at: a time of the wall clock, in seconds since 1970, like the other times.
        graph: the arithmetic that is left; None when the job ends, so that its memory is freed, and
            until a job from before a restart has been read again.
        in_rotation: the ready-set has the job in its rotation.
        answer: the formula's value, or the JSON of another answer.
        trace: the stack trace of the handler that failed it.
        priority: higher is sooner.
        calls: the part of its operations that are calls.
        plan: its whole text where it is more than a formula.
        awaited: jobs that must end before any of its calls begins.
        run_on_failure: it begins even if one of these failed.
        expects: names of jobs that must end before, too, and that are not there yet.
        awaits: how many of these have not ended.
        closing: it has failed, and ends when its calls that have not begun are cancelled.
        blocked: no call begins yet, as one of these has not ended.
        cancel_accepted: a cancel is recorded or being recorded, so it can only end as cancelled.
        cancelled: the cancel is recorded.
        notify: a URL to be told of its end; "" for none.
        retry_of: the number of the job whose failed part it repeats.
        size: about how many bytes it takes besides its arithmetic.
        owner: whose share of the bounds it uses; "" for the machine's own user.
        cancelled_by: the owner who cancelled it; "" for the machine's own user, and after a
            restart.
    """

    NEXT: ClassVar = NEXT_STATES

    number: int
    task: str
    submitted_at: float
    operations: int
    graph: Graph | None
    state: JobState = JobState.ACCEPTING
    started_at: float | None = None
    ended_at: float | None = None
    answer: Number | bytes | None = None
    error: str | None = None
    operations_done: int = 0
    in_rotation: bool = False
    priority: int = 0
    calls: CallGraph | None = None
    plan: str | None = None
    awaited: Sequence[Job] = ()
    run_on_failure: bool = False
    expects: Collection[str] = ()
    awaits: int = 0
    closing: bool = False
    blocked: bool = False
    cancel_accepted: bool = False
    cancelled: bool = False
    size: int = 0
    notify: str = ""
    trace: str | None = None
    retry_of: int | None = None
    owner: str = ""
    cancelled_by: str = ""

    def each_call(self) -> Iterable[Call]:
        return self.calls.calls.values() if self.calls is not None else ()

    @property
    def progress(self) -> int:
        """The number of operations that have a result: one that failed or was skipped has none."""
        if self.graph is None:
            return self.operations_done
        if self.calls is None:
            return self.operations - self.graph.remaining
        calls = len(self.calls.calls) - self.calls.succeeded
        return self.operations - self.graph.remaining - calls

    def result_lost(self) -> None:
        """Count a result less: that of a call which failed after all, as it cannot be recorded."""
        assert self.calls is not None, "it is a job of calls"
        self.calls.succeeded -= 1
        self.operations_done -= 1

    @property
    def left(self) -> int:
        """The number of operations that have not ended."""
        if self.graph is None:
            return self.operations - self.operations_done
        return self.graph.remaining + (self.calls.remaining if self.calls is not None else 0)

    @property
    def goes_on(self) -> bool:
        """False once it ends, fails or is being cancelled."""
        is_cancelling = self.state is JobState.CANCELLING
        return self.graph is not None and not is_cancelling and not self.closing

    @property
    def label(self) -> str:
        return f"job {self.number}"

    @property
    def shown_state(self) -> JobState:
        """The state that clients may see: an end, and a cancel, only once it is recorded."""
        if self.cancelled and not self.is_terminal:
            return JobState.CANCELLING
        if self.state is not JobState.ENDING:
            return self.state
        return JobState.WAITING if self.started_at is None else JobState.RUNNING


TASK_CHARS_KEPT = 16_384
"""A longer formula is kept, and listed, up to here with a ``…``; the graph has the rest."""


def kept_task(task: str) -> str:
    return task if len(task) <= TASK_CHARS_KEPT else task[:TASK_CHARS_KEPT] + "…"


JOB_BYTES, CALL_BYTES = 500, 800
"""About how much a job takes besides its texts, its calls and a long answer, and how much a call
takes besides its texts."""
PLAN_BYTES_KEPT = 1_000_000
"""The most bytes of an ended job's calls and plan that stay in memory if the journal has them."""
EDGES_KEPT = 1_000
"""The most edges of an ended job that stay in memory."""


def kept_bytes(job: Job) -> int:
    """About how many bytes an ended job takes."""
    size = JOB_BYTES + len(job.task) + _plan_bytes(job)
    if job.trace is not None:
        size += len(job.trace)
    if isinstance(job.answer, int):
        size += job.answer.bit_length() // 8
    elif isinstance(job.answer, bytes):
        size += len(job.answer)
    return size


def _plan_bytes(job: Job) -> int:
    """About how many bytes an ended job's calls and plan take, with the results of the calls."""
    if job.calls is not None:
        return job.size + CALL_BYTES * len(job.calls.calls)
    return 0 if job.plan is None else len(job.plan)


def forget_large_plan(job: Job, is_recorded: bool) -> CallGraph | None:
    """Forget a large plan of an ended job, with its calls; only the edges if nothing is recorded.

    Returns:
        Calls to be freed in slices.
    """
    calls = job.calls
    if calls is None and job.plan is None:
        return None
    # A dialect's worker may repeat its report on a task, which is the only call of its job.
    is_task = calls is not None and len(calls.calls) == 1
    if is_recorded and job.plan is not None and not is_task and _plan_bytes(job) > PLAN_BYTES_KEPT:
        job.plan = job.calls = None
        if calls is not None:
            calls.unused = True
    if calls is None or (not calls.unused and calls.edges <= EDGES_KEPT):
        return None
    return calls
