"""Formulas for simulated worlds: those of `harness.workloads`, and some that harm workers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from harness import workloads
from harness.workloads import Formula

DEADLY = "9.87654321e-7"
"""A worker that is given this number ends."""
SENSELESS = "8.76543219e-7"
"""A worker that is given this number answers nonsense."""
DEADLY_BYTES = DEADLY.encode()
SENSELESS_BYTES = SENSELESS.encode()

WORKERS_LOST = "(workers_lost_max)"
IN_VAIN = "gave up after"


@dataclass(frozen=True, slots=True)
class Shares:
    """How many formulas there are of some kinds, where ten are short.

    Attributes:
        lone: of numbers alone.
        large: of those with hundreds of operations.
        harmful: of those with an operation that harms workers.
    """

    lone: float
    large: float
    harmful: float


class Formulas(workloads.Formulas):
    """Makes formulas of all styles.

    Args:
        random: decides about kinds, lengths and numbers.
        shares: how many there are of which kind.
    """

    def __init__(self, random: Random, shares: Shares) -> None:
        styles = {"short": 10.0, "tree": 2.0, "long": 1.0, "number": shares.lone, "zero": 1.0}
        styles |= {"overflow": 0.5, "too_long": 0.3, "bad": 0.5, "many": shares.large}
        styles |= {"chain": shares.large, "deadly": shares.harmful}
        super().__init__(random, styles | {"senseless": shares.harmful / 2})

    def harmless(self) -> Formula:
        """A formula that is accepted, and harms nobody."""
        return self.one("short")

    def deadly(self, number: int) -> Formula:
        """An operation that no worker survives, among others that it has nothing to do with."""
        return self._harmful(number, DEADLY, WORKERS_LOST)

    def senseless(self, number: int) -> Formula:
        """An operation that no worker answers with sense."""
        return self._harmful(number, SENSELESS, IN_VAIN)

    def _harmful(self, number: int, operand: str, reason: str) -> Formula:
        text = f"({number}+2)*(3.5-({operand}*{number}))+(4*5)"
        return Formula(text, reason=reason, innocent=False)
