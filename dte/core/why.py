"""Why a job has not ended: what each of its unfinished operations waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dte.core.graph.call import Call, CallState
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Worker

PLACES_MAX = 100
"""For so many calls their place in the queue is looked up: each costs what stands before it."""
NAMED_MAX = 10
AWAY = ("gone", "draining", "pausing")


@dataclass(frozen=True, slots=True)
class Reason:
    """What an operation, or the job as a whole, waits for.

    Attributes:
        node: a call's name; "" for the job, or all of its arithmetic.
        state: the call's, or the job's.
        waits_for: ``operands``, ``jobs``, ``worker`` (none is there that could), ``slot`` (all
            that could are busy), ``delay``, ``retry``, ``journal``, ``restart``, ``stop`` (a worker
            is to stop it) or ``result`` (a worker is at it).
        text: the same for people.
        names: the operands, or the workers, that it waits for; the first of them.
        place: how many calls of its handler come before it, if it waits for a slot.
        until: when it goes on, if it waits for a moment.
    """

    node: str
    state: str
    waits_for: str
    text: str
    names: tuple[str, ...] = ()
    place: int | None = None
    until: float | None = None


def reasons(core: Scheduler, now: float, job: Job) -> Iterator[Reason]:
    """The reasons why a job has not ended, one for each call that has not; none if it has."""
    if job.is_terminal:
        return
    state = job.shown_state.value
    if job.graph is None:
        text = "its end is being recorded"
        waits_for = "journal"
        if job.state is not JobState.ENDING:
            text, waits_for = "it is read again after the master's restart", "restart"
        yield Reason("", state, waits_for, text)
        return
    calls = job.calls
    awaited = (
        [other for other in calls.awaited if not other.is_terminal] if calls is not None else []
    )
    if awaited:
        names = tuple(str(other.number) for other in awaited[:NAMED_MAX])
        text = f"it begins when {_listed('job', names, len(awaited))} ended"
        yield Reason("", state, "jobs", text, names)
    if job.graph.remaining:
        yield _arithmetic(core, job)
    places = PLACES_MAX
    for call in calls.calls.values() if calls is not None else ():
        if call.is_terminal:
            continue
        if call.state is CallState.READY:
            places -= 1
        yield _call(core, now, call, bool(awaited), places >= 0)


def _arithmetic(core: Scheduler, job: Job) -> Reason:
    graph = job.graph
    assert graph is not None
    state, ready = job.state.value, len(graph.ready)
    there = [worker for worker in core.workers() if worker.announcement.arithmetic]
    able = [worker for worker in there if worker.state not in AWAY]
    left = f"{graph.remaining} arithmetic operations are left, {ready} of them ready"
    if not able:
        text = f"{left}; no worker that does arithmetic is there{_away(there)}"
        return Reason(
            "", state, "worker", text, tuple(w.announcement.name for w in there[:NAMED_MAX])
        )
    if not ready:
        return Reason("", state, "result", f"{left}; the others wait for workers' results")
    text = f"{left}; {len(able)} workers do arithmetic"
    return Reason("", state, "slot", text, tuple(w.announcement.name for w in able[:NAMED_MAX]))


def _call(core: Scheduler, now: float, call: Call, awaits_jobs: bool, with_place: bool) -> Reason:
    node, state = call.name, call.shown_state.value
    if call.state is CallState.WAITING:
        if awaits_jobs and not call.missing:
            return Reason(node, state, "jobs", "it begins with its job")
        missing = _missing(call)
        names = tuple(missing[:NAMED_MAX])
        text = f"it begins when {_listed('node', names, max(len(missing), 1))} ended"
        return Reason(node, state, "operands", text, names)
    if call.state is CallState.PAUSED:
        return _paused(now, call)
    if call.state is CallState.READY:
        return _ready(core, call, with_place)
    if call.state is CallState.ENDING or (call.lease is not None and not call.lease.sent):
        what = "its end" if call.state is CallState.ENDING else "that it is handed out"
        return Reason(node, state, "journal", f"{what} is being recorded")
    since = f" for {now - call.started_at:.1f} s" if call.started_at is not None else ""
    if call.state is CallState.CANCELLING:
        text = f"worker {call.worker} is to stop it"
        return Reason(node, state, "stop", text, (call.worker,))
    text = f"worker {call.worker} has been at it{since}, attempt {call.attempts}"
    if call.progress is not None:
        fraction, announcement = call.progress
        text += f"; {fraction:.0%} done" + (f": {announcement}" if announcement else "")
    return Reason(node, state, "result", text, (call.worker,))


def _missing(call: Call) -> list[str]:
    """What a call waits for, as far as it has a name."""
    assert call.job is not None
    assert call.job.calls is not None
    calls = call.job.calls
    found = []
    for name in dict.fromkeys((*call.refs, *call.after)):
        other = calls.get(name)
        if (other is None and name not in call.operands) or (
            other is not None and not other.is_terminal
        ):
            found.append(name)
    return found


def _paused(now: float, call: Call) -> Reason:
    assert call.resumes_at is not None
    left_s = max(0.0, call.resumes_at - now)
    tried = call.failures + call.lost
    if not tried:
        text = f"it is not to begin for another {left_s:.1f} s"
        return Reason(call.name, call.state.value, "delay", text, until=call.resumes_at)
    text = f"it is tried again in {left_s:.1f} s, after attempt {call.attempts} failed"
    if call.error:
        text += f": {call.error}"
    return Reason(call.name, call.state.value, "retry", text, until=call.resumes_at)


def _ready(core: Scheduler, call: Call, with_place: bool) -> Reason:
    node, state, handler = call.name, call.state.value, call.handler
    there = [worker for worker in core.workers() if handler in worker.announcement.handlers]
    able = [worker for worker in there if worker.state not in AWAY]
    if not able:
        text = f"no worker with the handler {handler!r} is there{_away(there)}"
        names = tuple(worker.announcement.name for worker in there[:NAMED_MAX])
        return Reason(node, state, "worker", text, names)
    place = core.calls.ready.place(call) if with_place else None
    before = "" if place is None else f"; {place} calls come before it"
    text = (
        f"{_listed('worker', tuple(w.announcement.name for w in able[:NAMED_MAX]), len(able), '')} "
    )
    text += f"can do it, without a free slot{before}"
    names = tuple(worker.announcement.name for worker in able[:NAMED_MAX])
    return Reason(node, state, "slot", text, names, place)


def _away(workers: list[Worker]) -> str:
    return f" ({len(workers)} were, and are gone, leaving or pausing)" if workers else ""


def _listed(what: str, names: tuple[str, ...], count: int, verb: str = " has") -> str:
    if count == 1 and names:
        return f"{what} {names[0]}{verb}"
    if not names:
        return f"what it needs{verb}"
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return f"{what}s {', '.join(names)}{more}{' have' if verb else ''}"
