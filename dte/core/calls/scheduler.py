"""Calls: handed out, renewed, reported.

Each call is handed out under a lease of its own. The hand-over is recorded before the worker gets
the call, unless the handler is pure: so an attempt that a crash of the master cut off is known
after the restart, and a result under the old lease still counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from random import Random

from dte.core.calls.attempts import Attempts, Outcome
from dte.core.calls.claims import Claims
from dte.core.calls.jobs import CallJobs
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.policies import Policies
from dte.core.calls.prefetch import Prefetch
from dte.core.calls.ready import Choose, Route
from dte.core.calls.routing import Routing
from dte.core.calls.setbacks import Setback
from dte.core.graph.call import Call, CallState
from dte.core.jobs.facts import End, Event, Step
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Claim, Delivery, Failure, Worker

LEASES_IN_TICK = 500
"""Most calls handed out in a tick."""
LOST_IN_TICK = 300
"""Most calls that are lost with their workers in a tick."""


class CallScheduler:
    """Decides which call goes to which worker, and takes in the reports.

    Args:
        next_lease: gives the number of the next lease.

    Attributes:
        jobs: jobs of calls.
        leases: the calls that workers have.
        claims: the open claims.
        policies: those of handlers.
        routing: which workers may run which calls.
        handing_over: new leases may be made.
        stale_results: results that came under leases that had ended, without repeats of results
            that were taken.
    """

    def __init__(
        self,
        limits: SchedulerLimits,
        table: JobTable,
        workers: AvailabilityQueue,
        random: Random,
        next_lease: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._table = table
        self._workers = workers
        self._next_lease = next_lease
        self._to_send: list[CallLease] = []
        self._prefetch = Prefetch()
        self._more_to_match = False
        self._lost_in_tick = 0
        self.leases = CallLeases(workers)
        self.claims = Claims(self.leases, workers)
        self.policies = Policies(workers)
        self.routing = Routing(workers.handlers)
        self.jobs = CallJobs(limits, table, self.leases, self.policies)
        self._attempts = Attempts(limits, table, self.leases, self.policies, self.jobs, random)
        self.handing_over = True
        self.stale_results = 0

    # Workers

    def cancel_claim(self, now: float, claim: Claim) -> None:
        """Close a claim for which nobody waits any more; its calls go to others."""
        self.claims.remove(claim)
        numbers, claim.call_leases = claim.call_leases, []
        for number in numbers:
            lease = self.leases.get(number)
            if lease is not None:
                self._attempts.requeue(now, lease)

    def extend(
        self,
        now: float,
        numbers: Iterable[int],
        progress: Mapping[int, tuple[float, str]],
        worker: str | None = None,
        session: str = "",
    ) -> tuple[list[int], list[int], list[int]]:
        """Renew leases on which a worker is at work.

        Args:
            progress: reports of handlers, by lease.
            worker: its name; None if it is known to be the right one.
            session: its session, as `Announcement` has it.

        Returns:
            The leases that go on, those that have ended, and those that go on but must be stopped.
        """
        extended: list[int] = []
        lost: list[int] = []
        stop: list[int] = []
        for number in numbers:
            lease = self.leases.get(number)
            if lease is None or not _has(worker, session, lease):
                lost.append(number)
                continue
            self.leases.renew(now, lease)
            if lease.worker is not None:
                self._workers.seen(now, lease.worker)
            (stop if lease.stop else extended).append(number)
            if number in progress:
                self._note_progress(now, lease.call, *progress[number])
        return extended, lost, stop

    def _note_progress(self, now: float, call: Call, fraction: float, text: str) -> None:
        if call.progress == (fraction, text):
            return
        call.progress = (fraction, text)
        at = now + self._table.wall_offset_s
        event = Event(at, call.job, call.name, "progress", text or None, fraction)
        self._table.events.append(event)

    def seen(self, now: float, worker: Worker) -> None:
        """Note a sign of life of a worker that does not name its leases."""
        self._workers.seen(now, worker)
        self.leases.renew_of(now, worker)

    def asks_again(self, worker: Worker) -> None:
        """A worker that does one thing at a time asks for work: it has forgotten the rest.

        Signs of life no longer renew its leases; they may still be reported.
        """
        for lease in self.leases.of(worker):
            lease.renewed = False

    def lose_worker(self, now: float, worker: Worker, reason: str) -> None:
        """A worker is gone, or was started anew: its calls go to others, many in slices."""
        if worker.claim is not None:
            self.claims.remove(worker.claim)
        leases = self.leases.of(worker)
        is_long = self._lost_in_tick + len(leases) > LOST_IN_TICK
        if not is_long:
            self._lost_in_tick += len(leases)
        self.jobs.chores.run(now, self._lose_all(leases, reason), is_long=is_long)

    def _lose_all(self, leases: Sequence[CallLease], reason: str) -> Generator[None, None, None]:
        for count, lease in enumerate(leases, 1):
            if self.leases.is_on(lease):  # The loss of another may have ended its job.
                self._attempts.lose(self.jobs.chores.now, lease, reason)
            if not count % LOST_IN_TICK:
                yield

    # Results

    def report(
        self,
        now: float,
        number: int,
        outcome: Outcome,
        worker: str | None = None,
        session: str = "",
    ) -> Step | End | bool | None:
        """Take in a worker's report on a call.

        Args:
            worker: its name; None if it is known to be the right one.
            session: its session, as `Announcement` has it.

        Returns:
            The fact to be recorded before the report is acknowledged; None for none; False if the
            report does not count, as the lease has ended.
        """
        lease = self.leases.get(number)
        if lease is None or not _has(worker, session, lease):
            self.stale_results += 1
            return False
        if lease.worker is not None:
            lease.worker.last_seen_at = now
            lease.worker.failures, lease.worker.last_failure = 0, None
        self._prefetch.took(now, lease.call.handler, lease.leased_at)
        fact = self._settle(now, lease, outcome)
        if lease.worker is not None and lease.call.record.state is CallState.SUCCEEDED:
            lease.worker.calls_done += 1
        return fact

    def report_unleased(
        self, now: float, call: Call | None, worker: str, outcome: Outcome, dialect: str = ""
    ) -> Step | End | bool | None:
        """Take in a report from a worker whose lease has run out, if nobody else has the call.

        Args:
            call: the call that the worker ran; None if it ran none that is known.
            dialect: the worker's.

        Returns:
            As `report`.
        """
        queued = (CallState.READY, CallState.PAUSED)
        waits = call is not None and call.state in queued and not call.reported
        had_it = call is not None and call.record.worker == worker and call.record.is_of(dialect)
        if call is not None and waits and had_it:
            if call.state is CallState.READY:
                self.jobs.ready.drop(call)
            call.enter(CallState.RUNNING)
            return self._conclude(now, call, outcome)
        is_repeat = call is not None and had_it and call.reported
        self.stale_results += not is_repeat
        return False

    def _settle(self, now: float, lease: CallLease, outcome: Outcome) -> Step | End | None:
        self.leases.release(lease)
        return self._conclude(now, lease.call, outcome)

    def _conclude(self, now: float, call: Call, outcome: Outcome) -> Step | End | None:
        """Take in how an attempt ended.

        A failure at a worker of a dialect does not count if one of dte's own has the handler: the
        first may have taken a task whose handler it does not know.
        """
        is_running = call.state is CallState.RUNNING
        if is_running and call.record.dialect and self._attempts.failed(call, outcome):
            call.refused = True
            present = (worker.announcement for worker in self._workers if worker.is_present)
            call.refused = any(self.routing.can_run(each, call) for each in present)
            if call.refused:
                outcome = Outcome(None, None, outcome.error, begun=True)
        return self._attempts.settle(now, call, outcome)

    def fail(self, now: float, number: int, reason: str, failure: Failure) -> None:
        """Note that a hand-over failed; a lease that has ended is ignored."""
        lease = self.leases.get(number)
        if lease is None:
            return
        if failure.received:
            self._attempts.lose(now, lease, reason)
        else:
            self._attempts.requeue(now, lease)

    # Recording

    def recorded(self, now: float, step: Step) -> None:
        """A step is recorded: its call has ended, or is handed over in the next tick."""
        call, record = step.call, step.record
        if record.state is not None:
            call.recorded = True
            if call.state is CallState.ENDING:
                self.jobs.recorded(now, call)
            return
        lease = self.leases.get(record.lease)
        if lease is not None:
            self._to_send.append(lease)

    def unrecorded(self, now: float, step: Step) -> None:
        """A step could not be recorded: a hand-over is void; an end comes again."""
        lease = self.leases.get(step.record.lease)
        if lease is not None:
            self._attempts.requeue(now, lease, void=True)

    # The tick

    def advance(self, now: float) -> None:
        """End the leases of silent workers and of calls that take too long; go on with others."""
        self._lost_in_tick = 0
        for lease in self.leases.due(now):
            if lease.timeout_at is not None and lease.timeout_at <= now:
                error = f"it took longer than {lease.timeout_s:g} s"
                self.jobs.cancels.stops.append(lease)
                self._settle(now, lease, Outcome(CallState.TIMED_OUT, None, error))
            elif self.handing_over:  # A master that ends hears nobody, and silence means nothing.
                reason = f"silent for {lease.lease_s:g} s"
                if lease.worker is not None and lease.worker.announcement.delivery is Delivery.PUSH:
                    lease.worker.silent_since = now
                self._attempts.lose(now, lease, reason)
        self.jobs.resume(now)
        self.jobs.chores.advance(now)
        self.claims.reopen_emptied()

    def match(self, now: float) -> list[CallLease]:
        """Lease ready calls to workers with free slots; the leases to be sent.

        These are the leases whose making is recorded, or need not be.
        """
        passed: list[Worker] = []
        self._more_to_match = False
        made, ready = 0, self.jobs.ready
        while self.handing_over and ready.count:
            if made >= LEASES_IN_TICK:
                self._more_to_match = True
                break
            worker = self._workers.calls.next()
            if worker is None:
                break
            if not self.leases.outgoing.has_room(worker):
                passed.append(worker)
                continue
            choose = self._chooser(worker) if ready.is_routed else None
            allowed = self._prefetch.allowed(worker, ready.handlers())
            call = ready.take(self.routing.own(worker.announcement, allowed), choose)
            if call is None:
                passed.append(worker)
                continue
            made += 1
            if not (
                self.jobs.cancels.cancel_taken(now, call)
                or self._attempts.end_spent(now, call, worker.announcement)
                or self.jobs.pauses.hold_back(now, call)
            ):
                self._hand_over(now, worker, call)
            self._workers.calls.offer(worker)
        for worker in passed:
            self._workers.calls.offer(worker)
        self.claims.close_filled()
        return self._send(now)

    def _chooser(self, worker: Worker) -> Choose:
        """Gives the handlers whose calls of a route a worker may get now."""

        has_long_room = self.leases.outgoing.has_room(worker, is_long=True)

        def choose(route: Route, waiting: Collection[str]) -> Collection[str]:
            if route.is_long and not has_long_room:
                return ()
            names = self.routing.able(worker.announcement, route, waiting)
            if worker.announcement.dialect:  # It takes no more than its slots.
                return names
            allowed = self._prefetch.allowed(worker, waiting)
            return [name for name in allowed if name in names]

        return choose

    def _hand_over(self, now: float, worker: Worker, call: Call) -> None:
        announcement, record = worker.announcement, call.record
        call.enter(CallState.RUNNING)
        record.attempts += 1
        record.worker, record.dialect = announcement.name, announcement.dialect
        record.session = announcement.session or None
        record.error, record.trace, call.progress = None, None, None
        record.started_at = now + self._table.wall_offset_s
        call.reported = False
        timeout_s = self.policies.begin(call, announcement)
        lease_s = announcement.lease_s or self._limits.lease_s
        lease = CallLease(
            self._next_lease(),
            call,
            worker,
            announcement.name,
            now,
            lease_s,
            now + lease_s,
            timeout_s,
            claim=worker.claim,
            is_long=self._prefetch.is_long(call.handler),
        )
        if worker.claim is not None:
            worker.claim.call_leases.append(lease.number)
            worker.claim.bytes_left -= call.size + sum(map(len, call.operands.values()))
        self.leases.add(lease)
        self.leases.outgoing.add(lease)
        if call.pure:
            self._to_send.append(lease)
        else:
            self._table.step(Step(call, record.copy()))

    def _send(self, now: float) -> list[CallLease]:
        """Let workers have the calls whose hand-over is recorded, or need not be.

        Returns:
            The leases of workers that are called.
        """
        # A job may have ended since.
        leases = [lease for lease in self._to_send if self.leases.is_on(lease)]
        self._to_send = []
        for lease in leases:
            self._begin_lease(now, lease)
        return [
            lease
            for lease in leases
            if lease.worker is not None and lease.worker.announcement.delivery is Delivery.PUSH
        ]

    def _begin_lease(self, now: float, lease: CallLease) -> None:
        call, worker = lease.call, lease.worker
        job = self._table.unfinished(call.job)
        assert job is not None, "a job ends with its calls"
        lease.sent, lease.leased_at = True, now
        lease.deadline = now + lease.lease_s
        if lease.timeout_s is not None:
            # A worker that keeps to it by itself reports sooner, and what became of the call.
            can_stop = worker is not None and worker.announcement.can_stop
            grace_s = self._limits.lease_s if can_stop else 0.0
            lease.timeout_at = now + lease.timeout_s + grace_s
        self.leases.watch(lease)
        self._table.start(now, job)
        self.jobs.notify(now, call, f"on {lease.worker_name}")

    def take_stops(self) -> list[CallLease]:
        """The leases whose calls workers must stop, since the last call."""
        stops, self.jobs.cancels.stops = self.jobs.cancels.stops, []
        return stops

    def take_setbacks(self) -> list[Setback]:
        """The attempts without a result since the last call."""
        return self._attempts.setbacks.take()

    def next_moment(self) -> float | None:
        """When a tick next has something to do."""
        if self._more_to_match or self.jobs.chores:
            return float("-inf")
        moments = (self.leases.next_moment(), self.jobs.pauses.next_moment())
        return min((moment for moment in moments if moment is not None), default=None)

    def check(self) -> None:
        """Assert every invariant; for tests."""
        self.jobs.ready.check()
        self.leases.check()


def _has(worker: str | None, session: str, lease: CallLease) -> bool:
    """True if the worker of a name and a session may have a call."""
    return lease.sent if worker is None else lease.is_of(worker, "", session)
