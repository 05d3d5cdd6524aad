"""Filled-in templates against what the parser makes of the same text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.graphs import said_of
from dte.core.errors import FormulaError, TooLarge
from dte.core.formula import templates as module
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.formula.templates import Templates

LIMITS = FormulaLimits()

INTEGERS = ["0", "1", "2", "7", "10", "1000", "1001", "123456789012345678901234567890"]
FLOATS = ["0.0", "1.0", "2.", ".5", "1e3", "1000.5", "1E-7", "1e-400", "00.5"]
numbers = st.sampled_from([*INTEGERS, *FLOATS])


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chain = st.lists(st.tuples(st.sampled_from([*"+-*/", " + ", "×", "−"]), inner), max_size=4)
    return st.tuples(st.sampled_from(["", "-", "+-"]), inner, chain).map(
        lambda it: f"({it[0]}{it[1]}{''.join(sign + text for sign, text in it[2])})"
    )


formulas = st.recursive(numbers, _nested, max_leaves=20)


@settings(max_examples=1_000)
@given(st.lists(formulas, min_size=1, max_size=3))
def test_a_template_gives_what_the_parser_gives(texts: list[str]) -> None:
    templates = Templates(LIMITS)
    for text in texts * 3:  # Seen, made a template of, filled in.
        parsed, filled = parse(text, LIMITS), templates.parse(text)
        assert said_of(filled.graph) == said_of(parsed.graph)
        assert repr(filled.value) == repr(parsed.value)


@settings(max_examples=500)
@given(formulas, st.lists(numbers, min_size=1, max_size=8))
def test_a_template_made_of_other_numbers_gives_the_same(text: str, others: list[str]) -> None:
    templates = Templates(LIMITS)
    parts = module.NUMBER.split(text)
    count = len(parts) // 2
    parts[1::2] = [others[place % len(others)] for place in range(count)]
    other = "".join(parts)
    for _ in range(3):
        templates.parse(text)
    try:
        parsed = parse(other, LIMITS)
    except FormulaError as error:  # 0 of 00.5, and behind it an integer.
        with pytest.raises(FormulaError, match=f"^{re.escape(str(error))}$"):
            templates.parse(other)
    else:
        assert said_of(templates.parse(other).graph) == said_of(parsed.graph)


def filled_in(templates: Templates, text: str) -> bool:
    """Whether a text is not parsed."""
    return templates._fill_in(text) is not None


@pytest.mark.parametrize(
    "text",
    ["1+(2*3)/4-5", "1*1+1*1", "-1+2", "0*1-0", "1.5*2+1.5*2", "-(1.5)/.5", " 1\n+ 2", "1×2÷3−4"],
)
def test_a_shape_is_parsed_twice_and_then_filled_in(text: str) -> None:
    templates = Templates(LIMITS)
    assert not filled_in(templates, text)
    assert not filled_in(templates, text)
    assert filled_in(templates, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("7", id="a number alone"),
        pytest.param("-(1+2)", id="minus one comes from the parser"),
        pytest.param("1e999+1", id="no float"),
        pytest.param("2e−3*0", id="another minus in an exponent"),
        pytest.param("f(1)+2", id="a call"),
        pytest.param("+".join("1" * 33), id="many numbers"),
    ],
)
def test_what_a_template_cannot_stand_for_is_parsed_each_time(text: str) -> None:
    templates = Templates(LIMITS)
    for _ in range(4):
        templates.parse(text)
        assert not filled_in(templates, text)


def test_long_formulas_are_parsed() -> None:
    templates = Templates(LIMITS)
    templates.parse("1+" + "1" * module.CHARS_MAX)
    assert not templates._seen


@pytest.mark.parametrize(
    "text", ["1+", "1+01", "1.2.3+1", "1 2", "1e+2e3", "..+1", "1+1e", "2*1e5e0+1"]
)
def test_what_the_parser_refuses_is_refused_each_time(text: str) -> None:
    templates = Templates(LIMITS)
    templates.parse("1+2"), templates.parse("1+2"), templates.parse("1+2")
    for _ in range(4):
        with pytest.raises(FormulaError):
            templates.parse(text)


def test_bounds_hold_for_filled_in_formulas() -> None:
    templates = Templates(replace(LIMITS, digits_max=6))
    for _ in range(3):
        templates.parse("1+2")
    with pytest.raises(FormulaError, match="digits_max"):
        templates.parse("1+1234567")
    templates = Templates(replace(LIMITS, chars_max=4))
    for _ in range(3):
        templates.parse("1+2")
    with pytest.raises(TooLarge, match="formula_chars_max"):
        templates.parse("1+234")


def test_filled_in_graphs_do_not_share_what_changes() -> None:
    templates = Templates(LIMITS)
    first, second = [templates.parse("1*2+3*4") for _ in range(4)][2:]
    first.graph.done(first.graph.take(2), [2, 12])
    assert said_of(second.graph) == said_of(parse("1*2+3*4", LIMITS).graph)


def test_shapes_are_forgotten_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHAPES_MAX", 2)
    templates = Templates(LIMITS)
    for text in ("1+2", "1-2", "1*2", "1/2"):
        for _ in range(2):
            templates.parse(text)
        assert len(templates._seen) <= 2
        assert len(templates._templates) <= 2
        assert filled_in(templates, text)
