"""Attempts: what follows from one, be it an end, a retry, or another worker."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dte.core.backoff import backoff_s
from dte.core.calls.jobs import CallJobs
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.policies import Policies
from dte.core.calls.setbacks import Setbacks
from dte.core.graph.call import Call, CallState
from dte.core.graph.numbers import INTEGER_DIGITS_MAX, number_of
from dte.core.jobs.facts import End, Step
from dte.core.jobs.job import Job
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits
from dte.core.workers.worker import Announcement

ERROR_CHARS_MAX = 2_000
TRACE_CHARS_MAX = 8_000
"""A worker's reason for a failure, and its stack trace, are kept up to here."""


@dataclass(slots=True)
class Outcome:
    """A worker's report on an attempt. It never changes.

    Attributes:
        state: an end; None if the call was not begun, or is returned for another reason.
        value: the result, as JSON.
        error: the reason why there is none.
        retry: another attempt may succeed.
        begun: of a call that was returned: it had begun, and was stopped.
        lost: of a call that was returned: its process ended, perhaps because of it.
        trace: the stack trace of the error.
    """

    state: CallState | None
    value: bytes | None = None
    error: str | None = None
    retry: bool = True
    begun: bool = False
    lost: bool = False
    trace: str | None = None


class Attempts:
    """Decides what follows from the attempts of calls.

    Attributes:
        setbacks: the attempts without a result.
    """

    def __init__(
        self,
        limits: SchedulerLimits,
        table: JobTable,
        leases: CallLeases,
        policies: Policies,
        call_jobs: CallJobs,
        random: Random,
    ) -> None:
        self._limits = limits
        self._table = table
        self._leases = leases
        self._policies = policies
        self._call_jobs = call_jobs
        self._random = random
        self.setbacks = Setbacks()

    def settle(self, now: float, call: Call, outcome: Outcome) -> Step | End | None:
        """Take in the outcome of an attempt.

        Returns:
            The fact to be recorded, if there is one.
        """
        job, record = self._job_of(call), call.record
        call.reported = True
        state, error = outcome.state, outcome.error
        if error is not None and len(error) > ERROR_CHARS_MAX:
            error = f"{error[:ERROR_CHARS_MAX]}…"
        trace = outcome.trace[:TRACE_CHARS_MAX] if outcome.trace else None
        if state is CallState.SUCCEEDED:
            value, error = outcome.value, _number_error(job, outcome.value)
            if error is not None:
                state, value = CallState.FAILED, None
                self._note(call, error, final=True)
            return self._call_jobs.end_call(now, job, call, state, value, error)
        if call.state is CallState.CANCELLING:
            return self._cancelled(now, job, call, error or "cancelled")
        if outcome.lost:
            return self._lost(now, job, call, error or "lost")
        if state is None or state is CallState.CANCELLED:
            # An attempt that was begun may have had effects: it stays counted. Only such a one is
            # stopped, or has made progress, whatever else its worker says.
            begun = outcome.begun or state is not None or call.progress is not None
            record.attempts -= not begun
            record.error, record.trace = error, None
            call.requeued += 1
            return self._again(now, job, call, now + self._backoff_s(call.requeued - 1))
        record.failures += 1
        final = not outcome.retry or self._policies.is_spent(call)
        self._note(call, error, final=final)
        if not final:
            record.error, record.trace = error, trace
            limits = self._limits
            wait_s = backoff_s(
                self._random, record.failures, limits.retry_pause_s, limits.retry_pause_max_s
            )
            return self._again(now, job, call, now + wait_s)
        return self._call_jobs.end_call(now, job, call, state, None, error, trace)

    def failed(self, call: Call, outcome: Outcome) -> bool:
        """True if an attempt failed where another worker might succeed."""
        if outcome.state is CallState.SUCCEEDED:
            return _number_error(self._job_of(call), outcome.value) is not None
        return outcome.state is CallState.FAILED and outcome.retry

    def end_spent(self, now: float, call: Call, announcement: Announcement) -> bool:
        """End a ready call that has failed too often for a policy which is known only now.

        Args:
            announcement: that of the worker which is to get it.
        """
        if not self._policies.is_spent(call, announcement):
            return False
        job, record = self._job_of(call), call.record
        self._call_jobs.end_call(now, job, call, CallState.FAILED, None, record.error, record.trace)
        return True

    def lose(self, now: float, lease: CallLease, reason: str) -> None:
        """A worker vanished with a call."""
        if not lease.handed:
            self.requeue(now, lease)
            return
        call, job = lease.call, self._job_of(lease.call)
        self._leases.release(lease)
        if call.state is CallState.CANCELLING:
            self._cancelled(now, job, call, f"cancelled; its worker: {reason}")
        else:
            self._lost(now, job, call, f"worker {lease.worker_name}: {reason}")

    def requeue(self, now: float, lease: CallLease, *, void: bool = False) -> None:
        """Let another worker have a call that its worker never got, or never began.

        Args:
            void: the hand-over could not be recorded.
        """
        call, job = lease.call, self._job_of(lease.call)
        self._leases.release(lease)
        if call.state is CallState.CANCELLING:
            self._cancelled(now, job, call, "cancelled")
        else:
            call.record.attempts -= 1
            self._again(now, job, call, now, record=not void)

    def _job_of(self, call: Call) -> Job:
        job = self._table.unfinished(call.job)
        assert job is not None, "a job ends with its calls"
        return job

    def _cancelled(self, now: float, job: Job, call: Call, error: str) -> Step | End | None:
        return self._call_jobs.end_call(now, job, call, CallState.CANCELLED, None, error)

    def _lost(self, now: float, job: Job, call: Call, error: str) -> Step | End | None:
        """An attempt vanished with its worker, or with a process of it."""
        record = call.record
        record.lost += 1
        record.error, record.trace = error, None
        lost_max = call.terms.lost_max or self._limits.workers_lost_max
        self._note(call, error, lost=True, final=record.lost >= lost_max)
        if record.lost >= lost_max:
            text = f"gave up: {record.lost} workers died while running it (workers_lost_max)"
            if record.lost == 1:
                text = "gave up: its worker died while running it"
            error = f"{text}; the last, {error}"
            return self._call_jobs.end_call(now, job, call, CallState.FAILED, None, error)
        return self._again(now, job, call, now + self._backoff_s(record.lost - 1))

    def _note(
        self, call: Call, error: str | None, *, lost: bool = False, final: bool = False
    ) -> None:
        job, retries = self._job_of(call), self._policies.retries(call)
        error = error or "no reason given"
        self.setbacks.add(job, call, retries, error, lost=lost, final=final)

    def _backoff_s(self, failures: int) -> float:
        """The pause before another attempt; none after the first failure."""
        return backoff_s(self._random, failures) if failures else 0.0

    def _again(
        self, now: float, job: Job, call: Call, moment: float, record: bool = True
    ) -> Step | End | None:
        """Let a call be attempted again, at once or from a moment on."""
        if call.missing:  # It was handed out before a restart.
            assert job.calls is not None
            kept_from = job.calls.kept_from(call)
            if kept_from is not None:
                return self._call_jobs.end_call(now, job, call, CallState.FAILED, None, kept_from)
            call.enter(CallState.WAITING)
            call.resumes_at = moment if moment > now else None
            call.record.resumes_at = moment + self._table.wall_offset_s if moment > now else None
        else:
            self._call_jobs.enqueue(now, call, moment)
        self._call_jobs.notify(now, call, call.record.error)
        if call.pure or not record:
            return None
        step = Step(call, call.record.copy())
        self._table.step(step)
        return step


def _number_error(job: Job, value: bytes | None) -> str | None:
    """The reason why a result cannot go into a formula; None if it can, or need not."""
    if job.calls is None or not job.calls.is_formula or number_of(value) is not None:
        return None
    shown = (value or b"")[:40].decode(errors="replace")
    if shown.removeprefix("-").isdigit():
        return f"its result has more than {INTEGER_DIGITS_MAX} digits"
    return f"the handler returned {shown}; a formula needs a number"
