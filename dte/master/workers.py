"""Requests of workers: announce, claim, report, extend and leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import Forbidden, Unavailable
from dte.core.graph.call import Call
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import Scheduler
from dte.core.workers.contest import Contest
from dte.core.workers.worker import Announcement, Claim, Worker
from dte.logs import LimitedLog, one_line
from dte.master.access.audit import fields_of
from dte.master.clock import Clock
from dte.master.contests import Contests, namesake_of
from dte.master.dispatch.reach import Reach
from dte.master.journal.awaited import RECORD_TIMEOUT_S, AwaitedFacts, Recordable
from dte.master.journal.memory import AnyRecorder
from dte.master.presence import CAME_OR_WENT, Presence
from dte.master.sessions import HEADER, Sessions, is_of_another_token
from dte.master.stored_workers import StoredWorkers
from dte.master.taken import Reporter, TakenResults, mark_of, mark_of_batch
from dte.master.unread import UnreadLeases
from dte.wire.messages.batches import BatchResult

log = logging.getLogger("dte.master")

REPORTS_AT_ONCE = 1_000
"""Results that are taken in one turn of the loop."""


@dataclass(eq=False)
class Workers:
    """Hands requests of workers to the core, and answers a report when it is recorded.

    Attributes:
        presence: finds out whether workers are there.
        stored: what the journal has of them.
    """

    core: Scheduler
    recorder: AnyRecorder
    awaited: AwaitedFacts
    clock: Clock
    wake: Callable[[], None]
    reach: Reach

    def __post_init__(self) -> None:
        self.unread = UnreadLeases(self.core, self.recorder.boot)
        self._limited = LimitedLog(log)
        self._taken = TakenResults()
        self._sessions = Sessions()
        self._contests = Contests(self.core, self.clock, self.reach)
        self._claims: dict[Claim, asyncio.Future[None]] = {}
        self.stored = StoredWorkers(self.core, self.recorder, self._limited)
        self.presence = Presence(self.core, self.clock, self.wake, self.reach, self._limited)

    def close(self) -> None:
        """Answer all waiting claims with nothing."""
        self.stored.close()
        self.presence.close()
        self._limited.close()
        self.complete(self._claims)

    # Announcing

    def open_session(self, announcement: Announcement, shown: str) -> tuple[Announcement, str]:
        """Give an announcement its session, see `Sessions.open`."""
        known = self.core.worker(announcement.identity)
        return self._sessions.open(announcement, shown, known)

    async def announce(self, announcement: Announcement, *, begins: bool = True) -> str | None:
        """Note that a worker is available or leaving.

        A worker that announces itself only once is stored in the journal too.

        Args:
            begins: its process has no session yet, so it has just been started.

        Returns:
            The reason why calls to the worker fail, if that is known.

        Raises:
            Busy: too many workers are known.
            Conflict: the announcement is that of another worker, and the known one is alive.
        """
        earlier = await self._contests.ensure_own(announcement, begins)
        other = await self._contests.other_at(announcement)
        if other is not None:
            return f"{other} answers at {announcement.address}"
        now = self.clock.now()
        self._log_failing(announcement)
        known = self.core.worker(announcement.identity)
        was_draining = known is not None and known.announcement.draining
        for each in earlier:
            self.leave(each)
        worker = self.core.announce(now, announcement)
        self.stored.note_replaced()
        self.wake()
        if worker.joined_at == now or worker.unreachable is not None or worker.failures:
            self.presence.check(worker)
        if not self.log_joined(worker, now) and announcement.draining and not was_draining:
            self._log_worker("is leaving", announcement)
        await self.stored.note(announcement)
        problem = worker.unreachable or (worker.last_failure if worker.failures else None)
        return f"calls to {announcement.address} fail: {problem}" if problem else None

    def namesake_of(self, worker: Worker) -> str | None:
        """Return a warning if another worker has the same name, see `namesake_of`."""
        return namesake_of(worker, self.core.workers())

    def warning_for(self, announcement: Announcement) -> str | None:
        """Log and return the warning for a worker that has announced itself."""
        worker = self.core.worker(announcement.identity)
        warning = self.namesake_of(worker) if worker is not None else None
        if warning is not None:
            text = "worker %s at %s: %s"
            values = (one_line(announcement.name), announcement.address, warning)
            self._limited.add("workers of one name", logging.WARNING, text, *values)
        return warning

    def _log_failing(self, announcement: Announcement) -> None:
        """Log that a worker has begun or ceased to be failing."""
        known = self.core.worker(announcement.identity)
        failing = known.announcement.failing if known is not None else None
        if announcement.failing == failing:
            return
        if announcement.failing is None:
            self._log_worker("starts processes for handlers again", announcement)
        else:
            fields, reason = fields_of(announcement), one_line(announcement.failing)
            text = "worker %s cannot start processes for handlers: %s"
            values = (fields["worker"], reason)
            self._limited.add("workers that fail", logging.WARNING, text, *values, **fields)

    def _log_worker(self, what: str, announcement: Announcement, more: str = "") -> None:
        fields = fields_of(announcement)
        text = f"worker %s {what}%s"
        self._limited.add(CAME_OR_WENT, logging.INFO, text, fields["worker"], more, **fields)

    def forget_replaced(self, needed: Collection[str]) -> None:
        """All jobs from before a restart are known: forget replaced handlers that none needs."""
        self.core.handlers.forget(needed)
        self.stored.note_replaced()
        self.wake()

    def leave(self, worker: Worker) -> None:
        """Note that a worker has ended."""
        self._log_worker("has left", worker.announcement)
        self.core.leave(self.clock.now(), worker)
        self.wake()

    def expel(self, worker: Worker) -> None:
        """Drop a worker that may get nothing more, and its announcement from the journal."""
        said = worker.announcement
        reason = "its token is valid no longer" if said.token else "it has no token"
        self._log_worker("is dropped", said, f": {reason}")
        self._answer_claim_of(said)
        self.core.expel(self.clock.now(), worker, reason)
        self.stored.forget(said)

    def log_joined(self, worker: Worker, now: float) -> bool:
        """Log a worker that is new, or is back, now; return True if it is."""
        if worker.joined_at != now or worker.unreachable is not None:
            return False
        said = worker.announcement
        self._log_worker("joined", said, f" from {said.address}" if said.address else "")
        return True

    def seen(self, worker: Worker, info: Mapping[str, object] | None = None) -> None:
        """Note a sign of life from a worker that does not name its leases."""
        self.core.calls.seen(self.clock.now(), worker)
        if info is not None:
            worker.info = info

    # Claiming

    async def claim(
        self,
        announcement: Announcement,
        slots: int,
        wait_s: float,
        gone: asyncio.Future[None],
        info: Mapping[str, object] | None = None,
        *,
        begins: bool = True,
    ) -> tuple[list[CallLease], BatchLease | None]:
        """Wait for work for a worker that pulls: calls, and a batch of arithmetic.

        Args:
            slots: the number of calls that the worker takes.
            gone: done when the worker has closed its connection.
            info: facts about the worker for people to see; None for no change.
            begins: its process has no session yet, so it has just been started.

        Raises:
            Busy: too many workers are known.
            Conflict: another worker of this name is at work.
        """
        if self.core.contest(self.clock.now(), announcement, begins=begins) is Contest.NONE:
            # A worker that claims again has stopped waiting for its earlier claim.
            self._answer_claim_of(announcement)
            self._log_failing(announcement)
        now = self.clock.now()
        claim = self.core.claim(now, announcement, slots, begins=begins)
        self.log_joined(claim.worker, now)
        self.stored.note_replaced()
        if info is not None:
            claim.worker.info = info
        answered = self._claims[claim] = asyncio.get_running_loop().create_future()
        try:
            self.wake()
            await asyncio.sleep(0)  # The core's tick comes first.
            if not answered.done() and claim.call_leases:  # They are being recorded.
                await _first_of(answered, gone, RECORD_TIMEOUT_S)
            if not answered.done() and wait_s > 0:
                await _first_of(answered, gone, wait_s)
            if gone.done():
                self.cancel_claim(claim)
                claim.worker.hung_up_at = self.clock.now()
                self.presence.hung_up(claim.worker)
            return self.core.claimed(claim)
        finally:
            if not answered.done():
                self.cancel_claim(claim)
            del self._claims[claim]

    def complete(self, claims: Iterable[Claim]) -> None:
        """Answer claims that have got work."""
        for claim in claims:
            answered = self._claims.get(claim)
            if answered is not None and not answered.done():
                answered.set_result(None)

    async def stop_claiming(self, announcement: Announcement) -> None:
        """Note that a worker is leaving, and answer its waiting claim with nothing."""
        await self.announce(announcement)
        self._answer_claim_of(announcement)

    def _answer_claim_of(self, announcement: Announcement) -> None:
        worker = self.core.worker(announcement.identity)
        claim = worker.claim if worker is not None else None
        if claim is not None:
            self.cancel_claim(claim)
            self.complete([claim])

    def cancel_claim(self, claim: Claim) -> None:
        """Requeue the work of a claim that nobody waits for any more."""
        self.core.cancel_claim(self.clock.now(), claim)
        self.wake()

    # Reporting

    async def report(
        self,
        worker: str,
        outcomes: Iterable[tuple[int, Outcome]],
        batches: Iterable[BatchResult] = (),
        session: str = "",
    ) -> tuple[list[int], list[int]]:
        """Take a worker's results, and return when the accepted ones are recorded.

        Args:
            session: the worker's, as `Announcement` has it.

        Returns:
            The leases whose results are accepted, and the stale leases: ended, or of another
            worker.

        Raises:
            Forbidden: a lease is that of a session, and none is given, or with another token.
            Unavailable: the journal cannot be written.
        """
        outcomes = list(outcomes)
        reporter = Reporter(worker, session)
        if any(number in self.unread for number, _ in outcomes):
            raise Unavailable("jobs are still being read after a restart")
        arithmetic: list[int] = []
        of_batches: list[int] = []
        for count, batch in enumerate(batches, 1):
            counts = self._take_batch(reporter, batch)
            (arithmetic if counts else of_batches).append(batch.lease)
            if not count % REPORTS_AT_ONCE:
                self.wake()
                await asyncio.sleep(0)
        accepted: dict[int, None] = {}
        stale: list[int] = []
        for first in range(0, len(outcomes) or 1, REPORTS_AT_ONCE):
            some = outcomes[first : first + REPORTS_AT_ONCE]
            await self.awaited.until_recorded(self._take(reporter, some, accepted, stale))
            if first + REPORTS_AT_ONCE < len(outcomes):
                await asyncio.sleep(0)
        self._refuse_for_others(stale + of_batches if session else stale, session)
        return [*accepted, *arithmetic], stale + of_batches

    def _refuse_for_others(self, numbers: Collection[int], session: str) -> None:
        """Raise `Forbidden` if a lease is that of a session, and the request may not show it."""
        known = self.core.sessions(numbers) if numbers else {}
        for number, own in known.items():
            if own and not session:
                text = f"lease {number} is that of a session, which the request does not show; "
                raise Forbidden(f"{text}send {HEADER} as POST /worker or POST /claim replied it")
            if is_of_another_token(own, session):
                raise Forbidden(f"lease {number} is that of a worker with another token")

    def _take_batch(self, reporter: Reporter, batch: BatchResult) -> bool:
        mark = mark_of_batch(reporter, batch.results)
        if self._taken.has(batch.lease, mark):
            return False
        core = self.core.arithmetic
        counts = core.may_be_of(batch.lease, *reporter) and core.complete(
            self.clock.now(), batch.lease, batch.results, batch.errors
        )
        if counts:
            self._taken.add(batch.lease, mark)
        return counts

    def _take(
        self,
        reporter: Reporter,
        outcomes: Iterable[tuple[int, Outcome]],
        accepted: dict[int, None],
        stale: list[int],
    ) -> list[Recordable]:
        """Take results of calls, and return the facts to be recorded.

        Args:
            accepted: gets the leases whose results are accepted.
            stale: gets the others.
        """
        now = self.clock.now()
        facts: list[Recordable] = []
        for number, outcome in outcomes:
            if number in accepted:
                stale.append(number)
                continue
            mark = mark_of(reporter, outcome)
            is_repeat = self._taken.has(number, mark)
            answer = not is_repeat and self.core.calls.report(now, number, outcome, *reporter)
            if answer is not False:
                self._taken.add(number, mark)
            # A repeat may be of a report that is being recorded.
            of_repeat = self.awaited.of(number) if is_repeat else None
            fact = of_repeat if isinstance(answer, bool) else answer
            if fact is None and isinstance(answer, bool):
                stale.append(number)
                continue
            accepted[number] = None
            if fact is not None:
                self.awaited.note(number, fact)
                facts.append(fact)
        return facts

    def end(self, lease: CallLease, outcome: Outcome) -> None:
        """End a call that its worker does not get."""
        self.core.calls.report(self.clock.now(), lease.number, outcome)
        self.wake()

    async def settle(
        self, job: Job, worker: str, dialect: str, outcome: Outcome, call: Call | None
    ) -> bool:
        """Take the result of a worker that names the job instead of its lease.

        Args:
            worker, dialect: the worker's name, and the dialect in which it has that name.
            call: the call of the job that the worker ran; None if it ran none that is known.

        Returns:
            True if the result is accepted: the worker has the call, or had it and no other worker
            has it now.

        Raises:
            Unavailable: the journal cannot be written, or the job has not been read from it yet.
        """
        goes_on = job.state in (JobState.WAITING, JobState.RUNNING)
        if goes_on and job.graph is None and job.calls is None:
            raise Unavailable("the job is still being read after a restart")
        now = self.clock.now()
        lease = self.core.calls.leases.get(call.record.lease) if call is not None else None
        if lease is not None and lease.is_of(worker, dialect):
            fact = self.core.calls.report(now, lease.number, outcome)
        else:
            fact = self.core.calls.report_unleased(now, call, worker, outcome, dialect)
        if isinstance(fact, bool):
            return False
        await self.awaited.until_recorded([fact] if fact is not None else [])
        return True

    def extend(
        self,
        worker: str,
        numbers: Collection[int],
        progress: Mapping[int, tuple[float, str]],
        session: str = "",
    ) -> tuple[list[int], list[int], list[int]]:
        """Extend leases of calls; see `CallScheduler.extend`.

        Raises:
            Forbidden: a lease is that of a session, and none is given, or with another token.
        """
        extended, lost, stop = self.core.calls.extend(
            self.clock.now(), numbers, progress, worker, session
        )
        self._refuse_for_others(lost, session)
        if self.unread.reading:  # Only the journal knows yet whether they have ended.
            extended += [number for number in lost if number in self.unread]
            lost = [number for number in lost if number not in self.unread]
        if progress:
            self.wake()
        return extended, lost, stop


async def _first_of(
    answered: asyncio.Future[None], gone: asyncio.Future[None], timeout_s: float
) -> None:
    await asyncio.wait((answered, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
