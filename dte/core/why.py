"""The reasons why a job has not ended, one for each of its unfinished operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from dte.core.calls.held import AWAY, Held, HeldCalls, takes_calls
from dte.core.calls.lease import CallLease
from dte.core.calls.ready import Route, route_of
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CallGraph
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import Scheduler
from dte.core.shares import unscoped
from dte.core.workers.worker import Worker

POSITIONS_MAX = 100
"""Calls of a job whose position in the queue is told."""
AHEAD_MAX = 20_000
"""The queue is counted up to here."""
NAMED_MAX = 10
HOUR_S, DAY_S = 3_600, 86_400
TROUBLED = ("failing", "unreachable")
TROUBLED_MAX = 3
"""Workers that cannot be called, or cannot run calls, are named with their reasons up to here."""

Similar = Callable[[str, Collection[str]], str]
"""Returns the name that is most like a name; "" if none is."""


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why an operation, or the job as a whole, has not ended.

    Attributes:
        node: a call's name; "" for the job, or for all of its arithmetic.
        state: the call's, or the job's.
        waits_for: ``operands``, ``jobs`` (a call that runs may wait for jobs through a client, and
            they for a slot that it holds), ``worker`` (none that could run it is there), ``slot``
            (all that could are busy), ``room`` (too many arguments are on their way to these),
            ``delay``, ``retry``, ``journal``, ``restart``, ``stop`` (a worker must stop it),
            ``silence`` (its worker is not heard of) or ``result`` (a worker runs it).
        text: the reason for people.
        names: the first of the operands, or of the workers, that it waits for.
        position: the number of calls of its handler that are ahead of it, if it waits for a slot
            and is one of the first.
        until: when it goes on, by the wall clock, if it waits for a moment.
    """

    node: str
    state: str
    waits_for: str
    text: str
    names: tuple[str, ...] = ()
    position: int | None = None
    until: float | None = None


def reasons(
    core: Scheduler,
    now: float,
    job: Job,
    held: Held | None = None,
    similar: Similar = lambda name, names: "",
) -> Iterator[Reason]:
    """The reasons why a job has not ended: one for each unfinished call; none if it has ended.

    Args:
        similar: finds the name that was meant by the name of an unknown handler.
    """
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
        text = f"starts after {_listed('job', awaited)}"
        yield Reason("", state, "jobs", text, tuple(awaited[:NAMED_MAX]))
    expected = sorted(map(unscoped, job.expects))
    if expected:
        text = f"starts after {_listed('task', expected)}, not submitted yet"
        yield Reason("", state, "jobs", text, tuple(expected[:NAMED_MAX]))
    if job.graph.remaining:
        yield _arithmetic(core, job, job.graph.remaining, len(job.graph.ready))
    if job.calls is None:
        return
    calls = core.calls
    waits = HeldCalls(held or {}, calls.leases, core.jobs, core.workers(), calls.routing)
    explained = _Calls(core, now, job, waits, similar)
    left = job.graph.remaining
    for call in job.each_call():
        if not call.is_terminal:
            left += 1
            yield explained.reason(call, job.blocked)
    if not left:  # A long job ends in slices.
        yield Reason("", state, "journal", "it ends in a moment")


def _arithmetic(core: Scheduler, job: Job, left: int, ready: int) -> Reason:
    state = job.state.value
    present = [worker for worker in core.workers() if worker.announcement.arithmetic]
    able = [worker for worker in present if worker.state not in AWAY]
    text = f"{_counted(left, 'arithmetic operation')} {_are(left)} left, {ready} of them ready"
    if not ready and any(not call.is_terminal for call in job.each_call()):
        return Reason("", state, "operands", f"{text}; they wait for calls")
    if not able:
        no_worker = "no worker does arithmetic" if core.workers() else "no worker is connected"
        trouble = _troubled([worker for worker in present if worker.state == "unreachable"])
        text = f"{text}; {no_worker}{_away(present)}{trouble}"
        return Reason("", state, "worker", text, _names(present))
    if not ready:
        return Reason("", state, "result", f"{text}; the others wait for results")
    workers = f"{_counted(len(able), 'worker')} for arithmetic {_are(len(able))} connected"
    return Reason("", state, "slot", f"{text}; {workers}", _names(able))


@dataclass(frozen=True, slots=True)
class _Able:
    """The workers that may run the calls of a handler and a route, and what is said of them.

    Attributes:
        able: those that take calls.
        trouble: what is said of those that do not, and of calls that hold slots, if others do.
        waits_for: as in `Reason`, if there are some.
    """

    able: Collection[Worker]
    text: str
    names: tuple[str, ...]
    trouble: str = ""
    waits_for: str = "slot"


class _Calls:
    """Explains the calls of a job, one after the other."""

    def __init__(
        self, core: Scheduler, now: float, job: Job, waits: HeldCalls, similar: Similar
    ) -> None:
        assert job.calls is not None
        self._core = core
        self._now = now
        self._job = job
        self._calls: CallGraph = job.calls
        self._waits = waits
        self._similar = similar
        self._positions = POSITIONS_MAX
        self._wall_offset_s = core.jobs.wall_offset_s
        self._by_handler: dict[tuple[str, Route], _Able] = {}
        self._in_line: dict[tuple[str, Route], Mapping[Call, int]] = {}
        self._handlers: Collection[str] | None = None

    def reason(self, call: Call, awaits_jobs: bool) -> Reason:
        node, state, record = call.name, call.shown_state.value, call.record
        if call.state is CallState.WAITING:
            if awaits_jobs and not call.missing:
                return Reason(node, state, "jobs", "starts with its job")
            missing = _missing(self._calls, call)
            if not missing:
                return Reason(node, state, "operands", "starts in a moment")
            text = f"starts after {_listed('node', missing)}"
            return Reason(node, state, "operands", text, tuple(missing[:NAMED_MAX]))
        if call.state is CallState.PAUSED:
            return self._paused(call)
        if call.state is CallState.READY:
            return self._ready(call)
        if call.state is CallState.ENDING:
            return Reason(node, state, "journal", "its end is being recorded")
        lease = self._core.calls.leases.get(record.lease)
        if lease is not None and not lease.sent:
            return Reason(node, state, "journal", "its hand-over is being recorded")
        if call.state is CallState.CANCELLING:
            text = f"worker {record.worker} must stop it"
            return Reason(node, state, "stop", text, (record.worker,))
        return self._running(call, lease)

    def _running(self, call: Call, lease: CallLease | None) -> Reason:
        node, state, record, now = call.name, call.shown_state.value, call.record, self._now
        since = ""
        if record.started_at is not None:
            since = f" for {max(0.0, now + self._wall_offset_s - record.started_at):.1f} s"
        text = f"running on worker {record.worker}{since} (attempt {record.attempts})"
        if call.progress is not None:
            fraction, report = call.progress
            text += f"; {fraction:.0%} done" + (f": {report}" if report else "")
        if lease is None:
            return Reason(node, state, "result", text, (record.worker,))
        if lease.worker is not None and lease.worker.unreachable is not None:
            text += f"; {_trouble(lease.worker)}"
            return Reason(node, state, "silence", text, (record.worker,))
        silent_s = now - (lease.deadline - lease.lease_s)
        if lease.worker is not None:
            silent_s = min(silent_s, now - lease.worker.last_seen_at)
        if silent_s > lease.lease_s / 2:
            text += f"; worker {record.worker} has not been heard of for {silent_s:.0f} s"
            return Reason(node, state, "silence", text, (record.worker,))
        awaited = self._waits.of(lease)
        if not awaited:
            return Reason(node, state, "result", text, (record.worker,))
        steps = self._waits.path(lease, call.job)
        if steps is None:
            text += f"; it waits for {_listed('job', [str(each) for each in awaited])}"
            return Reason(node, state, "result", text, (record.worker,))
        text += f"; it {', which '.join(steps)}"
        return Reason(node, state, "jobs", text, tuple(map(str, awaited[:NAMED_MAX])))

    def _paused(self, call: Call) -> Reason:
        record, state = call.record, call.state.value
        resumes_at, offset_s = call.resumes_at, self._wall_offset_s
        until = call.terms.not_before if resumes_at is None else resumes_at + offset_s
        assert until is not None
        left_s = max(0.0, until - self._now - offset_s)
        if record.failures or record.lost:
            text = f"retrying in {_duration(left_s)}; attempt {record.attempts} failed"
            if record.error:
                text += f": {record.error}"
            return Reason(call.name, state, "retry", text, until=until)
        if not call.requeued:
            text = f"starts in {_duration(left_s)}"
            return Reason(call.name, state, "delay", text, until=until)
        # It was returned, perhaps often: its pause is not what it waits for.
        found = self._ready(call)
        text = f"{found.text}; next try in {_duration(left_s)}"
        if record.error:
            text += f"; worker {record.worker} returned it: {record.error}"
        waits_for = "worker" if found.waits_for == "worker" else "delay"
        return Reason(call.name, state, waits_for, text, found.names, until=until)

    def _ready(self, call: Call) -> Reason:
        node, state = call.name, call.state.value
        key = call.handler, route_of(call)
        found = self._by_handler.get(key)
        if found is None:
            found = self._by_handler[key] = self._find_able(call)
        if not found.able:
            return Reason(node, state, "worker", found.text, found.names)
        position, text = None, found.text
        if call.state is CallState.READY:
            self._positions -= 1
            if self._positions >= 0:
                position = self._positions_in_line(call).get(call)
                text += _ahead(position)
        text += found.trouble
        return Reason(node, state, found.waits_for, text, found.names, position)

    def _positions_in_line(self, call: Call) -> Mapping[Call, int]:
        """The positions of this job's calls of the same handler and route, as far as `AHEAD_MAX`.

        They are looked up once for all: each look-up costs what is ahead.
        """
        key = call.handler, route_of(call)
        positions = self._in_line.get(key)
        if positions is None:
            line = islice(self._core.calls.jobs.ready.in_line(call), AHEAD_MAX)
            own = ((other, place) for place, other in enumerate(line) if other.job == call.job)
            positions = self._in_line[key] = dict(own)
        return positions

    def _find_able(self, call: Call) -> _Able:
        """The workers that may run a call, and those of its handler and its route."""
        handler, core = call.handler, self._core
        can_run = core.calls.routing.can_run
        present = [worker for worker in core.workers() if can_run(worker.announcement, call)]
        troubled = [worker for worker in present if worker.state in TROUBLED]
        able = {worker: None for worker in present if takes_calls(worker)}
        if able:
            workers = _listed("worker", list(_all_names(able)))
            outgoing = core.calls.leases.outgoing
            if not any(outgoing.has_room(worker, call.is_long) for worker in able):
                text = f"waiting for room on its way to {workers}"
                text += f"; {outgoing.bytes} bytes of arguments have not arrived yet"
                return _Able(able, text, _names(able), _troubled(troubled), "room")
            text = f"waiting for a free slot on {workers}"
            trouble = self._waits.blame(call, able) + _troubled(troubled)
            return _Able(able, text, _names(able), trouble)
        text = f"no connected worker has the handler {handler!r}"
        if troubled:
            away = _away([worker for worker in present if worker not in troubled])
            text = _troubled(troubled).removeprefix("; ") + away
        elif present:
            shown = [self._away(worker) for worker in present[:NAMED_MAX]]
            text = f"no worker with the handler {handler!r} takes calls: {', '.join(shown)}"
        elif not core.workers():
            text = f"no worker is connected, so none has the handler {handler!r}"
        else:
            meant = "" if handler in self._known() else self._similar(handler, self._known())
            text += f"; did you mean {meant!r}?" if meant else ""
        if handler in core.handlers.replaced and not call.origin:
            text += "; the built-in one does not count, because a worker has announced its own"
        return _Able(able, text, _names(troubled or present))

    def _away(self, worker: Worker) -> str:
        name, silent_s = worker.announcement.name, self._now - worker.last_seen_at
        if worker.state == "draining":
            return f"{name} is leaving"
        if worker.state == "gone" or worker.silent_since > worker.last_seen_at:
            return f"{name} has not been heard of for {silent_s:.0f} s"
        reason = f": {worker.last_failure}" if worker.last_failure else ""
        return f"{name} is {worker.state}{reason}"

    def _known(self) -> Collection[str]:
        """The handlers that workers have."""
        if self._handlers is None:
            announced = (worker.announcement.handlers for worker in self._core.workers())
            self._handlers = {name for handlers in announced for name in handlers}
        return self._handlers


def _missing(calls: CallGraph, call: Call) -> list[str]:
    """The operands that a call waits for, as far as they have names."""
    found = []
    for name in dict.fromkeys((*call.refs, *call.after)):
        other = calls.get(name)
        if name not in call.operands if other is None else not other.is_terminal:
            found.append(name)
    return found


def _troubled(workers: list[Worker]) -> str:
    """The reasons of the first workers that cannot be called, or cannot run calls."""
    text = "".join(f"; {_trouble(worker)}" for worker in workers[:TROUBLED_MAX])
    more = len(workers) - TROUBLED_MAX
    return text + (f"; {more} more workers are in trouble" if more > 0 else "")


def _trouble(worker: Worker) -> str:
    announcement = worker.announcement
    name, address = announcement.name, announcement.address
    if worker.unreachable is not None and not address:
        return f"worker {name} {worker.unreachable}"
    if worker.unreachable is not None:
        return f"calls to worker {name} at {address} fail: {worker.unreachable}"
    return f"worker {name} cannot start processes for handlers: {announcement.failing}"


def _all_names(workers: Collection[Worker]) -> Iterator[str]:
    return (worker.announcement.name for worker in workers)


def _names(workers: Collection[Worker]) -> tuple[str, ...]:
    return tuple(islice(_all_names(workers), NAMED_MAX))


def _away(workers: Collection[Worker]) -> str:
    return f" ({len(workers)} gone, draining or pausing)" if workers else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _ahead(position: int | None) -> str:
    if position is None:
        return f"; at least {AHEAD_MAX:,} calls are ahead"
    return f"; {_counted(position, 'call')} {_are(position)} ahead" if position else ""


def _duration(seconds: float) -> str:
    if seconds < HOUR_S:
        return f"{seconds:.1f} s"
    return f"{seconds / HOUR_S:.1f} h" if seconds < DAY_S else f"{seconds / DAY_S:.1f} days"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED_MAX])}{more}"
