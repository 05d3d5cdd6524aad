"""Jobs that wait until other jobs have ended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from dte.core.calls.chores import Chores
from dte.core.jobs.job import Job

UNBLOCKED_IN_SLICE = 200


class AwaitedJobs:
    """Knows which jobs wait for which.

    Args:
        begin: begins a job that waits for nothing any more.
    """

    def __init__(self, chores: Chores, begin: Callable[[float, Job], None]) -> None:
        self._chores = chores
        self._begin = begin
        self._waiting: dict[int, list[Job]] = {}

    def block(self, job: Job) -> list[Job]:
        """Keep a job from beginning, if it has to wait, and return the jobs that it waits for."""
        left = [other for other in job.awaited if not other.is_terminal]
        job.awaits = len(left)
        job.blocked = bool(left or job.expects)
        return left

    def wait(self, job: Job, others: Iterable[Job]) -> None:
        """Let a job wait for others, which have not ended."""
        for other in others:
            self._waiting.setdefault(other.number, []).append(job)

    def found(self, now: float, job: Job, name: str, other: Job) -> None:
        """A job that another one expects under a name is there."""
        if name not in job.expects:
            return
        job.expects = {each for each in job.expects if each != name}
        job.awaited = [*job.awaited, other]
        if not other.is_terminal:
            job.awaits += 1
            self.wait(job, [other])
        self._unblock(now, job)

    def closed(self, now: float, job: Job) -> None:
        """The end of a job is recorded: others may have waited for it."""
        waiting = self._waiting.pop(job.number, None)
        if waiting is not None:
            is_long = len(waiting) > UNBLOCKED_IN_SLICE
            self._chores.run(now, self._unblock_all(waiting), is_long=is_long)

    def _unblock_all(self, jobs: list[Job]) -> Generator[None, None, None]:
        for count, job in enumerate(jobs, 1):
            job.awaits -= 1
            self._unblock(self._chores.now, job)
            if not count % UNBLOCKED_IN_SLICE:
                yield

    def _unblock(self, now: float, job: Job) -> None:
        """Begin a job, if it goes on, and the last job that it waited for has ended."""
        if job.blocked and job.goes_on and not job.expects and not job.awaits:
            job.blocked = False
            self._begin(now, job)
