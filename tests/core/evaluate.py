"""Evaluates formulas and graphs as workers do, without any."""

from __future__ import annotations

import operator
from itertools import starmap
from math import isinf

from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.core.jobs.job import Job

FUNCTIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def run(formula: Work) -> tuple[Number, int]:
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


def do(columns: tuple[str, list[Number], list[Number]]) -> tuple[list[Number], dict[int, str]]:
    """What a good worker gives back for a lease's columns."""
    results: list[Number] = []
    errors = {}
    for place, (symbol, left, right) in enumerate(zip(*columns, strict=True)):
        try:
            results.append(FUNCTIONS[symbol](left, right))
        except ZeroDivisionError:
            results.append(0)
            errors[place] = "division by zero"
    return results, errors


def is_as_python_says(job: Job) -> bool:
    """Whether a job ended as it must when no worker is to blame."""
    try:
        value = eval(job.task)  # The formulas of the tests, which are Python.
    except ZeroDivisionError:
        return str(job.error).startswith("division by zero: ")
    if isinf(value):
        return job.error == "a number in the formula is too large for a float"
    return job.error is None and repr(job.answer) == repr(value)
