"""Jobs that wait for tasks which are not there yet, by the ids that these will have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass

from dte.core.errors import Busy, InvalidRequest, NotFound, Unavailable
from dte.core.jobs.facts import Facts, Submission
from dte.core.jobs.job import Job
from dte.core.scheduler import Scheduler
from dte.core.shares import Shares, scoped, unscoped
from dte.master.access.caller import OWN_USERS, Caller, caller_of
from dte.master.clock import Clock
from dte.master.jobs import ID_KEY, Jobs
from dte.master.slices import Slices

NUMBERED = re.compile(r"[0-9a-f]{16}")
"""The id of a task to which no client gave one: the number of its job."""
EXPECTED_MAX = 100_000
"""Most ids that are waited for, each counted once for each job."""
VISITED_IN_SLICE = 2_000
LOOK_AGAIN_S = 1.0


def id_of(number: int) -> str:
    """The id of a job as a task to which no client gave one."""
    return f"{number:016x}"


@dataclass(eq=False)
class ExpectedTasks:
    """Notices when tasks come that jobs wait for.

    A job is noted when its acceptance is recorded. Its tasks may have come a moment before, so they
    are looked up then; those that are still missing are noticed when they come.
    """

    core: Scheduler
    jobs: Jobs
    slices: Slices
    clock: Clock

    def __post_init__(self) -> None:
        self._waiting: dict[str, dict[Job, None]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._count = 0
        self._shares = Shares("dependencies on tasks that are not there", "", EXPECTED_MAX)

    def close(self) -> None:
        for task in self._looking:
            task.cancel()

    async def find(self, task_id: str, caller: Caller = OWN_USERS) -> Job:
        """Find a job by its id as a task: one that a client gave it, or its number.

        Args:
            caller: whose client it is; jobs that it does not see are not there.

        Raises:
            NotFound: there is none.
        """
        with suppress(NotFound):
            return await self.jobs.find_named(task_id, caller.owner)
        if not NUMBERED.fullmatch(task_id):
            raise NotFound("Task not found")
        (job,) = await self.jobs.archive.find([int(task_id, 16)], caller)
        return job

    def ensure_room(self, count: int, owner: str) -> None:
        """Check that an owner's jobs can wait for some more ids.

        Raises:
            Busy: too many are waited for already.
            TooLarge: the owner may never wait for so many.
        """
        if self._count + count > EXPECTED_MAX or not self._shares.has_room(owner, count):
            self._forget_ended()
        self._shares.ensure_room(owner, count)
        if self._count + count > EXPECTED_MAX:
            raise Busy(
                f"too many dependencies on tasks that are not there: {self._count} + {count} > "
                f"{EXPECTED_MAX}",
                retry_after_s=5,
            )

    async def ensure_no_cycle(self, task_id: str, awaited: Iterable[Job]) -> None:
        """Check that no task which a new one waits for waits for the new one.

        Raises:
            InvalidRequest: one does.
        """
        if task_id in self._waiting:
            await self.slices.run(self._check_cycle(task_id, awaited))

    def _check_cycle(self, task_id: str, awaited: Iterable[Job]) -> Generator[None, None, None]:
        left, seen = list(awaited), set[int]()
        while left:
            job = left.pop()
            if task_id in job.expects:
                raise InvalidRequest(
                    f"dependencies: task {id_of(job.number)!r} waits for {unscoped(task_id)!r}, "
                    "which would wait for it"
                )
            if job.number not in seen:
                seen.add(job.number)
                left += job.awaited
                if not len(seen) % VISITED_IN_SLICE:
                    yield

    def add(self, job: Job) -> None:
        """Note a job that is accepted, or resumed after a restart."""
        if not job.expects:
            return
        for name in job.expects:
            self._waiting.setdefault(name, {})[job] = None
        self._count += len(job.expects)
        self._shares.add(job.owner, len(job.expects))
        task = asyncio.get_running_loop().create_task(self._look(job, list(job.expects)))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, job: Job, names: Collection[str]) -> None:
        """Look for the tasks of a job that may be there already."""
        for name in names:
            while name in job.expects:
                try:
                    self._found(name, await self._expected(name, job.owner))
                except NotFound:
                    break
                except Unavailable:
                    await asyncio.sleep(LOOK_AGAIN_S)

    async def _expected(self, name: str, owner: str) -> Job:
        """Find a job by its name among those of an owner."""
        return await self.find(unscoped(name), caller_of(owner))

    def recorded(self, facts: Facts, void: Collection[Submission]) -> None:
        """Note the jobs of submissions that are recorded, and let go on what waits for them."""
        for submission in facts.submissions:
            if submission in void:
                continue
            for job in submission.jobs:
                self.add(job)
                if self._waiting:
                    self._found(scoped(job.owner, id_of(job.number)), job)
            key = unscoped(submission.key)
            if self._waiting and key.startswith(ID_KEY):
                first = submission.jobs[0]
                self._found(scoped(first.owner, key.removeprefix(ID_KEY)), first)

    def _found(self, name: str, found: Job) -> None:
        waiting = self._waiting.pop(name, {})
        self._count -= len(waiting)
        for job in waiting:
            self._shares.remove(job.owner)
            self.core.calls.jobs.awaited.found(self.clock.now(), job, name, found)

    def _forget_ended(self) -> None:
        """Forget the jobs that have ended without the tasks that they waited for."""
        for name, waiting in list(self._waiting.items()):
            left = {job: None for job in waiting if name in job.expects}
            self._count -= len(waiting) - len(left)
            for job in waiting.keys() - left.keys():
                self._shares.remove(job.owner)
            if left:
                self._waiting[name] = left
            else:
                del self._waiting[name]
