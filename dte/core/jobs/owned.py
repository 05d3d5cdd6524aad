"""The unfinished work of each owner: nobody else's than the machine's own user takes all room."""

from __future__ import annotations

from dte.core.jobs.job import Job
from dte.core.limits import SchedulerLimits
from dte.core.shares import Shares


class OwnedWork:
    """Counts the unfinished jobs of owners, with their operations and bytes.

    Operations count until their job ends, as an owner's use must not cost a step for each.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._jobs = Shares("unfinished jobs", "jobs_waiting_max", limits.jobs_waiting_max)
        self._operations = Shares(
            "unfinished operations", "operations_waiting_max", limits.operations_waiting_max
        )
        self._bytes = Shares(
            "bytes of unfinished jobs", "bytes_waiting_max", limits.bytes_waiting_max
        )

    def jobs_of(self, owner: str) -> int:
        """The number of unfinished jobs of an owner."""
        return self._jobs.used(owner)

    def ensure_room(self, owner: str, jobs: int, operations: int, size: int) -> None:
        """Check that more work of an owner may wait, as `JobTable.ensure_room`."""
        self._jobs.ensure_room(owner, jobs)
        self._operations.ensure_room(owner, operations)
        self._bytes.ensure_room(owner, size)

    def add(self, job: Job) -> None:
        self._jobs.add(job.owner)
        self._operations.add(job.owner, job.operations)
        self._bytes.add(job.owner, job.size)

    def remove(self, job: Job) -> None:
        self._jobs.remove(job.owner)
        self._operations.remove(job.owner, job.operations)
        self._bytes.remove(job.owner, job.size)

    def grow(self, job: Job, size: int) -> None:
        """An unfinished job takes more bytes."""
        self._bytes.add(job.owner, size)

    def check(self, jobs: list[Job]) -> None:
        """Assert that these are the unfinished jobs; for tests."""
        owned = [job for job in jobs if job.owner]
        for owner in {job.owner for job in owned}:
            of_owner = [job for job in owned if job.owner == owner]
            assert self._jobs.used(owner) == len(of_owner)
            assert self._operations.used(owner) == sum(job.operations for job in of_owner)
            assert self._bytes.used(owner) == sum(job.size for job in of_owner)
