"""A master that is patient as its short leases want it: `dte master`, but for one time."""

from __future__ import annotations

from torture.chaos.times import LEASE_S

from dte.__main__ import entry
from dte.core.calls import jobs

LEASES = 3
"""A worker has so many leases' time to find the way back to a master that was started again."""

if __name__ == "__main__":
    jobs.RESTORED_S = LEASES * LEASE_S
    entry()
