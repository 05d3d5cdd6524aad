"""Formulas for tests, in many styles, each with what must come of it by Python's own evaluation.

`Formulas` makes different ones at random, for accountings. The functions make long ones, for
measurements.

Some makers stay elsewhere on purpose. `torture.fuzz.formulas` makes texts for the parser, half of
them malformed: its strength is its own choice of characters, and it does not know the answer.
`torture.fuzz.calls` makes jobs with values that are wrong, `torture.simulation.plans` jobs of calls
whose properties its invariants need, and `core.plans` builds single graphs without JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from random import Random

Number = int | float
Outcome = tuple[str, str | None]
"""An answer as `repr` writes it, which tells 5 from 5.0 and 0.0 from -0.0, and an error."""

ZERO = "division by zero"
OVERFLOW = "overflow"
TOO_LONG = "the result has more than 4300 digits"
LEAVES = ("0", "1", "2", "3", "7", "10", "0.1", "2.5", "1e-3", "-4", "1e16", "12345678901234567890")
SIGNS = "+-*"
FLOAT_LEAVES = 128
LONG_DIGITS = (30, 300, 2000)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula's text and what must become of it.

    Attributes:
        answer: Python's; None when there is none.
        reason: what the error says when there is none.
        bad: its text is refused.
        innocent: no operation of it harms workers.
    """

    text: str
    answer: Number | None = None
    reason: str = ""
    bad: bool = False
    innocent: bool = True

    def allows(self, outcome: Outcome) -> bool:
        """True for the right outcome, to the last bit, and of the right type."""
        answer, error = outcome
        if error is not None:
            return answer == "None" and bool(self.reason) and self.reason in error
        return not self.reason and answer == repr(self.answer)


class Formulas:
    """Makes formulas; each text has, near its beginning, a number that no other has.

    Args:
        random: decides about styles, lengths and numbers.
        shares: the weight of each style; a style is the name of a method.
        first: the first of the numbers.
        chain_operations: the length of a chain, or from and to which length.
    """

    def __init__(
        self,
        random: Random,
        shares: Mapping[str, float],
        *,
        first: int = 1001,
        chain_operations: int | tuple[int, int] = 30,
    ) -> None:
        self._random = random
        self._shares = shares
        self._numbers = count(first)
        self._chain_operations = chain_operations

    def some(self, size: int, shares: Mapping[str, float] | None = None) -> list[Formula]:
        """Formulas that are submitted together, with other shares than usual if any are given."""
        styles = self._shares if shares is None else shares
        names = self._random.choices(list(styles), list(styles.values()), k=size)
        return [self.one(name) for name in names]

    def one(self, style: str) -> Formula:
        """A formula of that style."""
        made: Formula = getattr(self, style)(next(self._numbers))
        return made

    def short(self, number: int) -> Formula:
        """A few operations, in any shape."""
        text = f"{number}{self._sign()}{self._expression(self._random.randint(0, 5))}"
        return evaluated(text)

    def tree(self, number: int) -> Formula:
        """Operations of which many can be done at a time."""
        return evaluated(f"{number}+{self._balanced(self._random.randint(4, 24))}")

    def many(self, number: int) -> Formula:
        """As a tree, of some hundred operations."""
        return evaluated(f"{number}+{self._balanced(self._random.randint(100, 400))}")

    def floats(self, number: int) -> Formula:
        """A whole tree of floats."""
        leaves = [repr(round(self._random.uniform(-9, 9), 3)) for _ in range(FLOAT_LEAVES - 1)]
        parts = [str(number), *leaves]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [f"({left}{self._sign()}{right})" for left, right in pairs]
        return evaluated(parts[0])

    def chain(self, number: int) -> Formula:
        """Each operation waits for the one before, as it begins with a float."""
        random, length = self._random, self._chain_operations
        operations = length if isinstance(length, int) else random.randint(*length)
        parts = [f"{random.choice('+-')}{random.uniform(0, 1000)!r}" for _ in range(operations)]
        return evaluated(f"{number}.5{''.join(parts)}")

    def long(self, number: int) -> Formula:
        """Exact integers of up to some thousand digits."""
        left, right = (
            self._random.randrange(10 ** self._random.choice(LONG_DIGITS)) for _ in range(2)
        )
        return evaluated(f"{number}-{left}*({right}+{number})")

    def number(self, number: int) -> Formula:
        """There is nothing to compute: it has ended when it is accepted."""
        return evaluated(self._random.choice((f"{number}", f"-{number}.25", f"(({number}))")))

    def call(self, number: int) -> Formula:
        """A handler takes some time for a part of it, in a process of its worker."""
        seconds = round(self._random.uniform(0.05, 0.8), 2)
        return Formula(f"{number}+sleep({seconds})", number + seconds)

    def zero(self, number: int) -> Formula:
        """It divides by zero."""
        return Formula(f"2*({number}/(7-7)+1)+{self._expression(2)}", reason=ZERO)

    def zeros(self, number: int) -> Formula:
        """It fails in several places. Any of them may be told first; but told once, it stays."""
        places = range(self._random.randint(2, 8))
        text = "+".join(f"{number + place}/({place}-{place})" for place in places)
        return Formula(text, reason=ZERO)

    def overflow(self, number: int) -> Formula:
        """A float becomes infinite."""
        return Formula(f"{number}.5*1e308*10*2+(1+2)*3", reason=OVERFLOW)

    def too_long(self, number: int) -> Formula:
        """An integer gets more digits than it may have."""
        return Formula(f"{number}*{'9' * 4298}*10-1", reason=TOO_LONG)

    def bad(self, number: int) -> Formula:
        """A syntax error."""
        return Formula(f"{number}+*2", bad=True)

    def _expression(self, operations: int) -> str:
        if not operations:
            return self._random.choice(LEAVES) if self._random.random() < 0.9 else "-(3)"
        left = self._random.randrange(operations)
        parts = (self._expression(left), self._expression(operations - 1 - left))
        text = f"{parts[0]}{self._random.choice('+-*/')}{parts[1]}"
        return self._random.choice((text, text, f"({text})", f"({text})", f"-({text})"))

    def _balanced(self, leaves: int) -> str:
        if leaves == 1:
            return str(self._random.randint(1, 99))
        left = leaves // 2
        return f"({self._balanced(left)}{self._sign()}{self._balanced(leaves - left)})"

    def _sign(self) -> str:
        return self._random.choice(SIGNS)


def evaluated(text: str) -> Formula:
    """A formula with what Python makes of it."""
    try:
        answer = eval(text, {"__builtins__": {}})
    except ZeroDivisionError:
        return Formula(text, reason=ZERO)
    except OverflowError:
        return Formula(text, reason=OVERFLOW)
    assert isfinite(answer) if isinstance(answer, float) else True
    return Formula(text, answer)


def balanced_sum(first: int, last: int) -> str:
    """The sum of the integers from `first` to before `last`, in nested parentheses."""
    if last - first == 1:
        return str(first)
    middle = (first + last) // 2
    return f"({balanced_sum(first, middle)}+{balanced_sum(middle, last)})"


def small(number: int) -> Formula:
    """Four operations, of which each needs the one before."""
    return Formula(f"2*{number}/4+{number}-5", 2 * number / 4 + number - 5)


def mixed(operations: int, seed: int) -> Formula:
    """Random sums, differences and products in a row."""
    random = Random(seed)
    numbers = [random.randrange(1, 1_000_000) for _ in range(operations + 1)]
    signs = [*random.choices(SIGNS, k=operations), ""]
    text = "".join(f"{number}{sign}" for number, sign in zip(numbers, signs, strict=True))
    return Formula(text, _left_to_right(numbers, signs))


def _left_to_right(numbers: Sequence[int], signs: Sequence[str]) -> int:
    """The value of a row of operations, for which Python's own parser is not deep enough."""
    total, product = 0, numbers[0]
    for sign, number in zip(signs, numbers[1:], strict=False):
        if sign == "*":
            product *= number
        else:
            total += product
            product = number if sign == "+" else -number
    return total + product
