"""The loop around the core: inputs in, facts recorded, `turn`, leases out, and who waits is told.

Inputs mark the core as dirty; once in each turn of the loop it is asked what follows. One timer
wakes it when nothing happens until then. Facts come into effect when they have been recorded: only
then a submission is answered and done, only then a job has ended for those who ask.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import lru_cache, partial

from dte.core.errors import Busy, Conflict, NotFound, TryAgain, Unavailable
from dte.core.formula.formula import SLICE_CHARS, parse_in_slices
from dte.core.formula.templates import Templates
from dte.core.graph.work import Work
from dte.core.jobs.facts import Facts, KnownSubmission, Submission, end_record
from dte.core.jobs.job import Job
from dte.core.jobs.table import JobTable
from dte.core.scheduler import Scheduler
from dte.core.workers.availability import Announcement, Delivery
from dte.master.dispatch.batches import Dispatcher
from dte.master.dispatch.calls import CallDispatcher
from dte.master.dispatch.pool import ConnectionPool
from dte.master.events import EventLog
from dte.master.journal.journal import Journal
from dte.master.journal.memory import AnyRecorder, MemoryRecorder
from dte.master.journal.recorder import Recorder
from dte.master.parsing import parse_all
from dte.master.restart import Restart
from dte.master.settings import Settings
from dte.master.slices import Slices
from dte.master.waiting import Waiters
from dte.master.webhooks import Webhooks
from dte.master.workers import ID_KEY, CallDesk, Remembered, Submit

log = logging.getLogger("dte.master")

LONG_CHARS = 1_000_000
LONG_FORMULAS = 2
"""How many formulas longer than `LONG_CHARS` are parsed at a time, as each takes much memory."""
MOMENTS_KEPT = 1_000
"""How many moments are kept as people write them: the jobs of a batch share theirs."""
FIRST_BOOTS = 800_000
"""The number of a first start is its second, modulo this: so leases of two journals differ, and fit
into numbers as other languages have them."""


class Master:
    """One core, its journal, its dispatcher, its timer and its waiters, on the running loop.

    Raises:
        JournalRefused: the journal cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = time.monotonic()
        # Clocks of the wall step; what people are shown is the monotonic clock, set once.
        self.wall_offset_s = time.time() - time.monotonic()
        # A worker may bring results of another journal's time, so starts are not counted from 1.
        first_boot = 1 + int(time.time()) % FIRST_BOOTS
        self.recorder = open_recorder(settings, self.wall_offset_s, first_boot)
        boot = self.recorder.boot
        self.core = Scheduler(settings.scheduler_limits(), boot, secrets.randbits(32))
        self._templates = Templates(settings.formula_limits())
        self._pool = ConnectionPool()
        self._dispatcher = Dispatcher(self.core, self._pool, self.now, self.wake)
        self._call_dispatcher = CallDispatcher(
            self.core, self._pool, self.now, self.wake, settings.value_bytes_max
        )
        self.slices = Slices()
        self._long_formulas = asyncio.Semaphore(LONG_FORMULAS)
        self._accepting: dict[Submission, asyncio.Future[KnownSubmission | None]] = {}
        self.waiters = Waiters()
        self.calls = CallDesk(
            settings,
            self.core,
            self.recorder,
            self.slices,
            self.waiters,
            wall_offset_s=self.wall_offset_s,
            now=self.now,
            wake=self.wake,
            accept=self.accept,
            announce=self.announce,
            ensure_room=self.ensure_room,
            find=self.find,
            plans_of=self.plans_of,
        )
        self._remembered: dict[str, Announcement] = {}
        self._unremembered: dict[str, Announcement] = {}
        self._remembering: asyncio.Task[None] | None = None
        self._dirty = False
        self._ending = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._restart: asyncio.Task[None] | None = None
        self.events = EventLog(boot, self.wall_time, streams_max=settings.streams_max)
        self.webhooks = Webhooks(
            self._encoded,
            self.recorder.delivered,
            webhook_secret=settings.webhook_secret,
            webhook_for_s=settings.webhook_for_s,
            webhooks_max=settings.webhooks_max,
        )
        self.encode_job: Callable[[Job], bytes] = _encode_nothing
        """How a job is shown; the routes say it."""
        self._restore()

    def _restore(self) -> None:
        loaded = self.recorder.load(self.settings.jobs_kept, self.settings.jobs_kept_bytes)
        self.core.jobs.restore(loaded.last, loaded.waiting, loaded.ended)
        for announcement in loaded.workers:
            with suppress(Busy):
                self.core.announce(time.monotonic(), announcement)
            self.wake()
        self.recorder.start(self.core.jobs, self._recorded, self._unrecorded)
        self.webhooks.restore(loaded.deliveries)
        if loaded.waiting:
            restart = Restart(
                self.core.jobs,
                self.recorder,
                self.slices,
                wall_offset_s=self.wall_offset_s,
                now=self.now,
                wake=self.wake,
                find=self.find,
            )
            self._restart = asyncio.get_running_loop().create_task(restart.run())

    async def end(self, grace_s: float) -> None:
        """Accept nothing more, wait up to `grace_s` seconds for what workers have, and stop.

        What has been accepted and has not ended goes on after the next start.
        """
        self._ending = True
        self.core.hand_over_no_more()
        for task in (self._restart, self._remembering):
            if task is not None:
                task.cancel()
        deadline = time.monotonic() + grace_s
        while self.core.leases and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._closed = True
        self._dispatcher.close()
        self._call_dispatcher.close()
        self._pool.close()
        if self._timer is not None:
            self._timer.cancel()
        await self.recorder.flush()
        self.waiters.give_up()
        self.calls.give_up()
        self.events.close()

    async def close(self) -> None:
        """Close the journal, when nobody asks any more."""
        await self.webhooks.close()
        await self.recorder.close()

    async def _encoded(self, number: int) -> bytes:
        (job,) = await self.find([number])
        return self.encode_job(job)

    def wall_time(self, moment: float | None) -> datetime | None:
        """A moment of the core's clock as people write it."""
        return None if moment is None else _wall_time(moment + self.wall_offset_s)

    def now(self) -> float:
        """This moment, on the core's clock."""
        return time.monotonic()

    # What clients and workers ask for

    async def submit(self, task: str, key: str = "", digest: str = "") -> Job:
        """Accept a formula; a long one is parsed in slices.

        Args:
            key: what the client calls this submission; with the key of an earlier one, that one's
                job is given.
            digest: of the body, which must be the same then.

        Raises:
            FormulaError: it has a syntax error.
            TooLarge: it is too long, or has too many operations.
            Busy: too much work waits.
            Unavailable: nothing can be accepted now.
            Conflict: the key was used with another body.
        """
        return (await self.accept(self._parse(task), key, digest))[0]

    async def submit_all(
        self, tasks: Sequence[str], key: str = "", digest: str = ""
    ) -> Sequence[Job]:
        """Accept formulas, all or none; they are parsed in slices. Else as `submit`.

        Raises:
            FormulaError: one has a syntax error; its `index` says which.
        """
        return await self.accept(self._parse_all(tasks), key, digest) if tasks else []

    async def _parse(self, task: str) -> Submit:
        self.ensure_room(1)
        pure = self.core.calls.pure_handlers()
        if len(task) <= SLICE_CHARS:
            work = self._templates.parse(task, pure)
        else:
            async with self._long_formulas if len(task) > LONG_CHARS else nullcontext():
                work = await self.slices.run(parse_in_slices(task, self._templates.limits, pure))
        return partial(_submit, self.core.jobs, [(task, work)])

    async def _parse_all(self, tasks: Sequence[str]) -> Submit:
        self.ensure_room(len(tasks))
        pure = self.core.calls.pure_handlers()
        parsing = parse_all(tasks, self._templates, self.core.jobs.ensure_room, pure)
        return partial(_submit, self.core.jobs, await self.slices.run(parsing))

    async def accept(self, preparing: Awaitable[Submit], key: str, digest: str) -> Sequence[Job]:
        """Have jobs accepted, and return them when that is recorded.

        Args:
            preparing: gives what submits them, once all is known for it.
            key: see `submit`.
            digest: see `submit`.
        """
        try:
            submit = await preparing
            self.ensure_room(1)
            submission = submit(time.monotonic(), key, digest)
            accepted = self._accepting[submission] = asyncio.get_running_loop().create_future()
            self.recorder.wake()
            known = await accepted
        except TryAgain:
            # Whoever asks again, because no reply came, shall not be refused what was accepted.
            known = await self._look_up(key) if key else None
            if known is None:
                raise
        if known is None:
            return submission.jobs
        if known.digest != digest:
            raise Conflict("Idempotency-Key was already used with a different body; use a new key")
        try:
            return await self.find(range(known.first, known.first + known.count))
        except NotFound:
            raise NotFound(
                f"this Idempotency-Key was used for job {known.first}, which ended so long ago "
                "that it is deleted"
            ) from None

    async def _look_up(self, key: str) -> KnownSubmission | None:
        first = [done for other, done in self._accepting.items() if other.key == key]
        if first:  # It is on its way: what becomes of it is known soon.
            await asyncio.wait(first)
        return await self.recorder.submission(key)

    async def find_named(self, name: str) -> Job:
        """The job that a client gave a name.

        Raises:
            NotFound: there is none.
        """
        known = await self._look_up(ID_KEY + name)
        if known is None:
            raise NotFound("Job not found")
        return (await self.find([known.first]))[0]

    async def plans_of(self, jobs: Sequence[Job]) -> list[Remembered]:
        """The plans of jobs, and what is remembered of their calls."""
        past = [job.number for job in jobs if job.finished and job.calls is None]
        kept = await self.recorder.plans(past) if past else {}
        found: list[Remembered] = []
        for job in jobs:
            if job.calls is not None:
                found.append((job.plan, [end_record(call) for call in job.calls.named()]))
            else:
                found.append(kept.get(job.number, (job.plan, [])))
        return found

    def ensure_room(self, jobs: int) -> None:
        """Check that so many jobs can be accepted now."""
        if self._ending:
            raise Unavailable("the master is ending; try again when it is back")
        if self.recorder.failure is not None:
            raise self.recorder.failure
        self.core.jobs.ensure_room(jobs)

    async def find(self, numbers: Sequence[int]) -> list[Job]:
        """The jobs of those numbers, in their order, also those that are only in the journal.

        Raises:
            NotFound: there is no such job, or it ended so long ago that it is deleted.
            Unavailable: the journal cannot be read.
        """
        jobs: dict[int, Job] = {}
        for number in numbers:
            with suppress(NotFound):
                jobs[number] = self.core.jobs.job(number)
        missing = [number for number in numbers if number not in jobs]
        if not all(map(self.core.jobs.is_past, missing)):
            raise NotFound("Job not found")  # At once: the journal may be busy for a while.
        if missing:
            jobs |= await self.recorder.ended(missing)
        if any(number not in jobs for number in missing):
            raise NotFound("Job not found")
        return [jobs[number] for number in numbers]

    async def announce(self, announcement: Announcement) -> None:
        """Note that a worker is there; one that will not say so again is noted in the journal too.

        Raises:
            Busy: too many workers are known.
        """
        now = time.monotonic()
        worker = self.core.announce(now, announcement)
        self.wake()
        if worker.joined_at == now:
            log.info(
                "worker %s joined from %s", announcement.name, announcement.address or "somewhere"
            )
        elif announcement.draining:
            log.info("worker %s leaves", announcement.name)
        # One that only looks registers once, like the seed's; the others say it again and again.
        returns = announcement.delivery is Delivery.PULL or (
            announcement.delivery is Delivery.PUSH and announcement.incarnation
        )
        if not returns and self._remembered.get(announcement.identity) != announcement:
            self._unremembered[announcement.identity] = announcement
            await self._remember()

    async def _remember(self) -> None:
        """Note in the journal the workers that will not announce themselves again after a restart.

        What cannot be noted now is so as soon as something can be written.
        """
        while self._unremembered:
            address, announcement = self._unremembered.popitem()
            try:
                await self.recorder.remember(announcement)
                self._remembered[address] = announcement
            except Unavailable as error:
                log.warning("worker %s cannot be noted yet: %s", announcement.name, error)
                self._unremembered.setdefault(address, announcement)
                return

    # What the recorder reports

    def _recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        self.core.jobs.recorded(facts, repeats)
        self.calls.facts.recorded(facts)
        if self._unremembered:
            self._remembering = asyncio.get_running_loop().create_task(self._remember())
        for submission in facts.submissions:
            self._accepting.pop(submission).set_result(repeats.get(submission))
        self.wake()

    def _unrecorded(self, facts: Facts, error: Unavailable) -> None:
        self.core.jobs.unrecorded(facts)
        for submission in facts.submissions:
            self._accepting.pop(submission).set_exception(error)
        self.wake()

    # The turn

    def wake(self) -> None:
        """Have the core take its turn when the loop has done what is due now."""
        if not self._dirty and not self._closed:
            self._dirty = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._dirty = False
        if self._closed:
            return
        self.recorder.wake()
        turn = self.core.turn(time.monotonic())
        for lease in turn.lost:
            self._dispatcher.abandon(lease)
            worker = lease.worker
            log.warning(
                "worker %s at %s: %s; operations that go to another: %d%s",
                worker.announcement.name,
                worker.announcement.address,
                lease.lost_because,
                lease.count,
                "; it is taken out until it is heard of again" if worker.gone else "",
            )
        for lease in turn.leases:
            self._dispatcher.send(lease)
        if turn.calls:
            self._call_dispatcher.send(turn.calls)
        if turn.stops:
            self._call_dispatcher.stop(turn.stops)
        self.calls.complete(turn.claims)
        for job in turn.ended:
            self.waiters.ended(job)
            if job.notify:
                self.webhooks.add(job.number, job.notify, job.ended_at or 0.0)
        self.events.add(turn.events)
        self.recorder.wake()
        self._set_timer()

    def _set_timer(self) -> None:
        moment = self.core.next_turn()
        if moment is None or (self._timer is not None and self._timer.when() <= moment):
            return  # A turn too early does no harm.
        if self._timer is not None:
            self._timer.cancel()
        # The loop's clock is time.monotonic too.
        self._timer = asyncio.get_running_loop().call_at(moment, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.wake()


def open_recorder(settings: Settings, wall_offset_s: float, first_boot: int) -> AnyRecorder:
    """Open the journal that the settings name, or record in memory if they name none.

    Args:
        wall_offset_s: see `Journal`.
        first_boot: see `Journal`.

    Raises:
        JournalRefused: the journal cannot be used.
    """
    if settings.journal == "none":
        return MemoryRecorder(first_boot, settings.jobs_kept)
    retention, sync = settings.retention(), settings.journal_sync
    return Recorder(Journal(settings.journal, wall_offset_s, sync, retention, first_boot))


@lru_cache(MOMENTS_KEPT)
def _wall_time(moment_s: float) -> datetime:
    return datetime.fromtimestamp(moment_s, UTC)


def _encode_nothing(job: Job) -> bytes:
    raise NotImplementedError("no route shows jobs")


def _submit(
    jobs: JobTable, formulas: Sequence[tuple[str, Work]], now: float, key: str, digest: str
) -> Submission:
    return jobs.submit(now, formulas, key, digest)
