"""Checks what the parser makes of a text against what Python makes of it.

A text is either refused by both, or both give the same number, bit for bit, or the job fails where
one of Python's own partial results does not travel. Besides:

- calls of handlers give numbers that are made up, the same here and in Python;
- a refusal's column is a place in the text, the caret points there, and nothing before it is wrong;
- the operations and calls may be done in any order in which they become ready;
- the text may be cut into slices of any length;
- a bound on characters, operations or calls is met exactly;
- the template of a short text gives what the parser gives.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from unittest.mock import patch

from core.graphs import said_of
from torture.fuzz import reference

from dte.core.errors import FormulaError, TooLarge
from dte.core.formula import formula as parser
from dte.core.formula.formula import FormulaLimits
from dte.core.formula.parser import NUMBER_CHARS_MAX
from dte.core.formula.templates import CHARS_MAX, Templates
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, CallState, filled
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.worker.arithmetic import compute_all

Parse = Callable[[str, FormulaLimits], Work]

LIMITS = FormulaLimits()
ACCEPTED, CALLING, FAILED, REFUSED = "accepted", "calling", "failed", "refused"
UNDECIDED = "undecided"
OUTCOMES = (ACCEPTED, CALLING, FAILED, REFUSED, UNDECIDED)
"""How a text may end without a difference; the second: accepted, and it has calls; the last: Python
gave up, so nothing is compared."""
NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
TOO_LONG = f"a number of more than {NUMBER_CHARS_MAX} characters"
SLICED_CHANCE = 0.2
BOUNDED_CHANCE = 0.05

# What is known to differ is left out, and nothing else: a number of more than 8,192 characters is
# refused (see docs/guarantees.md, "Limits"). Where slices end in it, so may what is said of text
# behind it.
SLICES_MATTER = re.compile(rf"[0-9.]{{{NUMBER_CHARS_MAX}}}")


class Difference(Exception):
    """A fault of the parser, or of its graph, in words."""


def check(text: str, rng: Random, parse: Parse = parser.parse) -> str:
    """Put a text to the test, and give its end: one of `OUTCOMES`.

    Args:
        rng: decides in which order operations are done, and what else is looked at.
        parse: what is put to the test.

    Raises:
        Difference: not as it should.
    """
    try:
        outcome = _check_value(text, rng, parse)
        if len(text) <= CHARS_MAX and outcome != REFUSED:
            _check_template(text)
        if rng.random() < SLICED_CHANCE and not SLICES_MATTER.search(text):
            _check_slices(text, 1 + int(40 * rng.random() ** 2), parse)
        if rng.random() < BOUNDED_CHANCE:
            _check_bounds(text, parse)
    except Difference:
        raise
    except reference.Undecided:
        return UNDECIDED
    except Exception as error:
        raise Difference(f"raises {error!r}"[:500]) from error
    return outcome


def _check_value(text: str, rng: Random, parse: Parse) -> str:
    try:
        formula = parse(text, LIMITS)
    except FormulaError as error:
        _check_place(text, error, parse)
        _check_refused_by_python(text, error)
        return REFUSED
    value = evaluate(formula, rng)
    if value is None and formula.calls is not None:
        return FAILED
    if value is None:
        _check_failed_by_python(text)
        return FAILED
    try:
        if formula.calls is not None:
            expected = reference.value_with_calls(text, made_up)
        else:
            expected = reference.value(text)
    except reference.Refused:
        raise Difference(f"gives {_brief(value)}, and Python refuses it") from None
    except ArithmeticError as error:
        raise Difference(f"gives {_brief(value)}, and Python says {error}") from None
    if not reference.identical(value, expected):
        raise Difference(f"gives {_brief(value)}, and Python {_brief(expected)}")
    return ACCEPTED if formula.calls is None else CALLING


def _check_template(text: str) -> None:
    """Check that the text's template, if there is one, gives what the parser gives."""
    templates = Templates(LIMITS)
    for _ in range(2):  # Noted, then made a template of.
        templates.parse(text)
    filled_in = said_of(templates.parse(text).graph)
    if filled_in != (parsed := said_of(parser.parse(text, LIMITS).graph)):
        raise Difference(f"the template gives {filled_in}, the parser {parsed}"[:500])


def made_up(handler: str, *args: Number) -> Number:
    """The result of a call: another number for each handler, and for other arguments.

    Raises:
        ArithmeticError: an argument does not travel.
    """
    if not all(map(reference.travels, args)):
        raise OverflowError
    number = zlib.crc32(repr((handler, args)).encode()) - 2**31
    return number if number & 1 else number / 1000


def evaluate(formula: Work, rng: Random) -> Number | None:
    """The value of a formula, its operations done as workers do them; None when the job fails.

    Args:
        rng: decides which of the ready operations are next, and how many.
    """
    graph = formula.graph
    graph.check()
    if graph.failure is not None:
        return None
    if formula.calls is not None:
        return _evaluate_with_calls(graph, formula.calls, rng)
    if formula.value is not None:
        return formula.value
    waiting: list[int] = []
    answer = None
    while graph.remaining:
        waiting += graph.take(len(graph.ready))
        if not waiting or answer is not None:
            raise Difference(f"{graph.remaining} operations are left over")
        rng.shuffle(waiting)
        count = 1 + int(rng.random() * len(waiting))
        nodes, waiting = waiting[:count], waiting[count:]
        results, errors = compute_all(*graph.columns(nodes))
        if errors:
            return None
        answer = graph.done(nodes, results)
    if answer is None:
        raise Difference("all operations are done, and there is no answer")
    return answer


def _evaluate_with_calls(graph: Graph, calls: CallGraph, rng: Random) -> Number | None:
    answers: list[Number] = []
    ready = calls.ready()
    while ready or graph.ready:
        if ready and (not graph.ready or rng.random() < 0.5):
            call = ready.pop(int(rng.random() * len(ready)))
            value = _do_call(call)
            ready += calls.ended(call)[0]
            graph.supply(call.edges, value)
            if call is calls.answer:
                answers.append(value)
        else:
            nodes = graph.take(1 + int(rng.random() * len(graph.ready)))
            results, errors = compute_all(*graph.columns(nodes))
            if errors:
                return None
            graph.done(nodes, results)
            now_ready, answer = calls.arithmetic_done(nodes, results)
            ready += now_ready
            if answer is not None:
                answers.append(answer)
        graph.check()
        calls.check()
    if graph.remaining or calls.remaining:
        raise Difference(f"{graph.remaining} operations and {calls.remaining} calls are left over")
    if len(answers) != 1:
        raise Difference(f"there are {len(answers)} answers")
    return answers[0]


def _do_call(call: Call) -> Number:
    operands = {name: json.loads(value) for name, value in call.operands.items()}
    value = made_up(call.handler, *filled(call.args, operands))
    call.conclude(0.0, CallState.SUCCEEDED, repr(value).encode())
    call.enter(CallState.SUCCEEDED)
    return value


def _check_refused_by_python(text: str, error: FormulaError) -> None:
    number = NUMBER.match(text, error.column - 1)
    if number is not None and error.reason == TOO_LONG and len(number[0]) > NUMBER_CHARS_MAX:
        return
    try:
        value: Number | None = reference.value(text)
    except reference.Refused:
        return
    except ArithmeticError:
        try:
            value = reference.value_by_steps(text)
        except reference.Refused:
            return
    given = "takes it" if value is None else f"gives {_brief(value)}"
    raise Difference(f"is refused ({error}), and Python {given}")


def _check_failed_by_python(text: str) -> None:
    try:
        value = reference.value_by_steps(text)
    except reference.Refused:
        raise Difference("fails, and Python refuses it") from None
    if value is not None:
        raise Difference(f"fails, and Python gives {_brief(value)} without a partial overflow")


def _check_place(text: str, error: FormulaError, parse: Parse) -> None:
    column = error.column
    if not 1 <= column <= len(text) + 1:
        raise Difference(f"is refused at column {column} of {len(text)}")
    shown, caret = error.caret.split("\n")
    at = caret.index("^")
    expected = text[column - 1 : column]
    if not expected.isprintable():
        expected = " "
    if caret != " " * at + "^" or shown[at : at + 1] != expected:
        raise Difference(f"is refused with a caret that is elsewhere: {error.caret!r}")
    before = text[: column - 1]
    try:
        parse(before, LIMITS)
    except FormulaError as earlier:
        if earlier.column <= len(before):
            raise Difference(f"is refused at {column}, but {before!r} is at {earlier}") from None


@contextmanager
def _slices_of(chars: int) -> Iterator[None]:
    with patch.object(parser, "SLICE_CHARS", chars):
        yield


def _check_slices(text: str, chars: int, parse: Parse) -> None:
    whole = _described(text, parse)
    with _slices_of(chars):
        sliced = _described(text, parse)
    if whole != sliced:
        raise Difference(f"in slices of {chars} characters it becomes {sliced} instead of {whole}")


def _described(text: str, parse: Parse) -> str:
    try:
        formula = parse(text, LIMITS)
    except FormulaError as error:
        return f"{error} {error.caret}"
    described = f"{formula.value!r} {_described_graph(formula.graph)}"
    return described if formula.calls is None else described + _described_calls(formula.calls)


def _described_graph(graph: Graph) -> str:
    return repr({name: getattr(graph, name) for name in Graph.__slots__})


def _described_calls(calls: CallGraph) -> str:
    made = [(call.name, call.args, call.missing, call.edges) for call in calls.calls.values()]
    return repr((made, calls.root, calls.answer and calls.answer.name))


def _check_bounds(text: str, parse: Parse) -> None:
    try:
        formula = parse(text, replace(LIMITS, chars_max=len(text)))
        operations = formula.graph.remaining
        calls = 0 if formula.calls is None else formula.calls.remaining
        parse(text, replace(LIMITS, operations_max=operations, calls_max=calls))
    except FormulaError:
        return
    except TooLarge as error:
        raise Difference(f"is too large without exceeding a bound: {error}") from None
    bounds = [replace(LIMITS, chars_max=len(text) - 1)]
    if operations:
        bounds.append(replace(LIMITS, operations_max=operations - 1))
    if calls:
        bounds.append(replace(LIMITS, calls_max=calls - 1))
    for bound in bounds:
        try:
            parse(text, bound)
        except TooLarge:
            continue
        raise Difference(f"is accepted beyond a bound: {bound}")


def _brief(value: Number) -> str:
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)
