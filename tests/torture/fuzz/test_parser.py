"""The parser does what Python does, and the fuzzer finds it if one does not."""

from __future__ import annotations

import re

import pytest
from torture.fuzz import blocks, parser, reference

from dte.core.errors import FormulaError
from dte.core.formula import builder
from dte.core.formula import formula as dte_parser
from dte.core.formula import parser as stacks
from dte.core.formula.formula import FormulaLimits
from dte.core.graph.work import Work

INPUTS = 5000
INPUTS_TO_FIND_A_FAULT = 3000


def test_the_parser_does_what_python_does() -> None:
    tally = blocks.run(1, INPUTS)
    assert not tally.found
    assert tally.inputs == INPUTS
    assert tally.outcomes[parser.ACCEPTED] > INPUTS / 2
    assert tally.outcomes[parser.REFUSED] > INPUTS / 4
    assert tally.outcomes[parser.FAILED] > INPUTS / 50
    assert tally.outcomes[parser.UNDECIDED] < INPUTS / 1000


# Wrong parsers


def swapping(text: str, limits: FormulaLimits) -> Work:
    """Exchanges the operands of the first operation, if both are known."""
    formula = dte_parser.parse(text, limits)
    graph = formula.graph
    if graph.ready:
        node = graph.ready[0]
        left, right = graph.operands1[node], graph.operands2[node]
        graph.operands1[node], graph.operands2[node] = right, left
    return formula


def forgetting(text: str, limits: FormulaLimits) -> Work:
    """Takes one operation for done before it is."""
    formula = dte_parser.parse(text, limits)
    if formula.graph.remaining > 3:
        formula.graph.take(1)
    return formula


def pointing_beside(text: str, limits: FormulaLimits) -> Work:
    """Says of a syntax error that it is one column earlier."""
    try:
        return dte_parser.parse(text, limits)
    except FormulaError as error:
        column = max(1, error.column - 1)
        raise FormulaError(error.reason, column, error.caret) from None


def taking_zeros(text: str, limits: FormulaLimits) -> Work:
    """Takes 007 for 7."""
    return dte_parser.parse(re.sub(r"(?<![\d.eE+-])0+(?=[1-9])", "", text), limits)


def taking_digits_of_any_script(text: str, limits: FormulaLimits) -> Work:
    digits = {ord("٣"): "3", ord("１"): "1"}
    return dte_parser.parse(text.translate(digits), limits)


def refusing_a_point_at_the_end(text: str, limits: FormulaLimits) -> Work:
    match = re.search(r"\d\.(?!\d)", text)
    if match:
        raise FormulaError("a digit is missing", match.end(), f"{match[0]}\n  ^")
    return dte_parser.parse(text, limits)


def recursing(text: str, limits: FormulaLimits) -> Work:
    if text.count("(") > 300:
        raise RecursionError
    return dte_parser.parse(text, limits)


@pytest.mark.parametrize(
    "wrong",
    [
        swapping,
        forgetting,
        pointing_beside,
        taking_zeros,
        taking_digits_of_any_script,
        refusing_a_point_at_the_end,
        recursing,
    ],
)
def test_a_wrong_parser_is_found(wrong: parser.Parse) -> None:
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, parse=wrong, found_max=1).found


def test_a_zero_without_its_sign_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def negation(self: builder.GraphBuilder, operand: int) -> int:
        return self.operation(ord("-"), self.literal(0), operand)

    monkeypatch.setattr(builder.GraphBuilder, "negation", negation)
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, found_max=1).found


def test_a_number_that_is_cut_between_slices_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CUT", re.compile(r"[()*/×÷−\s+\-]"))
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, found_max=1).found


def test_what_is_found_is_shown_short_and_can_be_tried_again() -> None:
    found = blocks.run(2, INPUTS_TO_FIND_A_FAULT, parse=swapping, found_max=1).found[0]
    assert len(found.shorter) <= 5
    assert blocks.text_of(2, found.number)[0] == found.text
    (again,) = blocks.check_block(2, found.number, found.number + 1, swapping).found
    assert again == found


def test_processes_share_the_inputs_of_a_seed() -> None:
    alone, shared = blocks.run(3, 2000), blocks.run(3, 2000, processes=2)
    assert shared.outcomes == alone.outcomes
    assert shared.inputs == 2000


# What Python says


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "()",
            "(())",
            "...",
            "e",
            "E5",
            "1 .e5",
            "(1).e5",
            "1(2)",
            "(1)(2)",
            "1 2",
            "1+",
        ),
        *(
            "2**3",
            "7//2",
            "007",
            "1_000",
            "0x10",
            "1e",
            "(1",
            "1)",
            "1\x002",
            "1\xa0+2",
            "１",
            "1j",
        ),
        *("(1/0)(2)", "1/0+e", "(" * 500 + "1", "1" + ")" * 500, "(1+" * 500 + ")" * 500),
        *("(" * 300 + "1" + ")" * 300 + "(2)", "9" * 4301),
    ],
)
def test_python_refuses_what_is_no_formula(text: str) -> None:
    with pytest.raises(reference.Refused):
        reference.value_by_steps(text)
    with pytest.raises((reference.Refused, ZeroDivisionError)):
        reference.value(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+\n2×3÷4−5\f", -2.5),
        ("-(0.0)", -0.0),
        ("-(" * 1000 + "7" + ")" * 1000, 7),
        ("(1+2*" * 300 + "1" + ")" * 300, 2**301 - 1),
        ("(1)-(2)" + "-((3))" * 100, -301),
    ],
)
def test_python_s_value_is_had_whatever_the_depth(text: str, value: float) -> None:
    assert reference.identical(reference.value(text), value)
    by_steps = reference.value_by_steps(text)
    assert by_steps is not None
    assert reference.identical(by_steps, value)


@pytest.mark.parametrize(
    "text", ["1/(1e308*10)", "1e999*0", "1/0", f"{'9' * 4300}*10/10", "0*(2/0)", "-(1e308+1e308)"]
)
def test_a_partial_result_that_does_not_travel_leaves_no_value(text: str) -> None:
    assert reference.value_by_steps(text) is None


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0), (1, 2), (0.1, 0.1 + 2**-55)])
def test_numbers_are_compared_bit_for_bit(one: float, other: float) -> None:
    assert reference.identical(one, one)
    assert not reference.identical(one, other)
