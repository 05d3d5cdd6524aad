"""Recording in memory, for a master without a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO

from dte.core.errors import Conflict, Unavailable
from dte.core.graph.call import CallRecord
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.facts import KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.core.jobs.table import JobTable
from dte.core.shares import Shares
from dte.core.workers.worker import Announcement
from dte.master.journal.journal import Loaded, Unfinished
from dte.master.journal.recorder import FACTS_IN_TURN, Recorded, Recorder, Unrecorded


class MemoryRecorder:
    """Stands in for a `Recorder`: facts are recorded at once, and forgotten with the process."""

    failure: Unavailable | None = None
    damage: Unavailable | None = None
    commits = 0

    _jobs: JobTable
    _recorded: Recorded

    def __init__(self, boot: int, keys_max: int) -> None:
        self.boot = boot
        self._keys = KeyMemory(keys_max)
        self._goes_on = False

    def load(self, jobs_kept: int, bytes_kept: int) -> Loaded:
        return Loaded(0, [], [], [], [], {})

    def start(self, jobs: JobTable, recorded: Recorded, unrecorded: Unrecorded) -> None:
        self._jobs, self._recorded = jobs, recorded

    def wake(self) -> None:
        """Record new facts; many of them in the next turns of the loop."""
        if not self._goes_on:
            self._record_some()

    def _record_some(self) -> None:
        self._goes_on, left = False, FACTS_IN_TURN
        while (facts := self._jobs.facts(left)) is not None:
            left -= len(facts)
            self._recorded(facts, self._keys.remember(facts.submissions))
            if left <= 0:
                self._goes_on = True
                asyncio.get_running_loop().call_soon(self._record_some)
                return

    async def flush(self) -> None:
        self.wake()
        while self._goes_on:
            await asyncio.sleep(0)

    async def close(self) -> None:
        pass

    def copied(self, gone: asyncio.Future[None]) -> AbstractAsyncContextManager[BinaryIO]:
        raise Conflict(
            "this master keeps its jobs in memory (--journal none), so there is nothing to copy"
        )

    async def submission(self, key: str) -> KnownSubmission | None:
        return self._keys.get(key)

    async def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        return {}

    async def plans(self, numbers: Sequence[int]) -> dict[int, tuple[str | None, list[CallRecord]]]:
        return {number: (None, []) for number in numbers}  # Jobs in memory keep their calls.

    async def unfinished(self, after: int) -> list[Unfinished]:
        return []

    async def remember(self, announcement: Announcement) -> None:
        pass

    async def remember_replaced(self, policies: Mapping[str, HandlerPolicy]) -> None:
        pass

    async def delivered(self, numbers: Sequence[int]) -> None:
        pass


AnyRecorder = Recorder | MemoryRecorder


class KeyMemory:
    """The last keys of submissions, to recognise repeats.

    Keys of an owner beyond its share take the place of its own oldest ones.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._shares = Shares("keys", "jobs_kept", capacity)
        self._known: dict[str, tuple[KnownSubmission, str]] = {}
        self._of_owners: dict[str, dict[str, None]] = {}

    def get(self, key: str) -> KnownSubmission | None:
        known = self._known.get(key)
        return known[0] if known is not None else None

    def remember(self, submissions: Iterable[Submission]) -> dict[Submission, KnownSubmission]:
        """Remember submissions; return those that repeat a key, with the earlier submission."""
        repeats = {}
        for submission in submissions:
            if not submission.key:
                continue
            known = self.get(submission.key)
            if known is not None:
                repeats[submission] = known
                continue
            digest, jobs = submission.digest, submission.jobs
            self._add(submission.key, KnownSubmission(digest, jobs[0].number, len(jobs)), jobs[0])
        return repeats

    def _add(self, key: str, known: KnownSubmission, job: Job) -> None:
        self._known[key] = known, job.owner
        if job.owner:
            of_owner = self._of_owners.setdefault(job.owner, {})
            of_owner[key] = None
            if len(of_owner) > self._shares.share:
                self._forget(next(iter(of_owner)))
        if len(self._known) > self._capacity:
            self._forget(next(iter(self._known)))

    def _forget(self, key: str) -> None:
        _, owner = self._known.pop(key)
        if owner:
            del self._of_owners[owner][key]
            if not self._of_owners[owner]:
                del self._of_owners[owner]
