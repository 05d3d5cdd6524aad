"""Jobs that are cancelled: what nobody has begun ends, and workers stop what they have."""

from __future__ import annotations

from collections.abc import Callable, Generator

from dte.core.calls.chores import Chores
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.ready import ReadyCalls
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CALLS_IN_SLICE
from dte.core.jobs.facts import Cancel, End, Event, call_event
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable

BUSY = (CallState.RUNNING, CallState.CANCELLING, CallState.ENDING)
"""Workers have the call, or its end is being recorded."""
NOT_BEGUN = (CallState.WAITING, CallState.READY, CallState.PAUSED)


class Cancels:
    """Cancels jobs.

    Args:
        count_end: counts a call of a long job that has ended.
        end_job: ends a job that is being cancelled.

    Attributes:
        stops: leases whose calls workers must stop.
    """

    def __init__(
        self,
        table: JobTable,
        leases: CallLeases,
        ready: ReadyCalls,
        chores: Chores,
        count_end: Callable[[float, Job, Call], None],
        end_job: Callable[[float, Job], End],
    ) -> None:
        self._table = table
        self._leases = leases
        self._ready = ready
        self._chores = chores
        self._count_end = count_end
        self._end_job = end_job
        self.stops: list[CallLease] = []

    def cancel(self, now: float, job: Job) -> Cancel | End | None:
        """Cancel a job: at once if no worker has a call of it, and it is not long.

        Returns:
            The fact to be recorded first; None if the job has ended or is ending.
        """
        if job.is_terminal or job.state is JobState.ENDING:
            return None
        unread = job.graph is None  # It is from before a restart.
        is_long = job.calls is not None and job.calls.is_long
        if unread or is_long or any(call.state in BUSY for call in job.each_call()):
            return self._table.cancel(now, job)
        for call in job.each_call():
            if not call.is_terminal:
                call.until_recorded = call.state
        events = self._cancel_waiting(now, job)
        end = self._end_job(now, job)
        end.events = events
        return end

    def stop(self, now: float, job: Job) -> None:
        """The wish to cancel a job is recorded: stop the calls that workers have."""
        job.cancelled = True
        if not job.goes_on:
            return
        job.enter(JobState.CANCELLING)
        at = now + self._table.wall_offset_s
        self._table.events.append(Event(at, job.number, "", "cancelling", by=job.cancelled_by))
        self._table.ready.drop(job)
        if job.calls is not None and job.calls.is_long:
            # Those that run first: they must not be tried again meanwhile.
            self._stop_calls(now, job)
            self._chores.run(now, self._end_cancelled(job), is_long=True)
            return
        self._table.events += self._cancel_waiting(now, job)
        self._stop_calls(now, job)
        self.end(now, job)

    def end(self, now: float, job: Job) -> End | None:
        """End a job that is being cancelled, once all of its calls have ended."""
        if job.calls is not None and job.calls.remaining:
            return None
        return self._end_job(now, job)

    def cancel_taken(self, now: float, call: Call) -> bool:
        """Cancel a call that was taken out of the line, if its job does not go on."""
        if not self._chores:
            return False
        job = self._table.unfinished(call.job)
        assert job is not None, "a job ends with its calls"
        if not job.goes_on:
            self._table.events += self._cancel_call(now, job, call)
        return call.is_terminal

    def _cancel_waiting(self, now: float, job: Job) -> list[Event]:
        """End the calls that no worker has, and return the events."""
        events: list[Event] = []
        for call in job.each_call():
            if call.state is CallState.READY:
                self._ready.drop(call)
            if call.state in NOT_BEGUN:
                events += self._cancel_call(now, job, call)
        return events

    def _end_cancelled(self, job: Job) -> Generator[None, None, None]:
        yield from self.cancel_rest(job)
        if job.graph is not None:
            self.end(self._chores.now, job)

    def cancel_rest(self, job: Job) -> Generator[None, None, None]:
        """End the calls of a long job that no worker has, in slices."""
        for count, call in enumerate(job.each_call(), 1):
            if call.state is CallState.READY:
                self._ready.drop(call)
            if call.state in NOT_BEGUN:
                self._table.events += self._cancel_call(self._chores.now, job, call)
            if not count % CALLS_IN_SLICE:
                yield
                if job.graph is None:
                    return

    def _cancel_call(self, now: float, job: Job, call: Call) -> list[Event]:
        assert job.calls is not None
        wall_s = now + self._table.wall_offset_s
        call.end(wall_s, CallState.CANCELLED, call.record.error or "cancelled")
        if job.calls.is_long:  # The calls that wait for it are cancelled anyway.
            self._count_end(now, job, call)
            return []
        _, skipped = job.calls.ended(call)
        self._table.calls_ended(job, 1 + len(skipped))
        return [call_event(wall_s, ended) for ended in (call, *skipped)]

    def _stop_calls(self, now: float, job: Job) -> None:
        for call in job.each_call():
            if call.state is CallState.RUNNING:
                self._stop_call(now, job, call)

    def _stop_call(self, now: float, job: Job, call: Call) -> None:
        lease = self._leases.get(call.record.lease)
        assert lease is not None
        can_stop = lease.worker is None or lease.worker.announcement.can_stop
        if lease.handed:
            call.enter(CallState.CANCELLING)
            wall_s = now + self._table.wall_offset_s
            self._table.events.append(call_event(wall_s, call))
            lease.stop = True
            if can_stop:
                self.stops.append(lease)
                return
        # The worker never gets it, or will not notice.
        self._leases.release(lease)
        self._table.events += self._cancel_call(now, job, call)
