"""Writes facts into the journal, in a thread beside the loop, one group after the other.

While a group is being written, the next one gathers in the core: the slower the disk, the more
facts share a commit. When a commit fails, the recorder tries again and again, and the master
accepts nothing until a commit succeeds. Damage is final: after a write that met it, nothing is
written until the next start.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import BinaryIO, TypeVar

from dte.core.errors import Conflict, DteError, JournalDamaged, StorageFull, TooLarge, Unavailable
from dte.core.graph.call import CallRecord
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.core.jobs.refusals import cut_down, without
from dte.core.jobs.table import JobTable
from dte.core.workers.worker import Announcement
from dte.master.journal.journal import Journal, Loaded, Unfinished
from dte.master.journal.schema import JournalFailed
from dte.master.journal.thread import JournalThread

log = logging.getLogger("dte.master")

T = TypeVar("T")

RETRY_S = 0.5
"""Pause before the journal is tried again after a failure."""
PRUNE_S = 10.0
"""Time between searches for old jobs while nothing is written."""
AHEAD_S, BEHIND_S = 366 * 86_400.0, -3_600.0
"""A clock that is further from the last end of a job may be wrong."""
FACTS_IN_TURN = 500
"""Facts that take effect in a turn of the loop, or one submission."""
STOP_S = 0.01
"""Time between looks whether copying has stopped."""

JOBS_NAMED_MAX = 10
"""Jobs that a log message names."""

Repeats = Mapping[Submission, KnownSubmission]
Recorded = Callable[[Facts, Repeats], None]
Unrecorded = Callable[[Facts, DteError], None]


class Recorder:
    """Writes the facts of a table of jobs into a journal, and reads the journal.

    Every method that asks the journal raises `Unavailable` when it cannot be used.

    Attributes:
        boot: the number of this start.
        failure: why the journal cannot be written; None while it can.
        damage: the last damage that was found in the journal; None if none was, since the start.
        commits: the number of groups of facts that were written.
    """

    _jobs: JobTable
    _recorded: Recorded
    _unrecorded: Unrecorded
    _thread: JournalThread
    _timer: asyncio.TimerHandle

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._writing = self._closed = False
        self._idle = asyncio.Event()
        self._has_copy = False
        self._stop_copying: threading.Event | None = None
        self.boot = journal.boot
        self.failure: Unavailable | None = None
        self.damage: Unavailable | None = None
        self.commits = 0

    def load(self, jobs_kept: int, bytes_kept: int) -> Loaded:
        loaded = self._journal.load(jobs_kept, bytes_kept, time.monotonic())
        waiting, ended = len(loaded.waiting), len(loaded.ended)
        text = "journal %s: unfinished jobs to resume: %d, finished jobs loaded: %d"
        log.info(text, self._journal.path, waiting, ended)
        if loaded.ended and loaded.ended[-1].ended_at is not None:
            _compare_clocks(loaded.ended[-1].ended_at, time.time())
        return loaded

    def start(self, jobs: JobTable, recorded: Recorded, unrecorded: Unrecorded) -> None:
        """Begin to write, on the running loop.

        Args:
            jobs: gives the facts.
            recorded: called with facts that are in the journal, and with the submissions among
                them that are not, because they repeat earlier ones.
            unrecorded: called with facts that are not in the journal, and the reason.
        """
        self._jobs, self._recorded, self._unrecorded = jobs, recorded, unrecorded
        jobs.keeps_plans = True
        self._thread = JournalThread()
        self._timer = asyncio.get_running_loop().call_later(PRUNE_S, self._time_is_up)

    def wake(self) -> None:
        """Write new facts, unless a commit is under way or has failed."""
        if self._writing or self._closed or self.failure is not None:
            return
        facts = self._jobs.facts()
        if facts is None:
            self._idle.set()
        else:
            self._write(facts)

    async def flush(self) -> None:
        """Return when all facts are written, or a commit failed."""
        self.wake()
        await self._idle.wait()

    async def close(self) -> None:
        """Close the journal, after the commit that is under way."""
        self._closed = True
        self._timer.cancel()
        while self._stop_copying is not None:
            self._stop_copying.set()
            await asyncio.sleep(STOP_S)
        await self.run(self._journal.close)
        self._thread.close()

    # Asking the journal, by the methods of these names

    async def submission(self, key: str) -> KnownSubmission | None:
        return await self.run(self._journal.submission, key)

    async def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        return await self.run(self._journal.ended, numbers)

    async def plans(self, numbers: Sequence[int]) -> dict[int, tuple[str | None, list[CallRecord]]]:
        return await self.run(self._journal.plans, numbers)

    async def unfinished(self, after: int) -> list[Unfinished]:
        return await self.run(self._journal.unfinished, after)

    async def remember(self, announcement: Announcement) -> None:
        await self.run(self._journal.remember, announcement, time.monotonic())

    async def remember_replaced(self, policies: Mapping[str, HandlerPolicy]) -> None:
        await self.run(self._journal.remember_replaced, policies)

    async def delivered(self, numbers: Sequence[int]) -> None:
        await self.run(self._journal.delivered, numbers)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a method of the journal in its thread, and return what it returns."""
        came: asyncio.Future[T | Exception] = asyncio.get_running_loop().create_future()

        def callback(outcome: T | Exception) -> None:
            if not came.done():
                came.set_result(outcome)

        self._thread.do(partial(work, *arguments), callback)
        outcome = await came
        if isinstance(outcome, JournalFailed):
            if outcome is self._journal.damage:
                self._fail(outcome)
            raise self._note(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    # Copying

    @asynccontextmanager
    async def copied(self, gone: asyncio.Future[None]) -> AsyncIterator[BinaryIO]:
        """Copy the journal, and give the copy, an open file without a name.

        Args:
            gone: done when nobody waits for the copy any more.

        Raises:
            Conflict: there is another copy, which has not been taken yet.
            StorageFull: there is too little room for the copy.
            Unavailable: the journal is known to be damaged, and so would the copy be.
        """
        if self._closed:
            raise _copying_stopped()
        if self.damage is not None:
            raise self.damage
        if self._has_copy:
            raise Conflict("another backup is being made; one at a time is")
        self._has_copy = True
        self._stop_copying = stop = threading.Event()
        gone.add_done_callback(lambda _: stop.set())
        try:
            try:
                file = await self.run(self._journal.copy, partial(self._between_steps, stop))
            finally:
                self._stop_copying = None
            try:
                yield file
            finally:
                # The system frees the blocks of a gigabyte for half a second, then and there.
                asyncio.get_running_loop().run_in_executor(None, file.close)
        finally:
            self._has_copy = False

    def _between_steps(self, stop: threading.Event) -> None:
        """Do what the journal has to do besides copying, in its thread."""
        if stop.is_set():
            raise _copying_stopped()
        self._thread.do_due()

    # Writing

    def _write(self, facts: Facts) -> None:
        self._writing = True
        self._idle.clear()
        write = partial(self._journal.write, facts, time.monotonic())
        self._thread.do(write, partial(self._written, facts))

    def _written(self, facts: Facts, outcome: Repeats | Exception | None) -> None:
        if isinstance(outcome, Exception):
            self._writing = False
            if not isinstance(outcome, JournalFailed):
                outcome = JournalFailed(repr(outcome), False)
            if outcome.of_row and facts:
                self._writing = True
                find = partial(self._journal.refused, facts, time.monotonic())
                self._thread.do(find, partial(self._part, facts, outcome))
            else:
                self._give_back(facts, outcome)
            return
        self._succeed(facts)
        self._take_effect(facts.parts(FACTS_IN_TURN), outcome or {})

    def _take_effect(self, parts: Iterator[Facts], repeats: Repeats) -> None:
        """Let recorded facts take effect, some in each turn, before more are written."""
        self._recorded(next(parts), repeats)
        left = next(parts, None)
        if left is not None:
            again = partial(self._take_effect, chain([left], parts), repeats)
            asyncio.get_running_loop().call_soon(again)
            return
        self._writing = False
        self.wake()

    def _part(self, facts: Facts, error: JournalFailed, refused: Facts | Exception) -> None:
        """Write the other facts without those that SQLite refuses, whose jobs fail.

        A fact that is refused although nothing more can be left out is dropped, as it would keep
        all others from being written. Its job stays unfinished until the master's next start.
        """
        self._writing = False
        reason = f"it cannot be recorded: {error}"
        if isinstance(refused, Exception) or not refused:
            self._give_back(facts, error)
            return
        dropped = cut_down(refused, reason)
        failing = without(refused, dropped)
        if failing:
            log.error(
                "the journal refused %d submissions, and ends in the jobs %s, which fail: %s",
                len(failing.submissions),
                _jobs_of(failing),
                error,
            )
            self._unrecorded(failing, TooLarge(reason))
        if dropped:
            log.error(
                "the journal refused all that can be said of the jobs %s, which stay unfinished "
                "until the next start: %s",
                _jobs_of(dropped),
                error,
            )
        self._write(without(facts, refused))

    def _give_back(self, facts: Facts, error: JournalFailed) -> None:
        self._fail(error)
        self._unrecorded(facts, self._note(error))

    def _fail(self, error: JournalFailed) -> None:
        is_final = self._journal.damage is not None
        if self.failure is None or (is_final and not isinstance(self.failure, JournalDamaged)):
            until = "the master is started with a good one" if is_final else "it can"
            text = "the journal cannot be written: %s; no job is accepted until %s"
            log.error(text, error, until)
        self.failure = _unavailable(error)
        self._idle.set()
        if is_final:
            self._timer.cancel()
        else:
            self._set_timer(RETRY_S)

    def _note(self, error: JournalFailed) -> Unavailable:
        """The error for clients; damage is noted, as it does not pass."""
        found = _unavailable(error)
        if error.damaged:
            self.damage = found
        return found

    def _succeed(self, facts: Facts) -> None:
        if self.failure is not None:
            log.warning("the journal can be written again")
            self.failure = None
        if facts:
            self.commits += 1
        self._set_timer(PRUNE_S)

    def _set_timer(self, after_s: float) -> None:
        self._timer.cancel()
        if not self._closed:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._time_is_up)

    def _time_is_up(self) -> None:
        """Try again after a failure, or delete old jobs."""
        if self._writing or isinstance(self.failure, JournalDamaged):
            return
        facts = self._jobs.facts() or Facts([], [])
        if self.failure is not None and not facts:
            self._writing = True
            self._thread.do(self._journal.probe, partial(self._written, facts))
        else:
            self._write(facts)


def _jobs_of(facts: Facts) -> list[int]:
    """The first of the jobs of ends, steps and cancels, for the log."""
    jobs = [each.call.job for each in facts.steps]
    jobs += [each.job.number for each in facts.ends]
    jobs += [each.job.number for each in facts.cancels]
    return jobs[:JOBS_NAMED_MAX]


def _compare_clocks(newest: float, now: float) -> None:
    """Say that the clock may be wrong, if the newest end of a job is far from now."""
    if BEHIND_S < now - newest < AHEAD_S:
        return
    days = abs(now - newest) / 86_400
    where = "before" if now > newest else "after"
    log.warning(
        "the last job in the journal ended %.1f days %s this moment of the clock; if the clock is "
        "wrong, set it. Nothing is deleted for that: jobs age only while a master runs",
        days,
        where,
    )


def _copying_stopped() -> Unavailable:
    return Unavailable("the backup was stopped, because the master ends or nobody waits for it", 5)


def _unavailable(error: JournalFailed) -> Unavailable:
    if error.damaged:
        return JournalDamaged(f"the master's journal cannot be used: {error}")
    if error.full:
        return StorageFull(f"the disk of the master's journal is full: {error}", 5)
    return Unavailable(f"the master's journal cannot be used: {error}", 5)
