"""Requests of clients: submit, retry and cancel jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain

from dte.core.calls.cancels import BUSY
from dte.core.errors import (
    Conflict,
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    TooLarge,
    TryAgain,
    Unavailable,
)
from dte.core.formula.formula import SLICE_CHARS, parse_in_slices
from dte.core.formula.templates import Templates
from dte.core.graph.call import CallRecord
from dte.core.graph.calls import CALLS_IN_SLICE
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import TASK_CHARS_KEPT, Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.scheduler import Scheduler
from dte.core.shares import OWN_USER, scoped
from dte.master.access import audit
from dte.master.access.caller import OWN_USERS, Caller
from dte.master.archive import Archive
from dte.master.clock import Clock
from dte.master.journal.awaited import RECORD_TIMEOUT_S, AwaitedFacts, not_recorded
from dte.master.journal.memory import AnyRecorder
from dte.master.long_plans import reading_plan, writing_plan
from dte.master.parsing import parse_all
from dte.master.plans import (
    LOST_PLAN,
    Plan,
    begin_delays,
    build,
    check_priority,
    describe,
    merged_handlers,
    new_job,
    shorten_delays,
)
from dte.master.settings import Settings
from dte.master.slices import Slices
from dte.master.waiting import Waiters

LONG_CHARS = 1_000_000
LONG_FORMULAS = 2
"""Number of formulas over `LONG_CHARS` that are parsed at a time: each takes much memory."""
AWAITED_MAX = 10_000
"""Jobs that a job may wait for."""
AFTER_MAX = 100_000
"""Jobs that all jobs of a request may wait for together, each counted as often as it is named."""
PLANS_IN_SLICE = 50
ID_KEY = "id\n"
"""Prefix of the names that clients give to jobs, among the keys of submissions."""


def shutting_down() -> Unavailable:
    """The error for a request that came too late."""
    return Unavailable("the master is shutting down; try again when it is back")


@dataclass(eq=False)
class Jobs:
    """Accepts jobs and cancels them; each request returns when its effect is recorded.

    The client may name a submission by a key; the digest identifies the body. A repeat with the
    same key and digest returns the first one's jobs. Jobs have an owner, see `dte.core.shares`.

    All submissions raise `TooLarge` beyond a limit, `Busy` while too much work is unfinished,
    `Unavailable` while nothing can be accepted, and `Conflict` if the key was used with a
    different body. Formulas raise `FormulaError` with the place of a syntax error, plans
    `InvalidRequest` if a part is wrong.
    """

    settings: Settings
    core: Scheduler
    recorder: AnyRecorder
    archive: Archive
    awaited: AwaitedFacts
    waiters: Waiters
    slices: Slices
    clock: Clock

    def __post_init__(self) -> None:
        self._templates = Templates(self.settings.formula_limits())
        self._long_formulas = asyncio.Semaphore(LONG_FORMULAS)
        self._accepting: dict[Submission, asyncio.Future[KnownSubmission | None]] = {}
        self._closed = False

    def close(self) -> None:
        """Refuse all further jobs."""
        self._closed = True

    @property
    def refusal(self) -> DteError | None:
        """The reason why no job is accepted now; None if jobs are."""
        return shutting_down() if self._closed else self.recorder.failure

    def ensure_room(self, jobs: int, owner: str) -> None:
        """Check that an owner's jobs can be accepted now; raise `Busy` or `Unavailable` if not."""
        if self.refusal is not None:
            raise self.refusal
        self.core.jobs.ensure_room(jobs, owner=owner)

    # Formulas

    async def submit(
        self, task: str, key: str = "", digest: str = "", caller: Caller = OWN_USERS
    ) -> Job:
        """Accept a formula; a long one is parsed in slices."""
        return (await self._accept(self._parse(task, caller.owner), key, digest, caller))[0]

    async def submit_all(
        self,
        tasks: Sequence[str],
        key: str = "",
        digest: str = "",
        caller: Caller = OWN_USERS,
    ) -> Sequence[Job]:
        """Accept formulas, all or none."""
        if not tasks:
            return []
        return await self._accept(self._parse_all(tasks, caller.owner), key, digest, caller)

    async def _parse(self, task: str, owner: str) -> list[NewJob]:
        self.ensure_room(1, owner)
        pure = self.core.handlers.pure
        if len(task) <= SLICE_CHARS:
            work = self._templates.parse(task, pure)
        else:
            async with self._long_formulas if len(task) > LONG_CHARS else nullcontext():
                work = await self.slices.run(parse_in_slices(task, self._templates.limits, pure))
        return [NewJob(task, work)]

    async def _parse_all(self, tasks: Sequence[str], owner: str) -> list[NewJob]:
        self.ensure_room(len(tasks), owner)
        pure = self.core.handlers.pure
        ensure_room = partial(self.core.jobs.ensure_room, owner=owner)
        parsing = parse_all(tasks, self._templates, ensure_room, pure)
        return await self.slices.run(parsing)

    # Plans

    async def submit_plan(
        self,
        plan: Plan,
        key: str = "",
        digest: str = "",
        name: str = "",
        caller: Caller = OWN_USERS,
    ) -> Job:
        """Accept a plan as a job.

        Args:
            name: the client's name for the job, used as the key; "" for none.
        """
        if name:
            key = ID_KEY + name
        return (await self.submit_plans([plan], key, digest, caller))[0]

    async def submit_plans(
        self,
        plans: Sequence[Plan],
        key: str = "",
        digest: str = "",
        caller: Caller = OWN_USERS,
    ) -> Sequence[Job]:
        """Accept plans as jobs, all or none."""
        if not plans:
            return []
        return await self._accept(self._prepare(plans, caller), key, digest, caller)

    async def retry(self, job: Job, key: str = "", caller: Caller = OWN_USERS) -> Job:
        """Run the failed part of a job again, as a new job that keeps the other results.

        Raises:
            Conflict: the job has not ended, or it succeeded, or its text is not kept or lost.
            NotFound: it is deleted from the journal.
        """
        if not job.is_terminal or job.state is JobState.SUCCEEDED:
            state = "succeeded" if job.is_terminal else f"is {job.shown_state.value}"
            raise Conflict(f"job {job.number} {state}; only a failed job can be retried")
        text, records = await self.archive.plan_to_repeat(job)
        if text == LOST_PLAN:
            lost = "its plan was lost when the journal was damaged"
            raise Conflict(f"job {job.number} cannot be retried: {lost}")
        if text is None and len(job.task) > TASK_CHARS_KEPT:
            raise Conflict(f"the formula of job {job.number} was too long to keep; submit it again")
        plan = Plan(formula=job.task)
        if text is not None:
            plan = await self.slices.run(reading_plan(text))
        plan.retry_of = job.number
        shorten_delays(plan, self._wall_time(self.clock.now()))
        digest = f"retry of {job.number}"
        preparing = self._prepare([plan], caller, records)
        return (await self._accept(preparing, key, digest, caller))[0]

    async def _prepare(
        self, plans: Sequence[Plan], caller: Caller, records: Sequence[CallRecord] = ()
    ) -> list[NewJob]:
        self.ensure_room(len(plans), caller.owner)
        awaited = await self._jobs_before(plans, caller)
        return await self.slices.run(self._plan_all(plans, awaited, records))

    def _plan_all(
        self, plans: Sequence[Plan], awaited: Sequence[list[Job]], records: Sequence[CallRecord]
    ) -> Generator[None, None, list[NewJob]]:
        new = []
        for index, plan in enumerate(plans):
            try:
                new.append((yield from self._plan(plan, awaited[index], records)))
            except FormulaError as error:
                place = index if len(plans) > 1 else None
                raise FormulaError(error.reason, error.column, error.caret, place) from None
            except (InvalidRequest, TooLarge) as error:
                if len(plans) == 1:
                    raise
                raise type(error)(f"job {index} of the request: {error}") from None
            if index % PLANS_IN_SLICE == PLANS_IN_SLICE - 1:
                yield
        return new

    def _plan(
        self, plan: Plan, awaited: list[Job], records: Sequence[CallRecord]
    ) -> Generator[None, None, NewJob]:
        now, pure = self.clock.now(), self.core.handlers.pure
        check_priority(plan.priority)
        if plan.about:  # A task of a dialect means the built-in handler.
            pure = pure - self.core.handlers.replaced.keys()
        begin_delays(plan, self._wall_time(now))
        work = yield from build(plan, self.settings.plan_limits(), now, pure)
        plan.merged = merged_handlers(plan, work)
        if len(plan.graph) > CALLS_IN_SLICE:
            yield
        if work.calls is not None:
            reusable = yield from work.calls.reusing(records)
            yield from work.calls.restoring(reusable)
        text = yield from writing_plan(plan)
        return new_job(plan, describe(plan), text, work, awaited)

    def _wall_time(self, moment: float) -> datetime:
        return datetime.fromtimestamp(self.clock.wall_s(moment), UTC)

    async def _jobs_before(self, plans: Sequence[Plan], caller: Caller) -> list[list[Job]]:
        """The jobs that must end before each of the plans begins."""
        count = sum(len(plan.after) for plan in plans)
        if count > AFTER_MAX:
            raise TooLarge(f"after: {count} jobs in the request > {AFTER_MAX} (after_max)")
        numbers = [list(dict.fromkeys(plan.after)) for plan in plans]
        if any(len(each) > AWAITED_MAX for each in numbers):
            raise TooLarge(f"after has more than {AWAITED_MAX} jobs")
        known = await self.archive.known(dict.fromkeys(chain.from_iterable(numbers)))
        if not caller.sees_all:
            known = {number: job for number, job in known.items() if caller.sees(job.owner)}
        try:
            return [[known[number] for number in each] for each in numbers]
        except KeyError as error:
            raise InvalidRequest(f"after: there is no job {error.args[0]}") from None

    # Accepting

    async def _accept(
        self, preparing: Awaitable[Sequence[NewJob]], key: str, digest: str, caller: Caller
    ) -> Sequence[Job]:
        """Accept jobs once they are prepared, and return them when that is recorded."""
        owner = caller.owner
        key = scoped(owner, key)
        try:
            new = await preparing
            if caller.is_restricted:
                await self.slices.run(_check_handlers(new, caller))
            caller.check_quota(self.core.jobs.owned.jobs_of(owner), len(new))
            self.ensure_room(1, owner)
            submission = self.core.jobs.accept(self.clock.now(), new, key, digest, owner)
            accepted = self._accepting[submission] = asyncio.get_running_loop().create_future()
            self.recorder.wake()
            known = await accepted
        except TryAgain:
            # A client that repeats an accepted submission must not be refused.
            known = await self._look_up(key) if key else None
            if known is None:
                raise
        if known is None:
            audit.submitted(caller, submission.jobs)
            return submission.jobs
        if known.digest != digest:
            raise Conflict(
                f"Idempotency-Key was already used with a different body, for job {known.first}; "
                "use a new key"
            )
        try:
            return await self.archive.find(range(known.first, known.first + known.count))
        except NotFound:
            job = f"job {known.first}, which has been deleted since it ended"
            raise NotFound(f"Idempotency-Key was used for {job}") from None

    async def find_named(self, name: str, owner: str = OWN_USER) -> Job:
        """The job to which a client gave a name.

        Args:
            owner: whose job it is.

        Raises:
            NotFound: there is no such job.
        """
        known = await self._look_up(scoped(owner, ID_KEY + name))
        if known is None:
            raise NotFound("Job not found")
        return (await self.archive.find([known.first]))[0]

    async def _look_up(self, key: str) -> KnownSubmission | None:
        first = [done for other, done in self._accepting.items() if other.key == key]
        if first:  # A submission with this key is being recorded.
            await asyncio.wait(first)
        return await self.recorder.submission(key)

    def recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        """Answer submissions that are recorded, or that repeat a known one."""
        for submission in facts.submissions:
            self._accepting.pop(submission).set_result(repeats.get(submission))

    def unrecorded(self, facts: Facts, error: DteError) -> None:
        """Refuse submissions that could not be recorded."""
        for submission in facts.submissions:
            self._accepting.pop(submission).set_exception(error)

    # Cancelling

    async def cancel(self, job: Job, caller: Caller = OWN_USERS) -> bool:
        """Cancel a job, and return when that is recorded.

        Returns:
            False if the job had ended before.

        Raises:
            Unavailable: the journal cannot be written.
        """
        if self.recorder.failure is not None and not job.is_terminal:
            raise self.recorder.failure  # Better than waiting for a disk that may stay full.
        fact = self.core.calls.jobs.cancel(self.clock.now(), job)
        if fact is not None:
            job.cancelled_by = caller.owner
            audit.cancelled(caller, job)
            await self.awaited.until_recorded([fact])
            if job.calls is not None and not any(call.state in BUSY for call in job.each_call()):
                # No worker has a call of it, but a long job ends in slices.
                await self.waiters.wait([job], RECORD_TIMEOUT_S)
            return True
        if job.is_terminal:
            return False
        # The end is being recorded, perhaps of a cancel a moment ago.
        await self.waiters.wait([job], RECORD_TIMEOUT_S)
        if not job.is_terminal:
            raise not_recorded(self.recorder.failure)
        return job.state is JobState.CANCELLED


def _check_handlers(jobs: Sequence[NewJob], caller: Caller) -> Generator[None, None, None]:
    """Check in slices that a caller may use the handlers of some jobs."""
    checked: set[str] = set()
    count = 0
    for job in jobs:
        for call in job.work.calls.calls.values() if job.work.calls is not None else ():
            if call.handler not in checked:
                caller.check_handler(call.handler)
                checked.add(call.handler)
            count += 1
            if not count % CALLS_IN_SLICE:
                yield
