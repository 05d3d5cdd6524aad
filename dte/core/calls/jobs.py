"""Jobs of calls: how each job and each of its calls begins, is cancelled, and ends.

The end of a call is recorded before anything follows from it; the end of the last call is recorded
with the job's. Results of pure handlers wait for no disk, as arithmetic does not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import islice

from dte.core.calls.awaited import AwaitedJobs
from dte.core.calls.cancels import Cancels
from dte.core.calls.chores import Chores
from dte.core.calls.lease import restored_lease
from dte.core.calls.leases import CallLeases
from dte.core.calls.pauses import Pauses
from dte.core.calls.policies import Policies
from dte.core.calls.ready import ReadyCalls
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CALLS_IN_SLICE, SKIPPED, CallGraph
from dte.core.graph.numbers import number_of
from dte.core.jobs.facts import JOB_ENDED, Cancel, End, Event, Step, call_event
from dte.core.jobs.job import Job, JobState, state_after
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits

RESTORED_S = 30.0
"""A lease from before a restart goes on at least this long: workers must find the way back."""
FEW = 200
"""More calls that wait for one of a long job are begun in slices."""
RESUMED_IN_TICK = 2_000
HOW = {
    JobState.FAILED: "failed",
    JobState.TIMED_OUT: "timed out",
    JobState.CANCELLED: "was cancelled",
}


class CallJobs:
    """Jobs of calls, from the moment at which they are recorded until they end.

    Attributes:
        pauses: calls that wait for a moment.
        ready: calls that wait for a worker.
        awaited: jobs that wait for others.
        cancels: jobs that are cancelled.
        chores: what is done with all calls of long jobs, a slice in each tick.
    """

    def __init__(
        self, limits: SchedulerLimits, table: JobTable, leases: CallLeases, policies: Policies
    ) -> None:
        self._limits = limits
        self._table = table
        self._leases = leases
        self._policies = policies
        self.pauses = Pauses(table)
        self.ready = ReadyCalls()
        self.chores = Chores()
        self.awaited = AwaitedJobs(self.chores, self._go_on)
        self.cancels = Cancels(
            table, leases, self.ready, self.chores, self._count_end, self._end_cancelled
        )

    # A job begins

    def begin_all(self, now: float, jobs: Sequence[Job]) -> None:
        """Begin the jobs of a submission that is recorded; in slices if they have many calls."""
        counts = [len(job.calls.calls) for job in jobs if job.calls is not None]
        if counts:
            is_long = len(counts) > 1 and sum(counts) > CALLS_IN_SLICE
            self.chores.run(now, self._begin_some(jobs), is_long=is_long)

    def _begin_some(self, jobs: Sequence[Job]) -> Generator[None, None, None]:
        left = CALLS_IN_SLICE
        for job in jobs:
            if job.calls is None or not job.goes_on:
                continue
            self.begin(self.chores.now, job)
            left -= 1 + len(job.calls.calls) + len(job.awaited) // 4
            if left <= 0:
                left = CALLS_IN_SLICE
                yield

    def begin(self, now: float, job: Job) -> None:
        """Begin a job that is recorded, or go on with one from before a restart.

        What workers have of it is taken up at once, and the rest of a long job in slices.
        """
        awaited = self.awaited.block(job)
        if job.graph is not None and job.graph.failure is not None:
            self.fail(now, job, job.graph.failure)
        self._take_up(now, job)
        if job.graph is None:
            return
        if job.cancelled:
            self.stop(now, job)
            return
        self.awaited.wait(job, awaited)
        if not job.blocked:
            self._go_on(now, job)

    def _take_up(self, now: float, job: Job) -> None:
        """Continue from the calls' restored states."""
        calls = _calls_of(job)
        for call in calls.calls.values() if calls.restored else ():
            record = call.record
            # Of a job that is run again, some calls were done before.
            if record.started_at is not None and record.started_at >= job.submitted_at:
                job.started_at = min(record.started_at, job.started_at or record.started_at)
            if call.state is CallState.RUNNING:
                self._take_up_lease(now, job, call)
            elif call.state is CallState.WAITING and record.resumes_at is not None:
                # The clock may have been set back since.
                latest = now + self._limits.retry_pause_max_s
                call.resumes_at = min(record.resumes_at - self._table.wall_offset_s, latest)
        if calls.is_formula:
            for call in calls.calls.values():
                if call.is_terminal and job.graph is not None:
                    self._ended_in_formula(now, job, call)
        elif not calls.remaining:
            self.chores.run(now, self._end_job(job), is_long=calls.is_long)

    def _take_up_lease(self, now: float, job: Job, call: Call) -> None:
        self._table.start(now, job)
        lease_s, timeout_s = self._limits.lease_s, self._policies.timeout_s(call)
        lease = restored_lease(now, call, RESTORED_S, lease_s, timeout_s)
        self._leases.add(lease)
        self._leases.watch(lease)

    def _go_on(self, now: float, job: Job) -> None:
        """Begin a job whose awaited jobs have ended."""
        self.chores.run(now, self._begin_calls(job), is_long=_calls_of(job).is_long)

    def _begin_calls(self, job: Job) -> Generator[None, None, None]:
        if not job.goes_on:
            return
        calls = _calls_of(job)
        if not job.run_on_failure:
            for other in job.awaited:
                if other.state is not JobState.SUCCEEDED:
                    error = f"{SKIPPED}job {other.number} {HOW[other.state]}"
                    yield from self._fail_all(job, calls, error)
                    return
        now = self.chores.now
        for count, call in enumerate(calls.calls.values(), 1):
            if call.state is CallState.WAITING and not call.missing:
                self.begin_call(now, job, call)
            if not count % CALLS_IN_SLICE:
                yield
                if not job.goes_on:
                    return
                now = self.chores.now

    def _fail_all(self, job: Job, calls: CallGraph, error: str) -> Generator[None, None, None]:
        events: list[Event] = []
        now = self.chores.now
        for count, call in enumerate(calls.calls.values(), 1):
            if call.state is CallState.WAITING:
                call.end(now + self._table.wall_offset_s, CallState.SKIPPED, error)
                calls.count_end(call)
                self._table.calls_ended(job, 1)
                events.append(call_event(now + self._table.wall_offset_s, call))
            if not count % CALLS_IN_SLICE:
                yield
                if not job.goes_on:
                    self._table.events += events
                    return
                now = self.chores.now
        self._end(now, job, error=error).events = events

    # A call begins

    def begin_call(self, now: float, job: Job, call: Call) -> None:
        """A call's operands are known: it is ready, now or from its moment on."""
        if job.blocked or call.is_terminal:
            return
        if call.operands and self._is_too_long(now, job, call):
            return
        moments = (call.terms.delayed_until, call.resumes_at)
        self.enqueue(now, call, max(at or now for at in moments))

    def enqueue(self, now: float, call: Call, moment: float) -> None:
        """Let a call wait for a worker, at once or from a moment on."""
        pauses = moment > now
        call.resumes_at = moment if pauses else None
        call.record.resumes_at = moment + self._table.wall_offset_s if pauses else None
        if pauses:
            self.pauses.add(moment, call)
        elif not self.pauses.hold_back(now, call):
            call.enter(CallState.READY)
            self.ready.add(call)

    def _is_too_long(self, now: float, job: Job, call: Call) -> bool:
        """End a call whose arguments, with the operands in them, exceed the bound."""
        size, most = call.filled_size(), self._limits.value_bytes_max
        if size <= most:
            return False
        error = f"arguments too large once results are filled in: {size} bytes > {most} "
        self.end_call(now, job, call, CallState.FAILED, None, f"{error}(value_bytes_max)")
        return True

    def resume(self, now: float) -> None:
        """Go on with the calls whose pause is over."""
        for call in islice(self.pauses.due(now), RESUMED_IN_TICK):
            self.enqueue(now, call, now)

    # A call ends

    def end_call(
        self,
        now: float,
        job: Job,
        call: Call,
        state: CallState,
        value: bytes | None,
        error: str | None,
        trace: str | None = None,
    ) -> Step | End | None:
        """End a call once that is recorded, or at once if it need not be.

        Returns:
            The fact to be recorded, if there is one.
        """
        calls = _calls_of(job)
        call.conclude(now + self._table.wall_offset_s, state, value, error, trace)
        call.progress = None
        last = calls.remaining == 1 and not calls.is_formula and not calls.is_long
        if call.pure or last:
            return self._ended(now, job, call, with_job=last and not call.pure)
        call.enter(CallState.ENDING)
        step = Step(call, call.record.copy())
        self._table.step(step)
        return step

    def recorded(self, now: float, call: Call) -> None:
        """A call's end is recorded."""
        job = self._table.unfinished(call.job)
        if job is not None:
            self._ended(now, job, call)
            return
        call.finish()
        self.notify(now, call, None)

    def _ended(self, now: float, job: Job, call: Call, *, with_job: bool = False) -> End | None:
        """A call has ended: its readers begin, and the job may end.

        Args:
            with_job: it ends the job and is recorded with that; nobody sees its end before.
        """
        call.finish()
        calls = _calls_of(job)
        if calls.is_long and (len(call.readers) > FEW or call.state is not CallState.SUCCEEDED):
            self._count_end(now, job, call)
            if job.state is JobState.CANCELLING:
                return self.cancels.end(now, job)
            self.chores.run(now, self._pass_on(job, call), is_long=True)
            return None
        ready, skipped = calls.ended(call)
        done = int(call.state is CallState.SUCCEEDED)
        self._table.calls_ended(job, 1 + len(skipped), done, call.record.size)
        wall_s = now + self._table.wall_offset_s
        events = [call_event(wall_s, ended) for ended in (call, *skipped)]
        if not with_job:
            self._table.events += events
        end = self._follow(now, job, call, ready)
        if with_job:
            assert end is not None, "it was the last call"
            end.events = events
        return end

    def _count_end(self, now: float, job: Job, call: Call) -> None:
        """Count a call that has ended, before anything follows from it."""
        _calls_of(job).count_end(call)
        done = int(call.state is CallState.SUCCEEDED)
        self._table.calls_ended(job, 1, done, call.record.size)
        self.notify(now, call, None)

    def _pass_on(self, job: Job, call: Call) -> Generator[None, None, None]:
        """Let the readers of a call of a long job begin, or skip them."""
        if not job.goes_on:
            return  # All of its calls are cancelled, or have ended.
        ready: list[Call] = []
        skipped: list[Call] = []
        for _ in _calls_of(job).passing_on(call, ready, skipped):
            self._passed_on(job, ready, skipped)
            yield
            if not job.goes_on:
                return
        self._passed_on(job, ready, skipped)
        self._follow(self.chores.now, job, call, [])

    def _passed_on(self, job: Job, ready: list[Call], skipped: list[Call]) -> None:
        now = self.chores.now
        self._table.calls_ended(job, len(skipped))
        for call in skipped:
            self.notify(now, call, None)
        for call in ready:
            self.begin_call(now, job, call)
        ready.clear()
        skipped.clear()

    def _follow(self, now: float, job: Job, call: Call, ready: list[Call]) -> End | None:
        """Begin the readers of a call that ended, or end its job."""
        calls = _calls_of(job)
        if job.closing:
            return None
        if job.state is JobState.CANCELLING:
            return self.cancels.end(now, job)
        if calls.is_formula:
            return self._ended_in_formula(now, job, call)
        for reader in ready:
            self.begin_call(now, job, reader)
        has_ended = job.graph is None  # By a reader that could not begin.
        if calls.remaining or has_ended:
            return None
        return self.chores.run(now, self._end_job(job), is_long=calls.is_long)

    def _ended_in_formula(self, now: float, job: Job, call: Call) -> End | None:
        """Put the result of a call into the arithmetic of its formula; a failure ends the job."""
        graph, calls = job.graph, _calls_of(job)
        assert graph is not None
        if call.state is not CallState.SUCCEEDED:
            error, trace = f"{call.name}: {call.record.error}", call.record.trace
            return self.fail(now, job, error, trace, state_after(call.state))
        for reader in call.readers:
            if reader.state is CallState.WAITING and not reader.missing:
                self.begin_call(now, job, reader)
        if job.graph is None:
            return None  # A reader could not begin.
        number = number_of(call.record.value)
        assert number is not None, "results of a formula's calls are numbers"
        if calls.answer is call:
            end = self._table.answer(now, job, number)
            self.end_calls(now, job)
            return end
        ready_before = len(graph.ready)
        graph.supply(call.edges, number)
        self._table.ready.add(job, len(graph.ready) - ready_before)
        return None

    def fail(
        self,
        now: float,
        job: Job,
        error: str,
        trace: str | None = None,
        state: JobState = JobState.FAILED,
    ) -> End | None:
        """End a formula that fails; one with many calls in slices."""
        if not _calls_of(job).is_long:
            return self._end(now, job, error=error, trace=trace, state=state)
        if not job.closing:
            job.closing = True
            self.chores.run(now, self._fail_formula(job, error, trace, state), is_long=True)
        return None

    def _fail_formula(
        self, job: Job, error: str, trace: str | None, state: JobState
    ) -> Generator[None, None, None]:
        yield from self.cancels.cancel_rest(job)
        if job.graph is not None:
            self._end(self.chores.now, job, error=error, trace=trace, state=state)

    # A job ends

    def _end_job(self, job: Job) -> Generator[None, None, End | None]:
        """End a graph whose calls have all ended; None if it has ended meanwhile."""
        if job.graph is None:
            return None
        calls = _calls_of(job)
        bad = yield from calls.finding_failure()
        if bad is None:
            error = yield from calls.finding_excess(self._limits.value_bytes_max)
            answer = None if error else (yield from calls.writing_result())
            return self._end(self.chores.now, job, answer=answer, error=error)
        cause = yield from calls.finding_cause(bad)
        # The name of a job's only call means nothing to anybody.
        node = f"node {bad.name!r}: " if len(calls.calls) > 1 else ""
        error, state = f"{node}{bad.record.error}", state_after(bad.state)
        return self._end(self.chores.now, job, error=error, trace=cause.record.trace, state=state)

    def _end(
        self,
        now: float,
        job: Job,
        *,
        answer: bytes | None = None,
        error: str | None = None,
        trace: str | None = None,
        state: JobState = JobState.SUCCEEDED,
    ) -> End:
        end = self._table.end(now, job, answer=answer, error=error, trace=trace, state=state)
        self.end_calls(now, job)
        return end

    def end_calls(self, now: float, job: Job) -> None:
        """End the calls of a job that ends without them, as a formula does by its first failure."""
        for call in job.each_call():
            if call.state is CallState.ENDING:
                call.recorded = True  # Its step is recorded with the job's end, if not before.
            elif not call.is_terminal:
                self._drop(call)
                call.end(now + self._table.wall_offset_s, CallState.CANCELLED, JOB_ENDED)
                self.notify(now, call, None)

    def _drop(self, call: Call) -> None:
        """Take a call from its worker, or out of the line."""
        lease = self._leases.get(call.record.lease)
        if lease is not None:
            if lease.handed:
                self.cancels.stops.append(lease)
            self._leases.release(lease)
        elif call.state is CallState.READY:
            self.ready.drop(call)

    def closed(self, now: float, ends: Iterable[End]) -> None:
        """The ends of jobs are recorded: others may have waited for them."""
        for end in ends:
            job = end.job
            if job.calls is not None:
                for call in job.each_call():
                    call.recorded = True
            self.awaited.closed(now, job)

    # A job is cancelled

    def cancel(self, now: float, job: Job) -> Cancel | End | None:
        """Cancel a job; see `Cancels.cancel`."""
        return self.cancels.cancel(now, job)

    def stop(self, now: float, job: Job) -> None:
        """The wish to cancel a job is recorded; see `Cancels.stop`."""
        self.cancels.stop(now, job)

    def _end_cancelled(self, now: float, job: Job) -> End:
        return self._end(now, job, error="cancelled", state=JobState.CANCELLED)

    def notify(self, now: float, call: Call, text: str | None) -> None:
        """Let clients that watch know the state of a call."""
        self._table.events.append(call_event(now + self._table.wall_offset_s, call, text))


def _calls_of(job: Job) -> CallGraph:
    assert job.calls is not None, "a job of calls"
    return job.calls
