"""The ring buffer of jobs: the newest are kept, and every job that has not ended."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice

from dte.core.jobs.job import Job, kept_bytes
from dte.core.shares import Shares


class JobRing:
    """Jobs by number.

    A finished job is forgotten when `capacity` others have finished after it, or when the finished
    ones take more than `bytes_max`. Those of an owner beyond its share are forgotten before. The
    last one and the unfinished ones are never forgotten.

    Args:
        capacity: most finished jobs that are kept.
        bytes_max: about how many bytes they may take.
    """

    def __init__(self, capacity: int, bytes_max: int) -> None:
        self._capacity = capacity
        self._bytes_max = bytes_max
        self._jobs: dict[int, Job] = {}
        self._ended: OrderedDict[int, int] = OrderedDict()
        self._bytes = 0
        self._owned: dict[str, deque[int]] = {}
        self._shares = (
            Shares("ended jobs", "jobs_kept", capacity),
            Shares("bytes of ended jobs", "jobs_kept_bytes", bytes_max),
        )

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        self._jobs[job.number] = job

    def ended(self, job: Job) -> None:
        """Note that a job has ended: it may be forgotten, after those that ended before."""
        size = kept_bytes(job)
        self._ended[job.number] = size
        self._bytes += size
        if job.owner:
            self._note_owned(job, size)
        while len(self._ended) > 1 and (
            len(self._ended) > self._capacity or self._bytes > self._bytes_max
        ):
            self._forget(next(iter(self._ended)))

    def _note_owned(self, job: Job, size: int) -> None:
        """Note the end of somebody else's job than the machine's own user's."""
        owner, (jobs, sizes) = job.owner, self._shares
        own = self._owned.get(owner)
        if own is None:
            own = self._owned[owner] = deque()
        own.append(job.number)
        jobs.add(owner)
        sizes.add(owner, size)
        while len(own) > 1 and not (jobs.has_room(owner, 0) and sizes.has_room(owner, 0)):
            self._forget(own[0])

    def _forget(self, number: int) -> None:
        """Forget a finished job: the oldest of all, or of its owner."""
        size = self._ended.pop(number)
        self._bytes -= size
        owner = self._jobs.pop(number).owner
        if owner:
            jobs, sizes = self._shares
            own = self._owned[owner]
            own.popleft()
            if not own:
                del self._owned[owner]
            jobs.remove(owner)
            sizes.remove(owner, size)

    def remove(self, job: Job) -> None:
        """Forget an unfinished job."""
        del self._jobs[job.number]

    def get(self, number: int) -> Job | None:
        return self._jobs.get(number)

    def newest(self, count: int) -> Iterator[Job]:
        """Up to `count` jobs, ended or not, the newest first."""
        return islice(reversed(self._jobs.values()), count)

    def check(self) -> None:
        """Assert every invariant; for tests."""
        assert len(self._ended) <= self._capacity
        for number, job in self._jobs.items():
            assert job.number == number
            assert job.is_terminal == (number in self._ended), f"job {number} is misplaced"
        assert self._ended.keys() <= self._jobs.keys(), "it would forget a job that it has not"
        assert self._bytes == sum(self._ended.values())
        assert self._bytes <= self._bytes_max or len(self._ended) == 1
        jobs, sizes = self._shares
        for owner, own in self._owned.items():
            assert list(own) == [each for each in self._ended if self._jobs[each].owner == owner]
            assert 0 < len(own) == jobs.used(owner)
            assert sizes.used(owner) == sum(map(self._ended.__getitem__, own))
            assert len(own) == 1 or (jobs.has_room(owner, 0) and sizes.has_room(owner, 0))
