"""The course of jobs with calls: begun, stopped, and taken up again after a restart."""

from __future__ import annotations

from dte.core.calls.attempts import Attempts, event_of, is_busy
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.graph.call import Call, CallState
from dte.core.jobs.facts import CallRecord, Cancel, End, Event
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits

RESTORED_S = 30.0
"""How long a lease from before a restart goes on at least: workers are to find the way back."""
HOW = {
    JobState.FAILED: "failed",
    JobState.TIMED_OUT: "timed out",
    JobState.CANCELLED: "was cancelled",
}


class CallJobs:
    """Jobs with calls, from the moment at which they are recorded until they end."""

    def __init__(
        self, limits: SchedulerLimits, jobs: JobTable, leases: CallLeases, course: Attempts
    ) -> None:
        self._limits = limits
        self._jobs = jobs
        self._leases = leases
        self._attempts = course
        self._awaiting: dict[int, list[Job]] = {}

    def cancel(self, now: float, job: Job) -> Cancel | End | None:
        """Have a job cancelled: at once if no worker has a call of it.

        Returns:
            What is to be recorded first; None if it has ended or is ending.
        """
        if job.is_terminal or job.state is JobState.ENDING:
            return None
        if job.graph is None:  # From before a restart, and not read again yet.
            return self._jobs.cancel(now, job)
        if is_busy(job):
            return self._jobs.cancel(now, job)
        events = self._drop_waiting(now, job)
        end = self._jobs.end(now, job, error="cancelled", state=JobState.CANCELLED)
        end.events = events
        return end

    def stop(self, now: float, job: Job) -> None:
        """A job's cancelling is recorded: stop what workers have of it."""
        if job.graph is None or job.state is JobState.CANCELLING:
            return
        job.enter(JobState.CANCELLING)
        self._jobs.events.append(Event(now, job.number, "", "cancelling"))
        self._jobs.ready.drop(job)
        self._jobs.events += self._drop_waiting(now, job)
        for call in job.calls.calls.values() if job.calls is not None else ():
            if call.state is CallState.RUNNING:
                self._stop_call(now, call)
        self._attempts.end_cancelled(now, job)

    def _stop_call(self, now: float, call: Call) -> None:
        lease = call.lease
        assert lease is not None
        if not lease.handed:
            self._leases.release(lease)
            self._jobs.events += self._cancel_now(now, call)
            return
        call.enter(CallState.CANCELLING)
        self._attempts.tell(now, call, None)
        lease.stop = True
        if lease.worker is not None and not lease.worker.announcement.can_stop:
            self._leases.release(lease)  # It could not be told, and nobody would hear its result.
            self._jobs.events += self._cancel_now(now, call)
        else:
            self._attempts.stops.append(lease)

    def _drop_waiting(self, now: float, job: Job) -> list[Event]:
        """End the calls that nobody has; what is to be told of that."""
        events: list[Event] = []
        for call in job.calls.calls.values() if job.calls is not None else ():
            if call.state is CallState.READY:
                self._attempts.ready.drop(call)
            if call.state in (CallState.WAITING, CallState.READY, CallState.PAUSED):
                events += self._cancel_now(now, call)
        return events

    def _cancel_now(self, now: float, call: Call) -> list[Event]:
        job = call.job
        assert job is not None
        assert job.calls is not None
        call.error, call.ended_at = call.error or "cancelled", now
        call.enter(CallState.CANCELLED)
        _, failed = job.calls.ended(call)
        self._jobs.call_ended(job, 1 + len(failed), 0)
        return [event_of(now, ended) for ended in (call, *failed)]

    def begin(self, now: float, job: Job) -> None:
        """A job is recorded, or read again after a restart: its calls may begin."""
        if job.graph is None or job.calls is None:
            return
        job.calls.held = not all(other.is_terminal for other in job.calls.awaited)
        records, job.records = job.records, None
        # Ends first, as the other calls may have waited for these.
        for record in sorted(records or (), key=lambda record: record.state is None):
            self._restore(now, job, record)
            if job.graph is None:
                return
        if job.cancelled:
            self.stop(now, job)
            return
        for other in job.calls.awaited:
            if not other.is_terminal:
                self._awaiting.setdefault(other.number, []).append(job)
                self._jobs.awaited.add(other.number)
        if not job.calls.held:
            self._begin_calls(now, job)

    def _begin_calls(self, now: float, job: Job) -> None:
        calls = job.calls
        assert calls is not None
        calls.held = False
        for other in calls.awaited:
            if other.state is not JobState.SUCCEEDED and not calls.whatever:
                self._fail_all(now, job, f"not run, as job {other.number} {HOW[other.state]}")
                return
        for call in calls.ready():
            self._attempts.begin_call(now, call)

    def _fail_all(self, now: float, job: Job, error: str) -> None:
        assert job.calls is not None
        events = []
        for call in job.calls.calls.values():
            if call.state is CallState.WAITING:
                call.error, call.ended_at = error, now
                call.enter(CallState.FAILED)
                events.append(event_of(now, call))
        count, job.calls.remaining = job.calls.remaining, 0
        self._jobs.call_ended(job, count, 0)
        self._jobs.end(now, job, error=error).events = events

    def closed(self, now: float, job: Job) -> None:
        """A job has ended: others may have waited for that."""
        self._jobs.awaited.discard(job.number)
        for waiting in self._awaiting.pop(job.number, ()):
            if waiting.graph is None or waiting.calls is None:
                continue
            going_on = waiting.state is not JobState.CANCELLING
            if going_on and all(other.is_terminal for other in waiting.calls.awaited):
                self._begin_calls(now, waiting)

    def orphan(self, now: float, call: Call) -> None:
        """A call's job has ended without it, as a formula does with its first failure."""
        if call.lease is not None:
            lease = call.lease
            handed = lease.handed
            self._leases.release(lease)
            if handed:
                self._attempts.stops.append(lease)
        if call.state is CallState.READY:
            self._attempts.ready.drop(call)
        if not call.is_terminal:
            call.enter(CallState.CANCELLED)
            call.ended_at, call.error = now, "its job has ended"
            self._attempts.tell(now, call, call.error)

    def _restore(self, now: float, job: Job, record: CallRecord) -> None:
        """Take over what was recorded of a call."""
        assert job.calls is not None
        call = job.calls.calls.get(record.name)
        if call is None or call.is_terminal:
            return
        call.attempts, call.failures, call.lost = record.attempts, record.failures, record.lost
        call.worker, call.started_at, call.error = record.worker, record.started_at, record.error
        if record.started_at is not None:
            job.started_at = min(record.started_at, job.started_at or record.started_at)
        if record.state is not None:
            call.recorded = True
            if call.state is CallState.WAITING:
                call.value = record.value
                self._ended_before(now, call, record)
        elif record.lease:
            call.enter(CallState.RUNNING)
            self._attempts.start_job(now, job)
            lease_s = record.lease_s or self._limits.lease_s
            deadline = now + max(lease_s, RESTORED_S)
            timeout_s = self._attempts.timeout_s(call)
            lease = CallLease(
                record.lease, call, None, record.worker, now, lease_s, deadline, timeout_s
            )
            lease.sent = True
            if timeout_s is not None:
                lease.timeout_at = now + timeout_s + self._limits.lease_s
            self._leases.add(lease)
            self._leases.watch(lease)
        elif record.resumes_at is not None and record.resumes_at > now:
            # The clock may have been set back since.
            call.resumes_at = min(record.resumes_at, now + self._limits.retry_pause_max_s)

    def _ended_before(self, now: float, call: Call, record: CallRecord) -> None:
        assert record.state is not None
        job = call.job
        assert job is not None
        assert job.calls is not None
        call.missing, call.ended_at = 0, record.ended_at
        call.enter(record.state)
        _, failed = job.calls.ended(call)
        self._jobs.call_ended(job, 1 + len(failed), len(call.value or b""))
        if job.calls.is_formula:
            self._attempts.ended_in_formula(now, job, call)
        elif not job.calls.remaining:
            self._attempts.end_job(now, job)
