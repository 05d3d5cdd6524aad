"""Evaluates formulas and graphs as workers do, without any."""

from __future__ import annotations

import operator
from itertools import starmap

from dte.core.formula import Formula, FormulaLimits, parse
from dte.core.operations import Number

FUNCTIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def run(formula: Formula) -> tuple[Number, int]:
    """The value of a formula, and in how many rounds of everything that was ready it was done."""
    if formula.value is not None:
        return formula.value, 0
    graph, answer, rounds = formula.graph, None, 0
    while graph.remaining:
        rounds += 1
        nodes = graph.take(len(graph.ready))
        columns = zip(*graph.columns(nodes), strict=True)
        results = list(starmap(lambda symbol, a, b: FUNCTIONS[symbol](a, b), columns))
        answer = graph.done(nodes, results)
    assert answer is not None
    return answer, rounds


def evaluate(text: str, limits: FormulaLimits | None = None) -> Number:
    """The value of a formula's text."""
    return run(parse(text, limits or FormulaLimits()))[0]
