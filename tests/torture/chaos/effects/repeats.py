"""The law of repeats: a call is begun again only for a reason, and never once it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.begun import Begun, Found
from torture.chaos.effects.causes import RETRIED, Causes
from torture.chaos.effects.holds import SUCCEEDED, Hold


class Repeats:
    """Looks at the beginnings of one call after the other.

    Attributes:
        by_cause: how often calls were begun again, by cause.
    """

    def __init__(self, found: Found, causes: Causes) -> None:
        self._found = found
        self._causes = causes
        self.by_cause: Counter[str] = Counter()

    def check(self, call: str, retries: int, begun: Sequence[Begun], holds: Sequence[Hold]) -> None:
        """Look at all beginnings of a call.

        Args:
            retries: how often it may be tried again.
            begun: in the order of their leases.
            holds: all of the call, also those under which it was not begun.
        """
        failures = 0
        for each in begun:
            if each.hold is None:
                self._repeated(call, each, "without having been handed over")
        for before, after in pairwise(each for each in begun if each.hold is not None):
            assert before.hold is not None
            assert after.hold is not None
            if after.hold is before.hold:
                self._repeated(call, after, "twice under one lease")
                continue
            if after.hold.job != before.hold.job:
                failures = 0
                continue  # A client wanted it; see below.
            cause = self._causes.of(before.hold, before, after.hold.at)
            if cause == RETRIED:
                failures += 1
                cause = None if failures > retries else cause
            if cause is None:
                self._repeated(call, after, f"again, and nothing explains it, after {before.hold}")
            else:
                self.by_cause[cause] += 1
        self._check_done(call, begun, holds)

    def _check_done(self, call: str, begun: Sequence[Begun], holds: Sequence[Hold]) -> None:
        """No lease is made once its success is acknowledged, in this job or the first."""
        for each in begun:
            if any(_is_after(each.hold, done) for done in holds):
                self._repeated(call, each, "again after its end was acknowledged")

    def _repeated(self, call: str, begun: Begun, what: str) -> None:
        where = f"on {begun.mark.worker}, process {begun.mark.pid}, at {begun.mark.at:.3f}"
        self._found(Anomaly.REPEATED, (call, what), f"call {call} was begun {what} ({where})")


def _is_after(hold: Hold | None, done: Hold) -> bool:
    """True if a call was handed over after it was done and that was acknowledged."""
    if hold is None or done.said != SUCCEEDED or done.accepted_at is None:
        return False
    return hold.lease > done.lease and hold.at > done.accepted_at
