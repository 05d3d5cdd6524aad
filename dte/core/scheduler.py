"""The scheduler: workers, results and recorded facts in, one tick out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.scheduler import ArithmeticScheduler
from dte.core.calls.lease import CallLease
from dte.core.calls.scheduler import CallScheduler
from dte.core.calls.setbacks import Setback
from dte.core.errors import Conflict
from dte.core.jobs.facts import Event, Facts, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable, NewJob
from dte.core.limits import SchedulerLimits
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.contest import Contest, contest
from dte.core.workers.handlers import KnownHandlers
from dte.core.workers.worker import Announcement, Claim, Failure, Worker

LEASES_OF_A_BOOT = 10_000_000_000
"""Lease numbers begin with the boot's: 30000000007 is the seventh lease of the third start."""


@dataclass(slots=True)
class Tick:
    """The outcome of a tick.

    Attributes:
        batches: leases of operations to send now; one without any is a probe.
        calls: leases of calls to send now.
        stops: leases whose calls workers must stop.
        claims: claims to answer now.
        ended: jobs whose end has been recorded since the last tick.
        lost: leases of operations that have ended without results since the last tick.
        events: what happened since the last tick, for clients that watch.
        gone: workers that have been silent for too long.
        overdue: workers whose announcement is late: they may have ended.
        setbacks: attempts of calls since the last tick that have no result.
    """

    batches: list[BatchLease]
    calls: list[CallLease]
    stops: list[CallLease]
    claims: list[Claim]
    ended: list[Job]
    lost: list[BatchLease]
    events: list[Event]
    gone: list[Worker]
    overdue: list[Worker]
    setbacks: list[Setback]


class Scheduler:
    """Decides which operation goes to which worker.

    Args:
        limits: its bounds.
        boot: the number of this start, part of every lease's number.
        seed: of the jitter of pauses.

    Attributes:
        jobs: every job in memory.
        arithmetic: batches of operations.
        calls: calls of handlers.
    """

    def __init__(self, limits: SchedulerLimits, boot: int = 0, seed: int = 0) -> None:
        random = Random(seed)
        self._limits = limits
        self._last_lease = boot * LEASES_OF_A_BOOT
        self._workers = AvailabilityQueue(limits, random)
        self.jobs = JobTable(limits)
        self.calls = CallScheduler(limits, self.jobs, self._workers, random, self._next_lease)
        self.arithmetic = ArithmeticScheduler(
            limits,
            self.jobs,
            self._workers,
            random,
            self._next_lease,
            self.calls.jobs.begin_call,
            self.calls.jobs.end_calls,
            self.calls.jobs.fail,
        )

    def _next_lease(self) -> int:
        self._last_lease += 1
        return self._last_lease

    @property
    def stale_results(self) -> int:
        """Results that came under leases that had ended."""
        return self.arithmetic.stale_results + self.calls.stale_results

    # Workers

    @property
    def handlers(self) -> KnownHandlers:
        """The handlers of all known workers."""
        return self._workers.handlers

    def worker(self, identity: str) -> Worker | None:
        """The worker with an address, or known as ``pull:NAME``."""
        return self._workers.get(identity)

    def workers(self) -> list[Worker]:
        """Every known worker, those that are gone included."""
        return list(self._workers)

    def announce(self, now: float, announcement: Announcement) -> Worker:
        """Record that a worker has announced itself, has restarted, or is draining.

        Raises:
            Busy: too many workers, or names of handlers, are known.
        """
        worker, reborn = self._workers.announce(now, announcement)
        if reborn:
            self._lose_worker(now, worker, "it was restarted")
            self._workers.offer(worker)
        elif announcement.incarnation:
            self.arithmetic.quarantine.clear(now, worker)
        # Without an incarnation it may have started anew or not: it will be probed.
        if announcement.draining:
            self.arithmetic.quarantine.release(worker)
        return worker

    def reached(
        self, now: float, worker: Worker, problem: str | None, refused: bool = False
    ) -> None:
        """Note that a worker can be reached, or the reason why it cannot.

        Args:
            refused: its address refuses connections, so its process has ended.
        """
        self._workers.reached(worker, problem)
        if refused:
            self.arithmetic.convict(now, worker)

    def leave(self, now: float, worker: Worker) -> None:
        """A worker reports that it has ended."""
        self._lose_worker(now, worker, "it left")
        self._workers.remove(worker)

    def expel(self, now: float, worker: Worker, reason: str) -> None:
        """Know a worker no more that lives: what it has goes to others, and is not suspect."""
        for number in tuple(worker.batch_leases):
            self.arithmetic.requeue(now, number, reason)
        self.arithmetic.quarantine.clear(now, worker)
        self.calls.lose_worker(now, worker, reason)
        self._workers.remove(worker)

    def _lose_worker(self, now: float, worker: Worker, reason: str) -> None:
        self.arithmetic.lose_worker(now, worker, reason)
        self.calls.lose_worker(now, worker, reason)

    def fail_call(self, now: float, lease: CallLease, reason: str, failure: Failure) -> None:
        """Note that the hand-over of a call failed."""
        worker = lease.worker
        if worker is not None and lease.number in worker.call_leases:
            self._workers.failed(now, worker, reason)
            if failure is Failure.REFUSED:
                self.arithmetic.convict(now, worker)
        self.calls.fail(now, lease.number, reason, failure)

    # Claims

    def contest(
        self,
        now: float,
        announcement: Announcement,
        known: Worker | None = None,
        *,
        begins: bool = True,
    ) -> Contest:
        """Decide whether an announcement may replace that of a known worker, see `contest`.

        Args:
            known: None for the one with its identity.
        """
        known = known or self._workers.get(announcement.identity)
        return contest(now, known, announcement, self._limits.lease_s, begins=begins)

    def claim(
        self, now: float, announcement: Announcement, slots: int, *, begins: bool = True
    ) -> Claim:
        """Open a claim for work; an older one of the same worker is cancelled.

        Args:
            slots: most calls that the worker takes.
            begins: its process has no session yet, so it has just been started.

        Raises:
            Busy: too many workers are known.
            Conflict: another worker of this name is at work.
        """
        if self.contest(now, announcement, begins=begins) is not Contest.NONE:
            raise Conflict(
                f"worker name {announcement.name!r} is taken; workers that pull need unique names"
            )
        worker = self.announce(now, announcement)
        self.arithmetic.quarantine.clear(now, worker)
        if worker.claim is not None:
            self.cancel_claim(now, worker.claim)
        return self.calls.claims.open(worker, slots)

    def claimed(self, claim: Claim) -> tuple[list[CallLease], BatchLease | None]:
        """The leases of an answered claim, except for those that have ended."""
        if not claim.answered:
            return [], None
        calls = map(self.calls.leases.get, claim.call_leases)
        batch = self.arithmetic.leases.get(claim.batch_lease)
        return [lease for lease in calls if lease is not None], batch

    def cancel_claim(self, now: float, claim: Claim) -> None:
        """Close a claim for which nobody waits any more; its work goes to others."""
        self.calls.cancel_claim(now, claim)
        self.arithmetic.requeue(now, claim.batch_lease, "it hung up")

    def sessions(self, numbers: Collection[int]) -> dict[int, str]:
        """The sessions of some leases; "" for those of workers without one."""
        batches = self.arithmetic.leases
        known = batches.keys() & numbers
        found = {each: batches[each].worker.announcement.session for each in known}
        return self.calls.leases.sessions(numbers) | found

    # Facts

    def recorded(
        self, now: float, facts: Facts, void: Collection[Submission] = frozenset()
    ) -> None:
        """Let recorded facts take effect; submissions among `void` are dropped.

        Effects come in the order of the outbox, with one exception: a job is stopped before its
        calls are handed over.
        """
        jobs, calls = self.jobs, self.calls
        for submission in facts.submissions:
            if submission in void:
                jobs.withdraw(submission)
                continue
            jobs.admit(submission)
            calls.jobs.closed(now, submission.ends)
            calls.jobs.begin_all(now, submission.jobs)
        for cancel in facts.cancels:
            calls.jobs.stop(now, cancel.job)
        for step in facts.steps:
            calls.recorded(now, step)
        for end in facts.ends:
            jobs.close(end)
        calls.jobs.closed(now, facts.ends)

    def unrecorded(self, now: float, facts: Facts) -> None:
        """Take back facts that could not be recorded: submissions are void, ends come again."""
        self.jobs.unrecorded(facts)
        for step in facts.steps:
            self.calls.unrecorded(now, step)

    def resume(self, now: float, job: Job, new: NewJob) -> None:
        """Go on with a job from before a restart, whose calls are restored."""
        self.jobs.resume(job, new)
        self.arithmetic.begin(now, job, new.work.value)
        if job.calls is not None and job.graph is not None:
            self.calls.jobs.begin(now, job)

    # The tick

    def tick(self, now: float) -> Tick:
        """Do what is due, and hand over what can be: call it after any input, or in time."""
        arithmetic, calls = self.arithmetic, self.calls
        arithmetic.advance(now)
        gone, silent = self._workers.check_liveness(now)
        for worker in gone:
            reason = worker.last_failure or ""
            arithmetic.lose_worker(now, worker, reason)
            if calls.handing_over:  # A master that ends hears nobody, and silence means nothing.
                calls.lose_worker(now, worker, reason)
        probes = arithmetic.probe(now, silent)
        self._workers.resume(now)
        self.jobs.sweep()
        calls.advance(now)
        batches = probes + arithmetic.match(now)
        sent = calls.match(now)
        stops, lost = calls.take_stops(), arithmetic.take_lost()
        claims = calls.claims.take_complete()
        ended, events = self.jobs.take_ended(), self.jobs.take_events()
        if arithmetic.quarantine:
            arithmetic.quarantine.forget(ended)
        setbacks = calls.take_setbacks()
        overdue = self._workers.take_overdue()
        return Tick(batches, sent, stops, claims, ended, lost, events, gone, overdue, setbacks)

    def next_tick(self) -> float | None:
        """When `tick` must be called even if nothing happens before; None for never."""
        if self.jobs.sweeping or self.jobs.more_ended:
            return float("-inf")
        moments = (
            self._workers.next_moment(),
            self.arithmetic.next_moment(),
            self.calls.next_moment(),
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def hand_over_no_more(self) -> None:
        """Make no more leases; the present ones may still be completed."""
        self.arithmetic.handing_over = self.calls.handing_over = False

    def check(self) -> None:
        """Assert every invariant; for tests, after each step."""
        self._workers.check()
        self.calls.check()
        busy = self.arithmetic.check()
        for job in self.jobs.check():
            assert job.graph is not None
            out = {node for number, node in busy if number == job.number}
            assert not out & set(job.graph.ready), "an operation is ready and handed out"
            if job.calls is None and job.state is not JobState.ACCEPTING:
                assert out or job.graph.ready, f"job {job.number} waits for nothing"
