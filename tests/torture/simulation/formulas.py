"""Formulas of several kinds, each different from all others, with what they must come to.

The answers are those of Python's own evaluation of the same text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import isfinite
from random import Random

from dte.core.graph.numbers import Number

DEADLY = "9.87654321e-7"
"""A worker that is given this number ends."""
SENSELESS = "8.76543219e-7"
"""A worker that is given this number answers nonsense."""
DEADLY_BYTES = DEADLY.encode()
SENSELESS_BYTES = SENSELESS.encode()

ZERO = "division by zero"
OVERFLOW = "overflow"
TOO_LONG = "the result has more than 4300 digits"
WORKERS_LOST = "(workers_lost_max)"
IN_VAIN = "gave up after"
LEAVES = ("0", "1", "2", "3", "7", "10", "0.1", "2.5", "1e-3", "-4", "1e16", "12345678901234567890")

Outcome = tuple[str, str | None]
"""An answer as `repr` writes it, which tells 5 from 5.0 and 0.0 from -0.0, and an error."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula's text and what must become of it.

    Attributes:
        answer: Python's; None when there is none.
        reason: what the error says when there is none.
        bad: its text is refused.
    """

    text: str
    answer: Number | None = None
    reason: str = ""
    bad: bool = False

    @property
    def innocent(self) -> bool:
        """Whether no operation of it harms workers."""
        return self.reason not in (WORKERS_LOST, IN_VAIN)

    def allows(self, outcome: Outcome) -> bool:
        """Whether this is the right outcome: to the last bit, and of the right type."""
        answer, error = outcome
        if error is not None:
            return answer == "None" and bool(self.reason) and self.reason in error
        return not self.reason and answer == repr(self.answer)


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


class Formulas:
    """Makes formulas; each text has, near its beginning, a number that no other has.

    Args:
        random: decides about kinds, lengths and numbers.
        shares: how many there are of which kind.
    """

    def __init__(self, random: Random, shares: Shares) -> None:
        self._random = random
        self._numbers = count(1001)
        self._kinds: list[tuple[Callable[[int], Formula], float]] = [
            (self._short, 10.0),
            (self._tree, 2.0),
            (self._long, 1.0),
            (self._number, shares.lone),
            (self._zero, 1.0),
            (self._overflow, 0.5),
            (self._too_long, 0.3),
            (self._bad, 0.5),
            (self._many, shares.large),
            (self._chain, shares.large),
            (self._deadly, shares.harmful),
            (self._senseless, shares.harmful / 2),
        ]

    def some(self, size: int) -> list[Formula]:
        """Formulas to be submitted together."""
        kinds, weights = zip(*self._kinds, strict=True)
        made = self._random.choices(kinds, weights, k=size)
        return [make(next(self._numbers)) for make in made]

    def harmless(self) -> Formula:
        """A formula that is accepted, and harms nobody."""
        return self._short(next(self._numbers))

    def _short(self, number: int) -> Formula:
        """A few operations, in any shape."""
        return _evaluated(f"{number}{self._sign()}{self._expression(self._random.randint(0, 5))}")

    def _expression(self, operations: int) -> str:
        if not operations:
            return self._random.choice(LEAVES) if self._random.random() < 0.9 else "-(3)"
        left = self._random.randrange(operations)
        parts = (self._expression(left), self._expression(operations - 1 - left))
        text = f"{parts[0]}{self._random.choice('+-*/')}{parts[1]}"
        return self._random.choice((text, text, f"({text})", f"({text})", f"-({text})"))

    def _sign(self) -> str:
        return self._random.choice("+-*")

    def _tree(self, number: int) -> Formula:
        """Operations of which many can be done at a time."""
        return _evaluated(f"{number}+{self._balanced(self._random.randint(4, 24))}")

    def _many(self, number: int) -> Formula:
        return _evaluated(f"{number}+{self._balanced(self._random.randint(100, 400))}")

    def _balanced(self, leaves: int) -> str:
        if leaves == 1:
            return str(self._random.randint(1, 99))
        left = leaves // 2
        return f"({self._balanced(left)}{self._sign()}{self._balanced(leaves - left)})"

    def _chain(self, number: int) -> Formula:
        """Each operation waits for the one before, as it begins with a float."""
        random = self._random
        parts = [f"{random.choice('+-')}{random.uniform(0, 1000)!r}" for _ in range(30)]
        return _evaluated(f"{number}.5{''.join(parts)}")

    def _long(self, number: int) -> Formula:
        """Exact integers of up to some thousand digits."""
        left, right = (
            self._random.randrange(10 ** self._random.choice((30, 300, 2000))) for _ in range(2)
        )
        return _evaluated(f"{number}-{left}*({right}+{number})")

    def _number(self, number: int) -> Formula:
        """Nothing is to be computed: it has ended when it is accepted."""
        return _evaluated(self._random.choice((f"{number}", f"-{number}.25", f"(({number}))")))

    def _zero(self, number: int) -> Formula:
        return Formula(f"2*({number}/(7-7)+1)+{self._expression(2)}", reason=ZERO)

    def _overflow(self, number: int) -> Formula:
        return Formula(f"{number}.5*1e308*10*2+(1+2)*3", reason=OVERFLOW)

    def _too_long(self, number: int) -> Formula:
        return Formula(f"{number}*{'9' * 4298}*10-1", reason=TOO_LONG)

    def _bad(self, number: int) -> Formula:
        return Formula(f"{number}+*2", bad=True)

    def _deadly(self, number: int) -> Formula:
        """An operation that no worker survives, among others that it has nothing to do with."""
        return Formula(f"({number}+2)*(3.5-({DEADLY}*{number}))+(4*5)", reason=WORKERS_LOST)

    def _senseless(self, number: int) -> Formula:
        return Formula(f"({number}+2)*(3.5-({SENSELESS}*{number}))+(4*5)", reason=IN_VAIN)


def _evaluated(text: str) -> Formula:
    try:
        answer = eval(text, {"__builtins__": {}})
    except ZeroDivisionError:
        return Formula(text, reason=ZERO)
    except OverflowError:
        return Formula(text, reason=OVERFLOW)
    assert isfinite(answer) if isinstance(answer, float) else True
    return Formula(text, answer)
