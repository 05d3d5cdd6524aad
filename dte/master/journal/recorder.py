"""Writes facts into the journal, in a thread beside the loop, one group after the other.

While a group is being written the next gathers in the core, so the slower the disk, the more facts
share a commit. When it fails, ends are tried again and again, and nothing is accepted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from dte.core.errors import StorageFull, Unavailable
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.table import JobTable
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed
from dte.master.journal.thread import JournalThread

log = logging.getLogger("dte.master")

T = TypeVar("T")

RETRY_S = 0.5
"""How long after a failure the journal is tried again."""
PRUNE_S = 10.0
"""How often old jobs are looked for when nothing is written."""


class Listener(Protocol):
    """Who hears what became of facts."""

    def recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        """They are in the journal, except for submissions that are repeats."""

    def unrecorded(self, facts: Facts, error: Unavailable) -> None:
        """Nothing of them is in the journal."""


class Recorder:
    """Brings facts from the book of jobs into the journal.

    Attributes:
        failure: why the journal cannot be written at the moment; None while it can.
        commits: how many groups of facts have been written.
    """

    def __init__(self, journal: Journal, jobs: JobTable, listener: Listener) -> None:
        self._journal = journal
        self._jobs = jobs
        self._listener = listener
        self._thread = JournalThread()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(PRUNE_S, self._time_is_up)
        self._writing = self._closed = False
        self._idle = asyncio.Event()
        self.failure: Unavailable | None = None
        self.commits = 0

    def wake(self) -> None:
        """Write what there is to write, unless something is being written or cannot be."""
        if self._writing or self._closed or self.failure is not None:
            return
        facts = self._jobs.facts()
        if facts is None:
            self._idle.set()
        else:
            self._write(facts)

    async def flush(self) -> None:
        """Return when there is nothing to write, or it cannot be written."""
        self.wake()
        await self._idle.wait()

    async def read(self, read: Callable[..., T], *arguments: object) -> T:
        """What a reading method of the journal gives.

        Raises:
            Unavailable: it cannot be read.
        """
        came: asyncio.Future[T | Exception] = self._loop.create_future()

        def told(outcome: T | Exception) -> None:
            if not came.done():
                came.set_result(outcome)

        self._thread.do(partial(read, *arguments), told)
        outcome = await came
        if isinstance(outcome, JournalFailed):
            raise _unavailable(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Close the journal, after what is being written."""
        self._closed = True
        self._timer.cancel()
        await self.read(self._journal.close)
        self._thread.close()

    def _write(self, facts: Facts) -> None:
        self._writing = True
        self._idle.clear()
        write = partial(self._journal.write, facts, time.time())
        self._thread.do(write, partial(self._written, facts))

    def _written(
        self, facts: Facts, outcome: dict[Submission, KnownSubmission] | Exception
    ) -> None:
        self._writing = False
        if isinstance(outcome, Exception):
            if not isinstance(outcome, JournalFailed):
                outcome = JournalFailed(repr(outcome), False)
            self._fail(outcome)
            self._listener.unrecorded(facts, _unavailable(outcome))
            return
        self._succeed(facts)
        self._listener.recorded(facts, outcome)
        self.wake()

    def _fail(self, error: JournalFailed) -> None:
        if self.failure is None:
            log.error("the journal cannot be written: %s; nothing is accepted until it can", error)
        self.failure = _unavailable(error)
        self._idle.set()
        self._set_timer(RETRY_S)

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
            self._timer = self._loop.call_later(after_s, self._time_is_up)

    def _time_is_up(self) -> None:
        """Try again after a failure; else see whether something old is to be deleted."""
        if self._writing:
            return
        facts = self._jobs.facts() or Facts([], [])
        if self.failure is not None and not facts:
            self._probe(facts)
        else:
            self._write(facts)

    def _probe(self, facts: Facts) -> None:
        """Find out whether the journal can be written, with nothing to write."""

        def probe() -> dict[Submission, KnownSubmission]:
            self._journal.probe()
            return {}

        self._writing = True
        self._thread.do(probe, partial(self._written, facts))


def _unavailable(error: JournalFailed) -> Unavailable:
    if error.full:
        return StorageFull(f"the disk of the master's journal is full: {error}", 5)
    return Unavailable(f"the master's journal cannot be used: {error}", 5)
