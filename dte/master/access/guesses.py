"""Slows down addresses that send wrong tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FREE = 3
"""Wrong tokens that are refused at once: somebody pasted the wrong one."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 5.0
FORGET_S = 300.0
"""Wrong tokens are forgotten after so long without another."""
ADDRESSES_MAX = 10_000
WAITING_MAX = 100
"""Refusals of one address that wait; more are given up at once."""


@dataclass(slots=True)
class _Known:
    wrong: int = 0
    last_at: float = 0.0
    waiting: int = 0


class Guesses:
    """Counts the wrong tokens of each address, or network of IPv6 (`dte.master.owners`).

    A right token is never slowed down: others may share its address.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def wrong(self, address: str) -> float | None:
        """Count a wrong token; return the pause before it is refused, in seconds.

        `over` ends the pause. None means that too many refusals of the address wait.
        """
        now = self._clock()
        known = self._known.pop(address, None)
        if known is None or (now - known.last_at > FORGET_S and not known.waiting):
            known = _Known()
        if len(self._known) >= ADDRESSES_MAX:
            del self._known[next(iter(self._known))]
        self._known[address] = known
        known.wrong += 1
        known.last_at = now
        if known.wrong <= FREE:
            return 0.0
        if known.waiting >= WAITING_MAX:
            return None
        known.waiting += 1
        return min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(known.wrong - FREE - 1, 20))

    def over(self, address: str) -> None:
        """The pause of a wrong token is over."""
        known = self._known.get(address)
        if known is not None and known.waiting:
            known.waiting -= 1
