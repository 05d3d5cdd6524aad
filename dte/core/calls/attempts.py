"""What follows from what became of a call: it has ended, is tried again, or goes to another worker.

What became of a call is recorded before anything follows from it, in one step with the job's end
where it is the last. Results of pure handlers wait for no disk, as arithmetic does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from dte.core.backoff import backoff_s
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.ready import ReadyCalls
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import INTEGER_DIGITS_MAX, number_of
from dte.core.jobs.facts import End, Event, Step, record_of
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits

ERROR_CHARS_MAX = 2_000
"""A worker's reason for a failure is kept up to here."""
ANY_POLICY = HandlerPolicy()
BUSY = (CallState.RUNNING, CallState.CANCELLING, CallState.ENDING)


@dataclass(slots=True)
class Outcome:
    """What a worker says of a call. It never changes.

    Attributes:
        state: an end; None if it was not begun, or is given back for another reason.
        value: its result, as JSON.
        error: why there is none.
        retry: whether trying again can make sense.
        begun: of one that was given back: it had begun, and was stopped.
        lost: of one that was given back: it ended with others, and may be why they did.
    """

    state: CallState | None
    value: bytes | None = None
    error: str | None = None
    retry: bool = True
    begun: bool = False
    lost: bool = False


class Attempts:
    """The calls that are ready or pause, and the ends of calls and of their jobs.

    Attributes:
        ready: the calls that wait for a worker.
        policies: what workers have said of their handlers.
        stops: leases that workers are to be told to stop.
    """

    def __init__(
        self, limits: SchedulerLimits, jobs: JobTable, leases: CallLeases, random: Random
    ) -> None:
        self._limits = limits
        self._jobs = jobs
        self._leases = leases
        self._random = random
        self._pauses: list[tuple[float, int, Call]] = []
        self._count = 0
        self.ready = ReadyCalls()
        self.policies: dict[str, HandlerPolicy] = {}
        self.stops: list[CallLease] = []

    def settle(self, now: float, call: Call, outcome: Outcome) -> Step | End | None:
        """A call's attempt is over: what follows from it."""
        call.reported = True
        if _is_orphan(call):
            return None
        stopped = call.state is CallState.CANCELLING
        state, error = outcome.state, outcome.error
        if error is not None and len(error) > ERROR_CHARS_MAX:
            error = f"{error[:ERROR_CHARS_MAX]}…"
        if state is CallState.SUCCEEDED:
            no_number = _number_error(call, outcome.value)
            if no_number is not None:
                return self._end(now, call, CallState.FAILED, None, no_number)
            return self._end(now, call, state, outcome.value, None)
        if stopped:
            return self._end(now, call, CallState.CANCELLED, None, error or "cancelled")
        if outcome.lost:
            return self._lost(now, call, error or "lost")
        if state is None or state is CallState.CANCELLED:
            # What was begun may have had effects: that it was stays counted.
            call.attempts -= not outcome.begun
            call.error = error
            call.requeued += 1
            wait_s = backoff_s(self._random, call.requeued - 1) if call.requeued > 1 else 0.0
            return self._again(now, call, now + wait_s if wait_s else None)
        call.failures += 1
        if outcome.retry and not self._is_spent(call):
            call.error = error
            limits = self._limits
            wait_s = backoff_s(
                self._random, call.failures, limits.retry_pause_s, limits.retry_pause_max_s
            )
            return self._again(now, call, now + wait_s)
        return self._end(now, call, state, None, error)

    def _is_spent(self, call: Call) -> bool:
        """Whether a call has failed as often as it may, as far as is known.

        After a restart a report may come before a worker has said what holds for its handler.
        """
        retries = call.terms.retries
        if retries is None:
            policy = self.policies.get(call.handler)
            retries = call.failures if policy is None else policy.retries
        return call.failures > retries

    def end_spent(self, now: float, call: Call) -> bool:
        """End a call that is ready, if it turns out now that it has failed too often."""
        if not self._is_spent(call):
            return False
        self._end(now, call, CallState.FAILED, None, call.error)
        return True

    def lose(self, now: float, lease: CallLease, reason: str) -> None:
        """A worker vanished with a call."""
        call = lease.call
        if not lease.handed:
            self.requeue(now, lease)
            return
        self._leases.release(lease)
        if _is_orphan(call):
            return
        if call.state is CallState.CANCELLING:
            self._end(now, call, CallState.CANCELLED, None, f"cancelled; its worker: {reason}")
            return
        self._lost(now, call, f"worker {lease.worker_name}: {reason}")

    def _lost(self, now: float, call: Call, error: str) -> Step | End | None:
        """A call vanished with a worker, or with a process of one."""
        call.lost += 1
        call.error = error
        lost_max = call.terms.lost_max or self._limits.workers_lost_max
        if call.lost >= lost_max:
            text = f"{call.lost} workers were lost while they did it (workers_lost_max)"
            if call.lost == 1:
                text = "a worker was lost while it did it"
            return self._end(now, call, CallState.FAILED, None, f"{text}; the last, {error}")
        wait_s = backoff_s(self._random, call.lost) if call.lost > 1 else 0.0
        return self._again(now, call, now + wait_s if wait_s else None)

    def requeue(self, now: float, lease: CallLease, *, void: bool = False) -> None:
        """A worker never got a call, or never began it.

        Args:
            void: that the call was handed out could not be recorded.
        """
        call = lease.call
        self._leases.release(lease)
        if _is_orphan(call):
            return
        if call.state is CallState.CANCELLING:
            self._end(now, call, CallState.CANCELLED, None, "cancelled")
            return
        call.attempts -= 1
        self._again(now, call, None, record=not void)

    def _again(
        self, now: float, call: Call, when: float | None, record: bool = True
    ) -> Step | End | None:
        """Have a call done once more, now or at a moment."""
        if call.missing:  # It was handed out before a restart.
            assert call.job is not None
            assert call.job.calls is not None
            kept_from = call.job.calls.kept_from(call)
            if kept_from is not None:
                return self._end(now, call, CallState.FAILED, None, kept_from)
            call.enter(CallState.WAITING)
            call.resumes_at = when
        elif when is None:
            call.enter(CallState.READY)
            self.ready.add(call)
        else:
            call.enter(CallState.PAUSED)
            self.pause(call, when)
        self.tell(now, call, call.error)
        if call.pure or not record:
            return None
        step = Step(call, record_of(call))
        self._jobs.step(step)
        return step

    def pause(self, call: Call, when: float) -> None:
        call.resumes_at = when
        self._count += 1
        heappush(self._pauses, (when, self._count, call))

    def _end(
        self, now: float, call: Call, state: CallState, value: bytes | None, error: str | None
    ) -> Step | End | None:
        """A call has ended, when that is recorded, or at once where it need not be."""
        job = call.job
        assert job is not None
        assert job.calls is not None
        call.value, call.error, call.ended_at, call.progress = value, error, now, None
        last = job.calls.remaining == 1 and not job.calls.is_formula
        if call.pure or last:
            return self.ended_now(now, call, state, with_job=last and not call.pure)
        call.enter(CallState.ENDING)
        step = Step(call, record_of(call, state), None, state)
        self._jobs.step(step)
        return step

    def ended_now(
        self, now: float, call: Call, state: CallState, *, with_job: bool = False
    ) -> End | None:
        """A call has ended: what waited for it goes on, and the job may end.

        Args:
            with_job: it ends the job, and is recorded with that: nobody hears of it before.
        """
        job = call.job
        assert job is not None
        assert job.calls is not None
        call.enter(state)
        ready, failed = job.calls.ended(call)
        size = len(call.value or b"")
        self._jobs.call_ended(job, 1 + len(failed), size)
        events = [event_of(now, ended) for ended in (call, *failed)]
        if not with_job:
            self._jobs.events += events
        end = self._follow(now, job, call, ready)
        if with_job:
            assert end is not None, "it was the last call"
            end.events = events
        return end

    def _follow(self, now: float, job: Job, call: Call, ready: list[Call]) -> End | None:
        """Begin what waited for a call, or end its job."""
        assert job.calls is not None
        if job.state is JobState.CANCELLING:
            return self.end_cancelled(now, job)
        if job.calls.is_formula:
            return self.ended_in_formula(now, job, call)
        for reader in ready:
            self.begin_call(now, reader)
        return self.end_job(now, job) if not job.calls.remaining else None

    def recorded(self, now: float, call: Call, state: CallState) -> None:
        """A call's end is recorded."""
        if not _is_orphan(call):
            self.ended_now(now, call, state)
            return
        call.enter(state)
        self.tell(now, call, call.error)

    def ended_in_formula(self, now: float, job: Job, call: Call) -> End | None:
        graph, calls = job.graph, job.calls
        assert graph is not None
        assert calls is not None
        if call.state is not CallState.SUCCEEDED:
            return self._jobs.end(
                now, job, error=f"{call.name}: {call.error}", state=_job_state(call.state)
            )
        for reader in call.readers:
            if reader.state is CallState.WAITING and not reader.missing:
                self.begin_call(now, reader)
        number = number_of(call.value)
        assert number is not None, "results of a formula's calls are numbers"
        if calls.answer is call:
            return self._jobs.answer(now, job, number)
        ready_before = len(graph.ready)
        graph.supply(call.edges, number)
        self._jobs.ready.add(job, len(graph.ready) - ready_before)
        return None

    def end_job(self, now: float, job: Job) -> End:
        """All calls of a graph have ended."""
        assert job.calls is not None
        bad = job.calls.failure()
        if bad is None:
            return self._jobs.end(now, job, answer=job.calls.result())
        # Of a job that is one call, the node's name says nothing to anybody.
        place = f"node {bad.name!r}: " if len(job.calls.calls) > 1 else ""
        return self._jobs.end(now, job, error=f"{place}{bad.error}", state=_job_state(bad.state))

    def end_cancelled(self, now: float, job: Job) -> End | None:
        """End a job that is being cancelled, once no worker has anything of it."""
        if is_busy(job):
            return None
        return self._jobs.end(now, job, error="cancelled", state=JobState.CANCELLED)

    def _is_too_long(self, now: float, call: Call) -> bool:
        """End a call whose arguments, with the operands in them, are longer than the bound."""
        size, most = call.filled_size(), self._limits.value_bytes_max
        if size <= most:
            return False
        error = f"its arguments have {size} bytes with what they refer to, more than {most} "
        self._end(now, call, CallState.FAILED, None, f"{error}(value_bytes_max)")
        return True

    def begin_call(self, now: float, call: Call) -> None:
        """A call's operands are known: it is ready, at once or from its moment on."""
        assert call.job is not None
        assert call.job.calls is not None
        if call.job.calls.held:
            return
        if call.is_terminal or (call.operands and self._is_too_long(now, call)):
            return
        moments = [at for at in (call.terms.not_before, call.resumes_at) if at is not None]
        when = max(moments, default=now)
        call.resumes_at = None
        if when > now:
            call.enter(CallState.PAUSED)
            self.pause(call, when)
        else:
            call.enter(CallState.READY)
            self.ready.add(call)

    def timeout_s(self, call: Call) -> float | None:
        if call.terms.timeout_s is not None:
            return call.terms.timeout_s
        return self.policies.get(call.handler, ANY_POLICY).timeout_s

    def start_job(self, now: float, job: Job) -> None:
        if job.started_at is None:
            job.started_at = now
        if job.state is JobState.WAITING:
            job.enter(JobState.RUNNING)
            self._jobs.events.append(Event(now, job.number, "", "running"))

    def tell(self, now: float, call: Call, text: str | None) -> None:
        """Tell those who watch which state a call has now."""
        self._jobs.events.append(event_of(now, call, text))

    def resume(self, now: float) -> None:
        """Go on with the calls whose moment has come."""
        while self._pauses and self._pauses[0][0] <= now:
            when, _, call = heappop(self._pauses)
            if call.state is CallState.PAUSED and call.resumes_at == when:
                call.resumes_at = None
                call.enter(CallState.READY)
                self.ready.add(call)

    def next_moment(self) -> float | None:
        """When `resume` next has something to do."""
        return self._pauses[0][0] if self._pauses else None


def event_of(now: float, call: Call, text: str | None = None) -> Event:
    """That a call has the state which it has now; its error says why, unless a text does."""
    assert call.job is not None
    return Event(now, call.job.number, call.name, call.state.value, text or call.error)


def is_busy(job: Job) -> bool:
    """Whether workers have calls of a job, or the end of one is being recorded."""
    calls = job.calls.calls.values() if job.calls is not None else ()
    return any(call.state in BUSY for call in calls)


def _is_orphan(call: Call) -> bool:
    """Whether a call's job has ended without it: what a worker says of it changes nothing."""
    assert call.job is not None
    return call.job.graph is None


def _number_error(call: Call, value: bytes | None) -> str | None:
    """Why a result cannot go into a formula; None if it can, or need not."""
    job = call.job
    assert job is not None
    if job.calls is None or not job.calls.is_formula or number_of(value) is not None:
        return None
    shown = (value or b"")[:40].decode(errors="replace")
    if shown.removeprefix("-").isdigit():
        return f"its result has more than {INTEGER_DIGITS_MAX} digits"
    return f"it gave {shown}, and a formula needs a number"


def _job_state(state: CallState) -> JobState:
    """How a job ends whose answer's call ended so."""
    if state is CallState.TIMED_OUT:
        return JobState.TIMED_OUT
    return JobState.CANCELLED if state is CallState.CANCELLED else JobState.FAILED
