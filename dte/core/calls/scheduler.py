"""Calls: handed out, extended, reported.

A call is handed out under a lease of its own. That it is, is recorded before a worker hears of it,
unless the handler is pure: so an attempt that a crash cut off is known after a restart, and what
the worker gives back under the old lease still counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from dte.core.calls.attempts import ANY_POLICY, Attempts, Outcome
from dte.core.calls.jobs import CallJobs
from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.prefetch import Prefetch
from dte.core.calls.ready import ReadyCalls
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.facts import Cancel, End, Event, Step, record_of
from dte.core.jobs.job import Job
from dte.core.jobs.table import JobTable
from dte.core.limits import SchedulerLimits
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Claim, Delivery, Worker

LEASES_IN_TICK = 500
"""How many calls are handed out in a tick."""


@dataclass(slots=True)
class CallTurn:
    """The outcome of a tick for calls.

    Attributes:
        leases: calls that are to be handed to workers which are called.
        stops: leases of such workers that are to be stopped.
        claims: those that can be answered now.
    """

    leases: list[CallLease]
    stops: list[CallLease]
    claims: list[Claim]


class CallScheduler:
    """Decides which call goes to which worker, and what follows from what became of it.

    Args:
        next_lease: gives the number of the next lease.

    Attributes:
        stale_results: how many results came under leases that had ended.
    """

    def __init__(
        self,
        limits: SchedulerLimits,
        jobs: JobTable,
        workers: AvailabilityQueue,
        random: Random,
        next_lease: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._jobs = jobs
        self._workers = workers
        self._next_lease = next_lease
        self._leases = CallLeases(workers)
        self._attempts = Attempts(limits, jobs, self._leases, random)
        self._call_jobs = CallJobs(limits, jobs, self._leases, self._attempts)
        self._to_send: list[CallLease] = []
        self._claims: dict[Worker, Claim] = {}
        self._prefetch = Prefetch()
        self._pure: frozenset[str] = frozenset()
        self._more_to_match = False
        self.handing_over = True
        self.stale_results = 0

    # Asking

    @property
    def leases(self) -> int:
        """How many calls workers have."""
        return len(self._leases)

    @property
    def ready(self) -> ReadyCalls:
        """The calls that wait for a worker."""
        return self._attempts.ready

    def lease(self, number: int) -> CallLease | None:
        return self._leases.get(number)

    def leases_of(self, worker: Worker) -> list[CallLease]:
        """The leases of calls that a worker holds, those that are being recorded not."""
        return [lease for lease in self._leases.of(worker) if lease.sent]

    def pure_handlers(self) -> frozenset[str]:
        """The handlers of which a worker has said that they are pure."""
        return self._pure

    def know(self, handlers: Mapping[str, HandlerPolicy]) -> None:
        """Take in what a worker said of its handlers, where it said more than their names."""
        policies = self._attempts.policies
        news = {
            name: policy
            for name, policy in handlers.items()
            if policies.get(name) != policy and (policy != ANY_POLICY or name not in policies)
        }
        if news:
            policies.update(news)
            self._pure = frozenset(name for name, policy in policies.items() if policy.pure)

    def claim(self, worker: Worker, slots: int) -> Claim:
        """Note that a worker waits for work, for up to so many calls; it has no other claim."""
        assert worker.claim is None
        claim = worker.claim = self._claims[worker] = Claim(worker, slots)
        self._workers.offer(worker)
        return claim

    def withdraw(self, now: float, claim: Claim) -> None:
        """Note that nobody waits for a claim any more; what it got is given back."""
        self._close(claim)
        numbers, claim.leases = claim.leases, []
        for number in numbers:
            lease = self._leases.get(number)
            if lease is not None:
                self._attempts.requeue(now, lease)

    def _close(self, claim: Claim) -> None:
        claim.closed = True
        if self._claims.get(claim.worker) is claim:
            del self._claims[claim.worker]
            claim.worker.claim = None

    def extend(
        self,
        now: float,
        numbers: Iterable[int],
        progress: Mapping[int, tuple[float, str]],
        worker: str | None = None,
    ) -> tuple[list[int], list[int], list[int]]:
        """Note that a worker is at work on leases.

        Args:
            worker: its name; None if it is known who says it.

        Returns:
            Those that go on, those that have ended, and those that go on and are to be stopped.
        """
        extended: list[int] = []
        lost: list[int] = []
        stop: list[int] = []
        for number in numbers:
            lease = self._leases.get(number)
            if lease is None or not lease.is_of(worker):
                lost.append(number)
                continue
            self._leases.renew(now, lease)
            if lease.worker is not None:
                self._workers.heard(now, lease.worker)
            (stop if lease.stop else extended).append(number)
            if number in progress:
                self._note_progress(now, lease.call, *progress[number])
        return extended, lost, stop

    def heard(self, now: float, worker: Worker) -> None:
        """Note a sign of life of a worker that does not name its leases."""
        self._workers.heard(now, worker)
        self._leases.renew_of(now, worker)

    def asks_again(self, worker: Worker) -> None:
        """A worker that does one thing after the other asks for work: it has forgotten the rest.

        Its leases are not renewed any more by signs of life; they may still be reported.
        """
        for lease in self._leases.of(worker):
            lease.renewed = False

    def worker_ended(self, now: float, worker: Worker, reason: str) -> None:
        """A worker is gone, or was started anew: what it had goes to another."""
        if worker.claim is not None:
            self._close(worker.claim)
        for lease in self._leases.of(worker):
            self._attempts.lose(now, lease, reason)

    def report(
        self, now: float, number: int, outcome: Outcome, worker: str | None = None
    ) -> Step | End | bool | None:
        """Take in what a worker says of a call.

        Args:
            worker: its name; None if it is known who says it.

        Returns:
            What is to be recorded before the worker hears that it counts; None for nothing; False
            if the lease has ended, so that it does not count.
        """
        lease = self._leases.get(number)
        if lease is None or not lease.is_of(worker):
            self.stale_results += 1
            return False
        if lease.worker is not None:
            lease.worker.last_seen_at = now
            lease.worker.failures, lease.worker.last_failure = 0, None
            lease.worker.calls_done += 1
        self._prefetch.took(now, lease.call.handler, lease.leased_at)
        return self._outcome(now, lease, outcome)

    def report_unleased(
        self, now: float, call: Call, worker: str, outcome: Outcome
    ) -> Step | End | bool | None:
        """Take in a result of a worker whose lease has run out, if nobody else has the call.

        Returns:
            As `report`.
        """
        waits = call.state in (CallState.READY, CallState.PAUSED) and not call.reported
        if waits and call.worker == worker:
            if call.state is CallState.READY:
                self._attempts.ready.drop(call)
            call.enter(CallState.RUNNING)
            return self._attempts.settle(now, call, outcome)
        self.stale_results += 1
        return False

    def fail(self, now: float, number: int, reason: str, *, taken: bool) -> None:
        """Say that a call did not get to a worker, or that the worker did not keep to the form.

        Args:
            taken: the worker got it, or may have.
        """
        lease = self._leases.get(number)
        if lease is None:
            return
        if taken:
            self._attempts.lose(now, lease, reason)
        else:
            self._attempts.requeue(now, lease)

    def _outcome(self, now: float, lease: CallLease, outcome: Outcome) -> Step | End | None:
        self._leases.release(lease)
        return self._attempts.settle(now, lease.call, outcome)

    # Jobs

    def cancel(self, now: float, job: Job) -> Cancel | End | None:
        """Have a job cancelled: at once if no worker has a call of it.

        Returns:
            What is to be recorded first; None if it has ended or is ending.
        """
        return self._call_jobs.cancel(now, job)

    def begin_call(self, now: float, call: Call) -> None:
        """A call waits for nothing any more."""
        self._attempts.begin_call(now, call)

    # The tick

    def advance(self, now: float) -> None:
        """Do what is due by now."""
        self._take_recorded(now)
        self._look_at_deadlines(now)
        self._attempts.resume(now)
        self._reopen_claims()

    def hand_over(self, now: float) -> CallTurn:
        """Hand over what can be."""
        self._match(now)
        leases, self._to_send = self._to_send, []
        stops, self._attempts.stops = self._attempts.stops, []
        push = [
            lease
            for lease in leases
            if self._leases.is_on(lease)  # Its job may have ended since.
            and lease.worker is not None
            and lease.worker.announcement.delivery is Delivery.PUSH
        ]
        return CallTurn(push, stops, self._complete_claims())

    def next_moment(self) -> float | None:
        """When a tick next has something to do."""
        if self._more_to_match:
            return float("-inf")
        moments = (self._leases.next_moment(), self._attempts.next_moment())
        return min((moment for moment in moments if moment is not None), default=None)

    def _take_recorded(self, now: float) -> None:
        jobs = self._jobs
        while jobs.begun or jobs.steps or jobs.void_steps or jobs.stopping or jobs.closed:
            begun, jobs.begun = jobs.begun, []
            steps, jobs.steps = jobs.steps, []
            void, jobs.void_steps = jobs.void_steps, []
            stopping, jobs.stopping = jobs.stopping, []
            closed, jobs.closed = jobs.closed, []
            for job in closed:
                if job.calls is not None:
                    for call in job.calls.calls.values():
                        call.recorded = True
                self._call_jobs.closed(now, job)
            for job in begun:
                self._call_jobs.begin(now, job)
            for job in stopping:  # Before its calls are handed over.
                self._call_jobs.stop(now, job)
            self._let_orphans_go(now)  # Likewise.
            for step in steps:
                self._recorded(now, step)
            for step in void:
                if step.lease is not None and self._leases.is_on(step.lease):
                    self._attempts.requeue(now, step.lease, void=True)
        self._let_orphans_go(now)

    def _let_orphans_go(self, now: float) -> None:
        orphans, self._jobs.orphans = self._jobs.orphans, []
        for call in orphans:
            self._call_jobs.orphan(now, call)

    def _recorded(self, now: float, step: Step) -> None:
        call = step.call
        if step.ends is not None:
            call.recorded = True
            if call.state is CallState.ENDING:
                self._attempts.recorded(now, call, step.ends)
        elif step.lease is not None and self._leases.is_on(step.lease):
            self._send(now, step.lease)

    def _look_at_deadlines(self, now: float) -> None:
        for lease in self._leases.due(now):
            if lease.timeout_at is not None and lease.timeout_at <= now:
                error = f"it took longer than {lease.timeout_s:g} s"
                self._attempts.stops.append(lease)
                self._outcome(now, lease, Outcome(CallState.TIMED_OUT, None, error))
            else:
                reason = f"silent for {lease.lease_s:g} s"
                if lease.worker is not None and lease.worker.announcement.delivery is Delivery.PUSH:
                    lease.worker.silent_since = now
                self._attempts.lose(now, lease, reason)

    def _match(self, now: float) -> None:
        passed: list[Worker] = []
        self._more_to_match = False
        made = 0
        while self.handing_over and self._attempts.ready.count:
            if made >= LEASES_IN_TICK:
                self._more_to_match = True
                break
            worker = self._workers.next_for_calls()
            if worker is None:
                break
            ready = self._attempts.ready
            call = ready.take(self._prefetch.allowed(worker, ready.handlers()))
            if call is None:
                passed.append(worker)
                continue
            made += 1
            if not self._attempts.end_spent(now, call):
                self._hand_over(now, worker, call)
            self._workers.offer(worker)
        for worker in passed:
            self._workers.offer(worker)
        for claim in [claim for claim in self._claims.values() if claim.leases]:
            claim.closed = True

    def _hand_over(self, now: float, worker: Worker, call: Call) -> None:
        announcement, job = worker.announcement, call.job
        assert job is not None
        call.enter(CallState.RUNNING)
        call.attempts += 1
        call.worker, call.error, call.progress = announcement.name, None, None
        call.reported = False
        call.started_at = now
        call.pure = call.pure or announcement.handlers[call.handler].pure
        lease_s = announcement.lease_s or self._limits.lease_s
        lease = CallLease(
            self._next_lease(),
            call,
            worker,
            announcement.name,
            now,
            lease_s,
            now + lease_s,
            self._attempts.timeout_s(call),
            claim=worker.claim,
            is_long=self._prefetch.is_long(call.handler),
        )
        if worker.claim is not None:
            worker.claim.leases.append(lease.number)
        self._leases.add(lease)
        if call.pure:
            self._send(now, lease)
        else:
            self._jobs.step(Step(call, record_of(call), lease))

    def _send(self, now: float, lease: CallLease) -> None:
        """A lease is recorded, or need not be: the worker may have it now."""
        call, worker = lease.call, lease.worker
        assert call.job is not None
        lease.sent, lease.leased_at = True, now
        lease.deadline = now + lease.lease_s
        if lease.timeout_s is not None:
            # Who keeps to it by itself says so sooner, and what became of the call.
            can_stop = worker is not None and worker.announcement.can_stop
            grace_s = self._limits.lease_s if can_stop else 0.0
            lease.timeout_at = now + lease.timeout_s + grace_s
        self._leases.watch(lease)
        self._attempts.start_job(now, call.job)
        self._attempts.tell(now, call, f"on {lease.worker_name}")
        self._to_send.append(lease)

    def _complete_claims(self) -> list[Claim]:
        complete = [claim for claim in self._claims.values() if self._is_complete(claim)]
        for claim in complete:
            claim.answered = True
            self._close(claim)
        return complete

    def _is_complete(self, claim: Claim) -> bool:
        """Whether a claim can be answered: it got work, and its leases are recorded."""
        leases = map(self._leases.get, claim.leases)
        return bool(claim.leases or claim.batch) and all(lease and lease.sent for lease in leases)

    def _reopen_claims(self) -> None:
        """Let claims wait on that have lost what they got before they could be answered."""
        for claim in self._claims.values():
            if claim.closed and not claim.leases:
                claim.closed = False
                self._workers.offer(claim.worker)

    def _note_progress(self, now: float, call: Call, fraction: float, text: str) -> None:
        if call.progress == (fraction, text):
            return
        call.progress = (fraction, text)
        assert call.job is not None
        self._jobs.events.append(
            Event(now, call.job.number, call.name, "progress", text or None, fraction)
        )

    def check(self) -> None:
        """Assert every invariant; for tests."""
        self._attempts.ready.check()
        self._leases.check()
