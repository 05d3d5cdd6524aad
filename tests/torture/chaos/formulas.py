"""Formulas of several kinds, each different from all others, with what they must come to."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from torture.chaos.outcome import Outcome

ZERO = Outcome.of_error("division by zero")
OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
TREE_LEAVES = 128
CHAIN_OPERATIONS = (50, 600)
LONG_DIGITS = (50, 1_200)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula's text, and its outcome by Python's own reckoning.

    Attributes:
        expected: None when it is to be refused.
    """

    text: str
    expected: Outcome | None


class Formulas:
    """Makes formulas; each text has a number that no other has.

    Args:
        randoms: decides about kinds, lengths and numbers.
    """

    def __init__(self, randoms: Random) -> None:
        self._randoms = randoms
        self._numbers = count(1_000_001)
        self._kinds: dict[Callable[[int], Formula], int] = {
            self._short: 40,
            self._tree: 15,
            self._chain: 10,
            self._long: 10,
            self._fails: 8,
            self._fails_twice: 7,
            self._number: 5,
            self._bad: 5,
        }

    def one(self) -> Formula:
        """A formula of any kind."""
        kinds, weights = zip(*self._kinds.items(), strict=True)
        (kind,) = self._randoms.choices(kinds, weights)
        made: Formula = kind(next(self._numbers))
        return made

    def batch(self, size: int) -> list[Formula]:
        """Formulas that are submitted together: none of them is refused, nor takes long."""
        kinds = [self._short, self._tree, self._fails, self._number]
        return [
            self._randoms.choices(kinds, (8, 2, 1, 1))[0](next(self._numbers)) for _ in range(size)
        ]

    def heap(self, size: int) -> list[Formula]:
        """Formulas that together are much work."""
        return [self._tree(next(self._numbers)) for _ in range(size)]

    def _short(self, number: int) -> Formula:
        text = f"{number}+(2*{self._randoms.randint(2, 99)})/4-5"
        return Formula(text, Outcome.of_answer(eval(text)))

    def _tree(self, number: int) -> Formula:
        """Some hundred operations, of which many can be done at a time."""
        operands = [round(self._randoms.uniform(-9, 9), 3) for _ in range(TREE_LEAVES - 1)]
        parts: list[tuple[str, float]] = [(str(number), number)]
        parts += [(repr(operand), operand) for operand in operands]
        while len(parts) > 1:
            parts = [self._joined(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        ((text, value),) = parts
        return Formula(text, Outcome.of_answer(value))

    def _joined(self, left: tuple[str, float], right: tuple[str, float]) -> tuple[str, float]:
        sign = self._randoms.choice("+-*")
        return f"({left[0]}{sign}{right[0]})", OPERATORS[sign](left[1], right[1])

    def _chain(self, number: int) -> Formula:
        """Each operation waits for the one before, as it begins with a float."""
        value, parts = number + 0.5, [f"{number}.5"]
        for _ in range(self._randoms.randint(*CHAIN_OPERATIONS)):
            sign, operand = self._randoms.choice("+-"), round(self._randoms.uniform(0, 1000), 3)
            value = OPERATORS[sign](value, operand)
            parts += [sign, repr(operand)]
        return Formula("".join(parts), Outcome.of_answer(value))

    def _long(self, number: int) -> Formula:
        """Exact integers of up to some thousand digits."""
        left, right = (
            self._randoms.randrange(10 ** self._randoms.randint(*LONG_DIGITS)) for _ in range(2)
        )
        return Formula(
            f"{number}-{left}*({right}+{number})",
            Outcome.of_answer(number - left * (right + number)),
        )

    def _fails(self, number: int) -> Formula:
        return Formula(f"2*({number}/(7-7)+1)", ZERO)

    def _fails_twice(self, number: int) -> Formula:
        """Which of its failures is told first is not said; but told once, it stays."""
        places = range(self._randoms.randint(2, 8))
        return Formula("+".join(f"{number + place}/({place}-{place})" for place in places), ZERO)

    def _number(self, number: int) -> Formula:
        """Nothing is to be computed: it has ended when it is accepted."""
        return Formula(str(number), Outcome.of_answer(number))

    def _bad(self, number: int) -> Formula:
        return Formula(f"{number}+*2", None)
