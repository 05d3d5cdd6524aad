"""Formulas that call the handlers of `torture.chaos.handlers`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.workloads import Formula, Formulas
from torture.chaos.handlers import HOSTILE, HOSTILE_RECORDED, RECIPES, RESTING


@dataclass(frozen=True, slots=True)
class HostileFormula(Formula):
    """A formula with a call that returns or raises what misbehaves.

    It has no right answer, only bounds; see `Outcome.is_right_for`.

    Attributes:
        raises: the call raises an exception, so the formula must fail.
    """

    raises: bool = False


class ChaosFormulas(Formulas):
    """Makes formulas of more styles."""

    def hostile(self, number: int) -> Formula:
        """A handler misbehaves, alone in a process or beside other calls."""
        return self._hostile(number, self._random.choice(HOSTILE))

    def hostile_recorded(self, number: int) -> Formula:
        """As `hostile`, with a call that a master remembers over its restart."""
        return self._hostile(number, HOSTILE_RECORDED)

    def _hostile(self, number: int, handler: str) -> Formula:
        recipe = self._random.randrange(len(RECIPES))
        raises = RECIPES[recipe][0] == "raise"
        return HostileFormula(f"{number}+{handler}({recipe})", raises=raises)

    def nap(self, number: int) -> Formula:
        """As `call`, with a process to itself, which may have run a hostile call before."""
        seconds = round(self._random.uniform(0.05, 0.5), 2)
        return Formula(f"{number}+nap({seconds})", number + seconds)

    def rest(self, number: int) -> Formula:
        """Nothing but a call, which lasts until it is told to end."""
        return Formula(f"{RESTING[number % len(RESTING)]}({number})", number)
