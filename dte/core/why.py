"""The reasons why a job has not ended, one for each of its unfinished operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dte.core.calls.routing import can_run
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CallGraph
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Worker

POSITIONS_MAX = 100
"""Calls whose position in the queue is looked up: each look-up costs what is ahead of the call."""
NAMED_MAX = 10
FAILING_MAX = 3
"""Workers that cannot run calls are named with their reasons up to here."""
AWAY = ("gone", "draining", "pausing")


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why an operation, or the job as a whole, has not ended.

    Attributes:
        node: a call's name; "" for the job, or for all of its arithmetic.
        state: the call's, or the job's.
        waits_for: ``operands``, ``jobs``, ``worker`` (none that could run it is there), ``slot``
            (all that could are busy), ``delay``, ``retry``, ``journal``, ``restart``, ``stop`` (a
            worker must stop it) or ``result`` (a worker runs it).
        text: the reason for people.
        names: the first of the operands, or of the workers, that it waits for.
        position: the number of calls of its handler that are ahead of it, if it waits for a slot.
        until: when it goes on, by the wall clock, if it waits for a moment.
    """

    node: str
    state: str
    waits_for: str
    text: str
    names: tuple[str, ...] = ()
    position: int | None = None
    until: float | None = None


def reasons(core: Scheduler, now: float, job: Job) -> Iterator[Reason]:
    """The reasons why a job has not ended: one for each unfinished call; none if it has ended."""
    if job.is_terminal:
        return
    state = job.shown_state.value
    if job.state is JobState.ENDING:
        yield Reason("", state, "journal", "its end is being recorded")
        return
    if job.graph is None:
        yield Reason("", state, "restart", "it is being read again after the master's restart")
        return
    awaited = [str(other.number) for other in job.awaited if not other.is_terminal]
    if awaited:
        text = f"it begins after {_listed('job', awaited)}"
        yield Reason("", state, "jobs", text, tuple(awaited[:NAMED_MAX]))
    expected = sorted(job.expects)
    if expected:
        text = f"it begins after {_listed('task', expected)}, not submitted yet"
        yield Reason("", state, "jobs", text, tuple(expected[:NAMED_MAX]))
    if job.graph.remaining:
        yield _arithmetic(core, job, job.graph.remaining, len(job.graph.ready))
    if job.calls is None:
        return
    positions = POSITIONS_MAX
    for call in job.each_call():
        if call.is_terminal:
            continue
        positions -= call.state is CallState.READY
        yield _call(core, now, job.calls, call, job.blocked, positions >= 0)


def _arithmetic(core: Scheduler, job: Job, left: int, ready: int) -> Reason:
    state = job.state.value
    present = [worker for worker in core.workers() if worker.announcement.arithmetic]
    able = [worker for worker in present if worker.state not in AWAY]
    text = f"{left} arithmetic operations are left, {ready} of them ready"
    if not able:
        text = f"{text}; no worker does arithmetic{_away(present)}"
        return Reason("", state, "worker", text, _names(present))
    if not ready:
        return Reason("", state, "result", f"{text}; the others wait for results")
    return Reason("", state, "slot", f"{text}; {len(able)} workers do arithmetic", _names(able))


def _call(
    core: Scheduler,
    now: float,
    calls: CallGraph,
    call: Call,
    awaits_jobs: bool,
    with_position: bool,
) -> Reason:
    node, state, record = call.name, call.shown_state.value, call.record
    if call.state is CallState.WAITING:
        if awaits_jobs and not call.missing:
            return Reason(node, state, "jobs", "it begins with its job")
        missing = _missing(calls, call)
        text = f"it begins after {_listed('node', missing)}"
        return Reason(node, state, "operands", text, tuple(missing[:NAMED_MAX]))
    if call.state is CallState.PAUSED:
        return _paused(core, now, call)
    if call.state is CallState.READY:
        return _ready(core, call, with_position)
    if call.state is CallState.ENDING:
        return Reason(node, state, "journal", "its end is being recorded")
    lease = core.calls.leases.get(record.lease)
    if lease is not None and not lease.sent:
        return Reason(node, state, "journal", "its hand-over is being recorded")
    if call.state is CallState.CANCELLING:
        return Reason(node, state, "stop", f"worker {record.worker} must stop it", (record.worker,))
    since = ""
    if record.started_at is not None:
        since = f" for {max(0.0, now + core.jobs.wall_offset_s - record.started_at):.1f} s"
    text = f"worker {record.worker} has been running it{since}, attempt {record.attempts}"
    if call.progress is not None:
        fraction, report = call.progress
        text += f"; {fraction:.0%} done" + (f": {report}" if report else "")
    return Reason(node, state, "result", text, (record.worker,))


def _missing(calls: CallGraph, call: Call) -> list[str]:
    """The operands that a call waits for, as far as they have names."""
    found = []
    for name in dict.fromkeys((*call.refs, *call.after)):
        other = calls.get(name)
        if name not in call.operands if other is None else not other.is_terminal:
            found.append(name)
    return found


def _paused(core: Scheduler, now: float, call: Call) -> Reason:
    record, state, offset_s = call.record, call.state.value, core.jobs.wall_offset_s
    until = call.terms.not_before if call.resumes_at is None else call.resumes_at + offset_s
    assert until is not None
    left_s = max(0.0, until - now - offset_s)
    if not record.failures + record.lost:
        text = f"it begins in {left_s:.1f} s"
        if call.requeued and record.error:
            text += f"; worker {record.worker} returned it: {record.error}"
        return Reason(call.name, state, "delay", text, until=until)
    text = f"retry in {left_s:.1f} s, after attempt {record.attempts} failed"
    if record.error:
        text += f": {record.error}"
    return Reason(call.name, state, "retry", text, until=until)


def _ready(core: Scheduler, call: Call, with_position: bool) -> Reason:
    node, state, handler = call.name, call.state.value, call.handler
    present = [worker for worker in core.workers() if can_run(worker.announcement, call)]
    failing = [worker for worker in present if worker.state == "failing"]
    able = [worker for worker in present if worker.state not in ("failing", *AWAY)]
    if not able:
        away = _away([worker for worker in present if worker not in failing])
        text = f"no worker has the handler {handler!r}" if not failing else _failing(failing)
        return Reason(node, state, "worker", text + away, _names(failing or present))
    position = core.calls.jobs.ready.position(call) if with_position else None
    names = [worker.announcement.name for worker in able]
    text = f"no free slot at {_listed('worker', names)}"
    if position is not None:
        text += f"; calls ahead of it: {position}"
    if failing:
        text += f"; {_failing(failing)}"
    return Reason(node, state, "slot", text, _names(able), position)


def _failing(workers: list[Worker]) -> str:
    """The reasons of the first workers that cannot run calls."""
    texts = [
        f"worker {worker.announcement.name} cannot start processes for handlers: "
        f"{worker.announcement.failing}"
        for worker in workers[:FAILING_MAX]
    ]
    more = len(workers) - len(texts)
    return "; ".join(texts) + (f"; {more} more workers cannot either" if more else "")


def _names(workers: list[Worker]) -> tuple[str, ...]:
    return tuple(worker.announcement.name for worker in workers[:NAMED_MAX])


def _away(workers: list[Worker]) -> str:
    return f" ({len(workers)} gone, draining or pausing)" if workers else ""


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED_MAX])}{more}"
