"""The loop around the core: inputs in, facts recorded, one tick, hand-overs out.

Every input wakes the core: it ticks once when the event loop has handled what is due. One timer
wakes it when nothing else does, at least once a second, to look at the wall clock. Facts take
effect when they are recorded: only then is a submission answered and its job begun, and only then
has a job ended for those who ask.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from dte.core.errors import Busy, DteError, JournalDamaged, NotFound
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.core.scheduler import Scheduler
from dte.core.shares import view_of
from dte.master.access.admission import Admission
from dte.master.archive import Archive
from dte.master.clock import LOOK_S, Clock
from dte.master.destinations import destinations
from dte.master.dispatch.batches import Dispatcher
from dte.master.dispatch.calls import CallDispatcher
from dte.master.dispatch.pool import ConnectionPool
from dte.master.dispatch.reach import Reach
from dte.master.dispatch.replies import Replies
from dte.master.events import EventLog
from dte.master.expected import ExpectedTasks
from dte.master.http.access import Access
from dte.master.incidents import Incidents
from dte.master.jobs import Jobs
from dte.master.journal.awaited import AwaitedFacts
from dte.master.journal.journal import Journal
from dte.master.journal.memory import AnyRecorder, MemoryRecorder
from dte.master.journal.recorder import Recorder
from dte.master.past import PastJobs
from dte.master.posting import Message
from dte.master.restart import Restart
from dte.master.settings import Settings
from dte.master.slices import Slices
from dte.master.tls import worker_context
from dte.master.turns import turns_of, what_for
from dte.master.waiting import Waiters
from dte.master.webhooks import Webhooks
from dte.master.workers import Workers

FIRST_BOOTS = 800_000
"""The boot number of a new journal is random, up to this. So leases of two journals differ,
whatever the clock shows. Lease numbers stay exact in languages whose numbers are floats."""

PAUSED_S = 1.0
"""The loop stood still so long that clients and workers may have given up requests."""
HEAR_S, HEAR_TURNS = 0.05, 5
"""Time, and iterations of the loop, in which everything is read that came during a pause."""
TICK = ("a tick of the core",)
RECORDED = ("facts that were recorded",)
RESUMED = ("jobs from before the restart",)


class Master:
    """One core with its journal, dispatchers and timer, on the running event loop.

    Attributes:
        access: who may do what.
        admission: which workers may do what.
        jobs: requests of clients.
        workers: requests of workers.
        archive: jobs by number, from memory or the journal.
        turns: those of the loop.
        ended_bytes: about how many bytes the jobs had that have ended.
        encode_job: encodes a job for webhooks; set by the routes.

    Raises:
        JournalRefused: the journal cannot be used.
        TokensRefused: the file of tokens cannot be used.
    """

    encode_job: Callable[[Job], bytes]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        loop = asyncio.get_running_loop()
        self.clock = clock = Clock(loop.time)
        self.turns = turns_of(loop)
        self.started_at = clock.now()
        self.access = Access(settings, clock)
        # A worker may report results from the time of another journal, so boots do not begin at 1.
        first_boot = 1 + secrets.randbits(32) % FIRST_BOOTS
        self.recorder = recorder = open_recorder(settings, clock.now(), first_boot)
        seed = secrets.randbits(32)
        self.core = core = Scheduler(settings.scheduler_limits(), recorder.boot, seed)
        core.jobs.wall_offset_s = clock.offset_s
        self.slices = Slices(self.turns)
        self.waiters = Waiters()
        self.incidents = Incidents()
        self.awaited = AwaitedFacts(recorder, self.wake)
        self.archive = Archive(core.jobs, recorder, self.slices, clock)
        self.past_jobs = PastJobs()
        self.jobs = Jobs(
            settings, core, recorder, self.archive, self.awaited, self.waiters, self.slices, clock
        )
        self.expected = ExpectedTasks(core, self.jobs, self.slices, clock)
        replies = Replies(settings.worker_replies_bytes_max, settings.slow_client_s)
        self._pool = ConnectionPool(replies, partial(worker_context, settings))
        self.admission = Admission(
            core,
            self.access.tokens,
            self.access.wall_s,
            lambda: self.access.is_open,
            self.access.seeds,
        )
        reach = Reach(self._pool)
        self.workers = Workers(core, recorder, self.awaited, clock, self.wake, reach)
        self._pool.on_broken = self.workers.presence.broken
        self._dispatcher = Dispatcher(core, self._pool, clock.now, self.wake, self.slices)
        self._call_dispatcher = CallDispatcher(
            core, self._pool, clock.now, self.wake, settings.value_bytes_max, self.slices
        )
        self.ended_bytes = 0
        self._woken = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._restart: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self.events = EventLog(
            recorder.boot,
            clock.wall_time,
            view_of_job=self._view_of_job,
            streams_max=settings.streams_max,
        )
        self.webhooks = Webhooks(
            self._message,
            recorder.delivered,
            destinations(settings, has_tokens=lambda: not self.access.is_open),
            webhook_secret=settings.webhook_secret,
            webhook_for_s=settings.webhook_for_s,
            webhooks_max=settings.webhooks_max,
        )
        self._restore()

    def _restore(self) -> None:
        loaded = self.recorder.load(self.settings.jobs_kept, self.settings.jobs_kept_bytes)
        self.core.jobs.restore(loaded.last, loaded.waiting, loaded.ended)
        if loaded.waiting:
            self.core.handlers.restore(loaded.replaced)
        self.workers.stored.restore(loaded.replaced)
        for announcement in loaded.workers:
            with suppress(Busy):
                self.core.announce(self.clock.now(), announcement)
            self.wake()
        self.recorder.start(self.core.jobs, self._recorded, self._unrecorded)
        self.webhooks.restore(loaded.deliveries)
        if loaded.waiting:
            restart = Restart(
                self.core,
                self.recorder,
                self.archive,
                self.expected,
                self.slices,
                self.clock,
                self.wake,
            )
            self.workers.unread.reading = True
            self._restart = asyncio.get_running_loop().create_task(self._resume(restart))

    async def _resume(self, restart: Restart) -> None:
        what_for.set(RESUMED)
        await restart.run()
        self.workers.unread.reading = False
        self.workers.forget_replaced(restart.handlers)

    async def end(self, grace_s: float) -> None:
        """Accept nothing more, wait up to `grace_s` seconds for batches of workers, and stop.

        Unfinished jobs are resumed after the next start.
        """
        self.jobs.close()
        self.core.hand_over_no_more()
        if self._restart is not None:
            self._restart.cancel()
        deadline = self.clock.now() + grace_s
        while self.core.arithmetic.leases and self.clock.now() < deadline:
            await asyncio.sleep(0.01)
        self._closed = True
        self.expected.close()
        self._dispatcher.close()
        self._call_dispatcher.close()
        self._pool.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._hearing is not None:
            self._hearing.cancel()
        await self.recorder.flush()
        self.waiters.give_up()
        self.workers.close()
        self.events.close()

    async def close(self) -> None:
        """Close the journal, when no request is left."""
        await self.webhooks.close()
        await self.recorder.close()
        self.incidents.close()

    async def _message(self, number: int) -> Message:
        """The webhook of a job. Its number is no id: with another journal, numbers begin anew."""
        (job,) = await self.archive.find([number])
        submitted_us = round(job.submitted_at * 1_000_000)
        return Message(f"job_{number}_{submitted_us}", self.encode_job(job))

    def _view_of_job(self, number: int) -> str | None:
        try:
            return view_of(self.core.jobs.job(number).owner)
        except NotFound:
            return None

    # Recording

    def _recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        self.turns.note(RECORDED)
        self.core.recorded(self.clock.now(), facts, repeats)
        self.awaited.recorded(facts)
        self.workers.stored.recorded()
        self.jobs.recorded(facts, repeats)
        self.expected.recorded(facts, repeats)
        self.turns.note()
        self.wake()

    def _unrecorded(self, facts: Facts, error: DteError) -> None:
        self.core.unrecorded(self.clock.now(), facts)
        self.jobs.unrecorded(facts, error)
        if isinstance(error, JournalDamaged):
            self.awaited.give_up()
        self.wake()

    # The tick

    def wake(self) -> None:
        """Have the core tick when the event loop has handled what is due now."""
        if not self._woken and not self._closed:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._woken = False
        if self._closed:
            return
        self.turns.note(TICK)
        self.recorder.wake()
        still_s, self.core.jobs.wall_offset_s = self.clock.still_s, self.clock.look()
        if self.clock.still_s - still_s >= PAUSED_S and self._hearing is None:
            self._hearing = asyncio.get_running_loop().create_task(self._hear())
        if self._hearing is not None:
            return
        for worker in self.admission.lapsed(self.clock.now()):
            self.workers.expel(worker)
        tick = self.core.tick(self.clock.now())
        for lease in tick.lost:
            self._dispatcher.abandon(lease)
        if tick.lost or tick.gone or tick.setbacks:
            self.incidents.lost(tick.lost)
            self.incidents.gone(tick.gone)
            self.incidents.setbacks(tick.setbacks)
        for worker in tick.overdue:
            self.workers.presence.check(worker)
        for lease in tick.batches:
            self._dispatcher.send(lease)
        if tick.calls:
            self._call_dispatcher.send(tick.calls)
        if tick.stops:
            self._call_dispatcher.stop(tick.stops)
        self.workers.complete(tick.claims)
        for job in tick.ended:
            self.ended_bytes += job.size
            self.waiters.ended(job)
            if job.notify:
                self.webhooks.add(job.number, job.notify, self.clock.now(), job.owner)
        self.incidents.ended(tick.ended)
        self.events.add(tick.events)
        self.recorder.wake()
        self._set_timer()
        self.turns.note()

    async def _hear(self) -> None:
        """After a pause read what has come before anything is handed over.

        A worker may have given up its claim, and be gone.
        """
        await asyncio.sleep(HEAR_S)
        for _ in range(HEAR_TURNS):
            await asyncio.sleep(0)
        self._hearing = None
        self.wake()

    def publish(self) -> None:
        """Log the events since the last tick, so that the log is as new as the jobs."""
        self.events.add(self.core.jobs.take_events())

    def _set_timer(self) -> None:
        moment, look_at = self.core.next_tick(), self.clock.now() + LOOK_S
        if moment is None or moment > look_at:
            moment = look_at
        if self._timer is not None and self._timer.when() <= moment:
            return  # A tick too early does no harm.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(moment, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.wake()


def open_recorder(settings: Settings, now: float, first_boot: int) -> AnyRecorder:
    """Open the journal that the settings name; record in memory if they name none."""
    if settings.journal == "none":
        return MemoryRecorder(first_boot, settings.jobs_kept)
    retention, sync = settings.retention(), settings.journal_sync
    journal = Journal(
        settings.journal,
        now,
        sync,
        retention,
        first_boot,
        without_wal=settings.journal_without_wal,
    )
    return Recorder(journal)
