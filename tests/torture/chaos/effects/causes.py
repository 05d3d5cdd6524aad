"""Causes: what explains that a call was begun once more.

The promise: a call is begun again if its worker leaves or is lost, or if the connection to it
breaks; after a failure, as often as it may be retried; and never once its end is acknowledged. So
each later beginning needs a harm to the worker that had the call, and in its time. A pause or a
crash of the master is none.
"""

from __future__ import annotations

from itertools import pairwise

from torture.chaos.effects.begun import Begun
from torture.chaos.effects.holds import SUCCEEDED, Hold
from torture.chaos.harms import DEATHS, MASTER, Harms, Kind

AROUND_S = 0.5
"""A harm was done as much as this before it was noted, or is noticed after it was over."""
QUIET_SHARE = 0.8
"""The part of a lease for which a worker was not heard from, at least, when that ends it."""
REACH_S = 3.0
"""A connection that broke is noticed within this time."""

RETRIED = "retried"
Cause = str


class Causes:
    """Finds causes in the record of harms.

    Args:
        lease_s: the length of a lease.
    """

    def __init__(self, harms: Harms, lease_s: float) -> None:
        self._harms = harms
        self._lease_s = lease_s

    def of(self, hold: Hold, begun: Begun, until: float) -> Cause | None:
        """The reason why a call could be given to another worker, or again to the same.

        Args:
            hold: the one that ended without an acknowledged success.
            begun: the beginning under it.
            until: when it was given away again.

        Returns:
            None if there is none: nothing that was done explains it.
        """
        if hold.accepted_at is not None and hold.accepted_at <= until:
            return self._of_report(hold, begun.mark.pid)
        # The call may have waited long for another worker.
        lost_by = until if hold.lost_at is None else min(until, hold.lost_at)
        cause = self._of_loss(hold, lost_by)
        if cause is None:
            # A master may be killed between recording a failure and acknowledging it.
            ends = (begun.raised_at, self._harms.processes.get(begun.mark.pid))
            cause = RETRIED if any(at is not None and at <= until for at in ends) else None
        return cause

    def _of_report(self, hold: Hold, pid: int) -> Cause | None:
        """A worker gave the call back, or reported that it had failed."""
        assert hold.accepted_at is not None
        if hold.said == SUCCEEDED:
            return None
        if hold.said in ("failed", "timed_out"):
            return RETRIED
        if hold.said == "returned":
            ended = self._worker_had(hold, hold.accepted_at, (Kind.ENDED,))
            return "returned" if ended else None
        was_killed = pid in self._harms.processes or self._worker_had(
            hold, hold.accepted_at, DEATHS
        )
        return "process lost" if hold.said == "lost" and was_killed else None

    def _of_loss(self, hold: Hold, until: float) -> Cause | None:
        """The master gave the worker up, or the connection to it."""
        if self._worker_had(hold, until, DEATHS):
            return "worker lost"
        # A master that has just started says that unknown leases go on, until it has read its jobs.
        heard = [hold.at, *(moment for moment in hold.renewed if moment <= until), until]
        if any(self._was_silent(hold, *gap) for gap in pairwise(heard)):
            return "worker silent"
        handed = (hold.at - AROUND_S, hold.at + REACH_S)
        if any(self._harms.to(hold.worker, *handed, (Kind.CUT,))):
            return "connection broken"
        return None

    def _was_silent(self, hold: Hold, since: float, until: float) -> bool:
        """The master was there and did not hear its worker, which was silenced meanwhile."""
        silencing = self._harms.to(
            hold.worker, since - AROUND_S, until, (Kind.STOPPED, Kind.CUT, Kind.LATE)
        )
        quiet_s = self._harms.presence_s(MASTER, since, until)
        return quiet_s >= QUIET_SHARE * self._lease_s and any(silencing)

    def _worker_had(self, hold: Hold, until: float, kinds: tuple[Kind, ...]) -> bool:
        return any(self._harms.to(hold.worker, hold.at - AROUND_S, until, kinds))
