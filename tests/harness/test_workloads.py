"""Formulas differ, and what is expected of them is what Python says."""

from __future__ import annotations

from random import Random

import pytest

from harness.workloads import OVERFLOW, TOO_LONG, Formula, Formulas, balanced_sum, mixed, small

STYLES = ("short", "tree", "many", "floats", "chain", "long", "number")
FAILING = ("zero", "zeros", "overflow", "too_long", "bad")
SHARES = dict.fromkeys((*STYLES, *FAILING), 1.0)


def test_every_formula_is_unique_and_what_is_expected_is_what_python_says() -> None:
    made = Formulas(Random(1), SHARES, chain_operations=(50, 600)).some(400)
    assert len({formula.text for formula in made}) == 400
    for formula in made:
        try:
            said = eval(formula.text)
        except SyntaxError:
            assert formula.bad
        except ZeroDivisionError:
            assert formula.reason
        else:
            if formula.reason not in (OVERFLOW, TOO_LONG):
                assert formula.allows((repr(said), None))


@pytest.mark.parametrize("style", STYLES)
def test_each_style_has_answers(style: str) -> None:
    formulas = Formulas(Random(1), SHARES)
    assert any(formulas.one(style).answer is not None for _ in range(20))


def test_formulas_follow_from_the_seed() -> None:
    def made(seed: int) -> list[Formula]:
        return Formulas(Random(seed), SHARES).some(20)

    assert made(1) == made(1)
    assert made(1) != made(2)


@pytest.mark.parametrize(
    ("formula", "outcome", "allowed"),
    [
        (Formula("1+2", 3), ("3", None), True),
        (Formula("1+2", 3), ("3.0", None), False),
        (Formula("0*-1.0", -0.0), ("0.0", None), False),
        (Formula("1/0", reason="zero"), ("None", "division by zero: 1 / 0"), True),
        (Formula("1/0", reason="zero"), ("None", "overflow"), False),
        (Formula("1/0", reason="zero"), ("0", None), False),
        (Formula("1+2", 3), ("None", "overflow"), False),
    ],
)
def test_an_outcome_is_right_to_the_last_bit_and_of_the_right_type(
    formula: Formula, outcome: tuple[str, str | None], allowed: bool
) -> None:
    assert formula.allows(outcome) == allowed


def test_long_ones_are_what_python_says() -> None:
    assert eval(balanced_sum(3, 100)) == sum(range(3, 100))
    for formula in (small(7), mixed(200, seed=3)):
        assert eval(formula.text) == formula.answer
