"""What clients and workers ask of a master about calls; who waits until it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import Conflict, FormulaError, InvalidRequest, NotFound, TooLarge, Unavailable
from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.core.jobs.facts import Submission
from dte.core.jobs.job import TASK_CHARS_KEPT, Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.workers.worker import Announcement, Claim, Worker
from dte.master.journal.awaited import AwaitedFacts, Recordable
from dte.master.parsing import NO_LIMITS
from dte.master.plans import (
    NO_PLAN_LIMITS,
    Plan,
    build,
    check_priority,
    describe,
    plan_text,
    read_plan,
    set_moments,
)

if TYPE_CHECKING:
    from dte.master.master import Master

RECORD_TIMEOUT_S = 20.0
"""How long a worker or client is kept waiting for a disk that cannot be written."""
AWAITED_MAX = 10_000
PLANS_IN_SLICE = 50
ID_KEY = "id\n"
"""Before ids that clients gave to jobs, among the keys of submissions; no such key begins so."""


@dataclass(frozen=True, slots=True)
class BatchResults:
    """What a worker that fetches its work gives back for a batch of arithmetic."""

    lease: int
    results: Sequence[Number]
    errors: Mapping[int, str]


class CallDesk:
    """Claims that wait, and what clients and workers ask.

    Attributes:
        facts: those that someone waits for.
    """

    def __init__(self, master: Master) -> None:
        self._master = master
        self._core = master.core
        self._claims: dict[Claim, asyncio.Future[None]] = {}
        self.facts = AwaitedFacts()

    # What the master passes on

    def complete(self, claims: Iterable[Claim]) -> None:
        """These claims have got what they were waiting for."""
        for claim in claims:
            got = self._claims.get(claim)
            if got is not None and not got.done():
                got.set_result(None)

    def give_up(self) -> None:
        """Let all that wait for work return without any: the master ends."""
        for got in self._claims.values():
            if not got.done():
                got.set_result(None)

    # Submitting

    async def submit(self, plan: Plan, key: str = "", digest: str = "", name: str = "") -> Job:
        """Accept a plan as a job.

        Args:
            key: see `Master.submit`.
            digest: see `Master.submit`.
            name: what the client calls the job instead of a number.

        Raises:
            InvalidRequest: something in it is wrong.
            TooLarge: it exceeds a bound.
            Busy: too much work waits.
            Unavailable: nothing can be accepted now.
            Conflict: the key, or the name, was used for something else before.
        """
        if name:
            key = ID_KEY + name
        return (await self.submit_all([plan], key, digest))[0]

    async def submit_all(
        self, plans: Sequence[Plan], key: str = "", digest: str = ""
    ) -> Sequence[Job]:
        """Accept plans as jobs, all or none. Else as `submit`."""
        return await self._master.accept(self._prepare(plans), key, digest) if plans else []

    async def _prepare(
        self, plans: Sequence[Plan], records: Sequence[CallRecord] = ()
    ) -> Callable[[float, str, str], Submission]:
        self._master.ensure_room(len(plans))
        awaited = [await self.awaited(plan) if plan.after else [] for plan in plans]
        planned = await self._master.slices.run(self._plan_all(plans, awaited, records))

        def submit(now: float, key: str, digest: str) -> Submission:
            return self._core.jobs.accept(now, planned, key, digest)

        return submit

    def _plan_all(
        self, plans: Sequence[Plan], awaited: Sequence[list[Job]], records: Sequence[CallRecord]
    ) -> Generator[None, None, list[NewJob]]:
        planned = []
        for index, plan in enumerate(plans):
            try:
                planned.append((yield from self._plan(plan, awaited[index], records)))
            except FormulaError as error:
                place = index if len(plans) > 1 else None
                raise FormulaError(error.reason, error.column, error.caret, place) from None
            except (InvalidRequest, TooLarge) as error:
                if len(plans) == 1:
                    raise
                raise type(error)(f"job {index} of the request: {error}") from None
            if index % PLANS_IN_SLICE == PLANS_IN_SLICE - 1:
                yield
        return planned

    def _plan(
        self, plan: Plan, awaited: list[Job], records: Sequence[CallRecord]
    ) -> Generator[None, None, NewJob]:
        settings, wall_offset_s = self._master.settings, self._master.wall_offset_s
        check_priority(plan.priority)
        set_moments(plan, datetime.fromtimestamp(self._master.now() + wall_offset_s, UTC))
        pure = self._core.calls.policies.pure
        work = yield from build(
            plan, settings.plan_limits(), settings.formula_limits(), wall_offset_s, pure
        )
        check_awaited(work, awaited)
        if work.calls is not None:
            work.calls.restore(_sound(work.calls, records))
        return new_job(plan, describe(plan), plan_text(plan), work, awaited)

    async def awaited(self, plan: Plan) -> list[Job]:
        """The jobs that a plan waits for.

        Raises:
            InvalidRequest: there is no such job.
        """
        numbers = list(dict.fromkeys(plan.after))
        if len(numbers) > AWAITED_MAX:
            raise InvalidRequest(f"after has more than {AWAITED_MAX} jobs")
        awaited = []
        for number in numbers:
            try:
                awaited += await self._master.find([number])
            except NotFound:
                raise InvalidRequest(f"after: there is no job {number}") from None
        return awaited

    async def retry(self, job: Job, key: str = "") -> Job:
        """Do the failed part of a job again, as a new job that takes over the other results.

        Args:
            key: see `Master.submit`.

        Raises:
            Conflict: it has not ended, or it succeeded, or its text is not kept.
        """
        if not job.is_terminal or job.state is JobState.SUCCEEDED:
            shown = job.shown_state.value
            raise Conflict(f"job {job.number} is {shown}; only what failed is retried")
        text, records = await self.plan_of(job)
        if text is None and len(job.task) > TASK_CHARS_KEPT:
            raise Conflict(f"job {job.number} is a formula too long to be kept; submit it again")
        plan = read_plan(text) if text is not None else Plan(formula=job.task)
        plan.retry_of = job.number
        kept = [record for record in records if record.state is CallState.SUCCEEDED]
        return (
            await self._master.accept(self._prepare([plan], kept), key, f"retry of {job.number}")
        )[0]

    async def plan_of(self, job: Job) -> tuple[str | None, Sequence[CallRecord]]:
        """The text of a job's plan, if it has one, and what is remembered of its calls."""
        return (await self._master.plans_of([job]))[0]

    async def calls_of(self, job: Job) -> Sequence[Call]:
        """The calls of a job, as they stand or ended."""
        if job.calls is not None:
            return list(job.calls.named())
        text, records = await self.plan_of(job)
        master = self._master
        if text is None and not records:
            return []
        if text is None and len(job.task) > TASK_CHARS_KEPT:
            # Of a long formula that has ended only its beginning is kept.
            names = [record.name for record in records]
            graph = CallGraph()
            graph.calls = {name: Call(name, name.partition("@")[0], []) for name in names}
            return _restored(graph, records)
        plan = read_plan(text) if text is not None else Plan(formula=job.task)
        work = await master.slices.run(build(plan, NO_PLAN_LIMITS, NO_LIMITS, master.wall_offset_s))
        return _restored(work.calls, records) if work.calls is not None else []

    # Cancelling

    async def cancel(self, job: Job) -> bool:
        """Cancel a job: return when that is recorded.

        Returns:
            Whether it had not ended before.

        Raises:
            Unavailable: the journal cannot be written.
        """
        recorder = self._master.recorder
        if recorder is not None and recorder.failure is not None and not job.is_terminal:
            raise recorder.failure  # Rather than to wait for a disk that may stay full.
        fact = self._core.calls.jobs.cancel(self._master.now(), job)
        if fact is None:
            if job.is_terminal:
                return False
            # How it ends is being recorded: perhaps that it was cancelled just now.
            await self._master.waiters.wait([job], RECORD_TIMEOUT_S)
            if not job.is_terminal:
                raise Unavailable("the journal cannot be written for the time being", 5)
            return job.state is JobState.CANCELLED
        await self.until_recorded([fact])
        return True

    async def until_recorded(self, facts: Collection[Recordable]) -> None:
        """Return when facts are recorded.

        Raises:
            Unavailable: they cannot be for the time being; they will be as soon as they can.
        """
        wait = self.facts.expect(facts) if facts else None
        self._master.wake()
        self._master.record()
        if wait is not None:
            await wait.until_recorded(RECORD_TIMEOUT_S)
            await asyncio.sleep(0)  # The turn comes first.

    # Workers

    async def claim(
        self,
        announcement: Announcement,
        slots: int,
        wait_s: float,
        gone: asyncio.Future[None],
        info: Mapping[str, object] | None = None,
    ) -> tuple[list[CallLease], BatchLease | None]:
        """Work for a worker that asks for it: calls, and a batch of arithmetic.

        Args:
            slots: how many calls it takes.
            wait_s: how long to wait for some.
            gone: done when the worker has hung up.

        Raises:
            Busy: too many workers are known.
        """
        self._answer_claim_of(
            announcement
        )  # Its worker waits for it no more, or would not claim again.
        claim = self._core.claim(self._master.now(), announcement, slots)
        if info is not None:
            claim.worker.info = info
        got = self._claims[claim] = asyncio.get_running_loop().create_future()
        try:
            self._master.wake()
            await asyncio.sleep(0)  # The turn comes first.
            if not got.done() and claim.call_leases:
                # They are being recorded.
                await asyncio.wait(
                    (got, gone), timeout=RECORD_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
                )
            if not got.done() and wait_s > 0:
                await asyncio.wait((got, gone), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.withdraw(claim)
            return self._core.claimed(claim)
        finally:
            if not got.done():
                self.withdraw(claim)
            del self._claims[claim]

    async def leave_claiming(self, announcement: Announcement) -> None:
        """A worker claims no more: its claim that waits is answered."""
        await self._master.announce(announcement)
        self._answer_claim_of(announcement)

    def _answer_claim_of(self, announcement: Announcement) -> None:
        """Have the claim of a worker that waits, if one does, answered with nothing."""
        worker = self._core.worker(announcement.identity)
        claim = worker.claim if worker is not None else None
        if claim is None:
            return
        self.withdraw(claim)
        got = self._claims.get(claim)
        if got is not None and not got.done():
            got.set_result(None)

    def withdraw(self, claim: Claim) -> None:
        """Nobody waits for a claim any more."""
        self._core.cancel_claim(self._master.now(), claim)
        self._master.wake()

    async def report(
        self,
        worker: str,
        outcomes: Iterable[tuple[int, Outcome]],
        batches: Iterable[BatchResults] = (),
    ) -> tuple[list[int], list[int]]:
        """Take in a worker's results; return when those that count are recorded.

        Returns:
            The leases whose results count, and those that had ended or are another worker's.

        Raises:
            Unavailable: the journal cannot be written.
        """
        now = self._master.now()
        accepted: list[int] = []
        stale: list[int] = []
        accepted_once: set[int] = set()
        facts: list[Recordable] = []
        for number, outcome in outcomes:
            if number in accepted_once:
                stale.append(number)
                continue
            answer = self._core.calls.report(now, number, outcome, worker)
            # What has ended may be the repeat of a result that is being recorded.
            fact = self.facts.of(number) if isinstance(answer, bool) else answer
            if fact is None and isinstance(answer, bool):
                stale.append(number)
                continue
            accepted.append(number)
            accepted_once.add(number)
            if fact is not None:
                self.facts.note(number, fact)
                facts.append(fact)
        for batch in batches:
            core = self._core.arithmetic
            holds = core.holder(batch.lease) in (None, worker)
            counts = holds and core.complete(now, batch.lease, batch.results, batch.errors)
            (accepted if counts else stale).append(batch.lease)
        await self.until_recorded(facts)
        return accepted, stale

    async def settle(
        self, job: Job, worker: str, outcome: Outcome, call: Call | None = None
    ) -> bool:
        """Take in the result of a worker that names its job, not its lease.

        Args:
            call: which call of the job it is; need not be said where there is but one.

        Returns:
            Whether it counts: the worker has the call, or had it and nobody else has.

        Raises:
            Unavailable: the journal cannot be written, or the job has not been read from it yet.
        """
        goes_on = job.state in (JobState.WAITING, JobState.RUNNING)
        if goes_on and job.graph is None and job.calls is None:
            raise Unavailable("the job is from before a restart and still being read")
        calls = list(job.each_call())
        if call is None and len(calls) == 1:
            (call,) = calls
        if call is None:
            return False
        now = self._master.now()
        lease = self._core.calls.leases.get(call.record.lease)
        if lease is not None and lease.worker_name == worker:
            fact = self._core.calls.report(now, lease.number, outcome)
        else:
            fact = self._core.calls.report_unleased(now, call, worker, outcome)
        if isinstance(fact, bool):
            return False
        await self.until_recorded([fact] if fact is not None else [])
        return True

    def extend(
        self, worker: str, numbers: Iterable[int], progress: Mapping[int, tuple[float, str]]
    ) -> tuple[list[int], list[int], list[int]]:
        """See `CallScheduler.extend`."""
        answer = self._core.calls.extend(self._master.now(), numbers, progress, worker)
        if progress:
            self._master.wake()
        return answer

    def heard(self, worker: Worker) -> None:
        """A sign of life of a worker that does not name its leases."""
        self._core.calls.seen(self._master.now(), worker)

    def leave(self, worker: Worker) -> None:
        """A worker says that it has ended."""
        self._core.leave(self._master.now(), worker)
        self._master.wake()


def check_awaited(work: Work, awaited: Sequence[Job]) -> None:
    """Check that a job may wait for others.

    Raises:
        InvalidRequest: it is a formula without calls.
    """
    if awaited and work.calls is None:
        raise InvalidRequest("after: a formula without calls does not wait for other jobs")


def new_job(plan: Plan, task: str, text: str, work: Work, awaited: Sequence[Job]) -> NewJob:
    """A job as the core takes it.

    Args:
        task: a description for people.
        text: the whole plan.
    """
    run_on_failure = plan.when == "done"
    return NewJob(task, work, text, plan.priority, plan.notify, awaited, run_on_failure)


def _sound(graph: CallGraph, records: Sequence[CallRecord]) -> list[CallRecord]:
    """Those of the records that do not follow from a call which is to be done again."""
    kept = {record.name for record in records}
    again = [call for call in graph.calls.values() if call.name not in kept]
    for call in again:  # Grows meanwhile.
        for reader in call.readers:
            if reader.name in kept:
                kept.discard(reader.name)
                again.append(reader)
    return [record for record in records if record.name in kept]


def _restored(graph: CallGraph, records: Sequence[CallRecord]) -> list[Call]:
    """The calls of a job that has ended, as they were recorded.

    In a formula, calls that were equal to others have not been done, and are not recorded.
    """
    for record in records:
        record.state = record.state or CallState.CANCELLED  # Its job ended without it.
    graph.restore(records)
    return [call for call in graph.calls.values() if call.recorded]
