"""The ring buffer of jobs: the newest are kept, and every job that has not ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from dte.core.jobs.job import Job, kept_bytes


class JobRing:
    """Jobs by number.

    A finished job is forgotten when `capacity` others have finished after it, or when the finished
    ones take more than `bytes_max`. The last one and the unfinished ones are never forgotten.

    Args:
        capacity: most finished jobs that are kept.
        bytes_max: about how many bytes they may take.
    """

    def __init__(self, capacity: int, bytes_max: int) -> None:
        self._capacity = capacity
        self._bytes_max = bytes_max
        self._jobs: dict[int, Job] = {}
        self._ended: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        self._jobs[job.number] = job

    def ended(self, job: Job) -> None:
        """Note that a job has ended: it may be forgotten, after those that ended before."""
        size = kept_bytes(job)
        self._ended.append((job.number, size))
        self._bytes += size
        while len(self._ended) > 1 and (
            len(self._ended) > self._capacity or self._bytes > self._bytes_max
        ):
            number, size = self._ended.popleft()
            self._bytes -= size
            del self._jobs[number]

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
        ended = {number for number, _ in self._ended}
        assert len(ended) == len(self._ended) <= self._capacity
        for number, job in self._jobs.items():
            assert job.number == number
            assert job.is_terminal == (number in ended), f"job {number} is misplaced in the ring"
        assert ended <= self._jobs.keys(), "the ring would forget a job that it does not have"
        assert self._bytes == sum(size for _, size in self._ended)
        assert self._bytes <= self._bytes_max or len(self._ended) == 1
