"""Leases from before a restart, as long as their jobs are read from the journal."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.scheduler import LEASES_OF_A_BOOT, Scheduler


@dataclass
class UnreadLeases:
    """Knows which leases may be of jobs that are not read yet.

    Attributes:
        boot: the number of this start.
        reading: unfinished jobs from before the restart are being read.
    """

    core: Scheduler
    boot: int
    reading: bool = False

    def __contains__(self, number: int) -> bool:
        before = number < self.boot * LEASES_OF_A_BOOT
        return self.reading and before and self.core.calls.leases.get(number) is None
