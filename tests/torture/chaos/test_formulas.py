"""Formulas with calls name handlers that the workers have."""

from __future__ import annotations

import re
from random import Random

import pytest
from torture.chaos.formulas import ChaosFormulas, HostileFormula
from torture.chaos.handlers import HOSTILE, HOSTILE_RECORDED, RECIPES, RESTING

from dte.handlers import registry

CALL = re.compile(r"([a-z_]+)\(([0-9.]+)\)")


def called(style: str) -> dict[str, set[float]]:
    """The arguments of the handlers that some formulas of a style call."""
    formulas = ChaosFormulas(Random(1), {style: 1})
    found: dict[str, set[float]] = {}
    for formula in formulas.some(500):
        ((name, argument),) = CALL.findall(formula.text)
        found.setdefault(name, set()).add(float(argument))
    return found


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("hostile", {*HOSTILE}),
        ("hostile_recorded", {HOSTILE_RECORDED}),
        ("nap", {"nap"}),
        ("rest", {*RESTING}),
    ],
)
def test_each_style_calls_all_of_its_handlers(style: str, names: set[str]) -> None:
    found = called(style)
    assert found.keys() == names
    assert all(registry.find(name) for name in names)


def test_hostile_formulas_misbehave_in_many_ways() -> None:
    recipes = set().union(*called("hostile").values())
    assert len(recipes) > 100
    assert recipes <= {*range(len(RECIPES))}


def test_only_hostile_formulas_have_no_right_answer() -> None:
    formulas = ChaosFormulas(Random(1), {"hostile": 1, "nap": 1, "rest": 1}).some(100)
    assert {type(each) for each in formulas if each.answer is None} == {HostileFormula}
