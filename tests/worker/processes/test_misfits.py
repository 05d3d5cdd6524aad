"""A result that is no JSON is named with its place, in words of dte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from dte.wire.faults import HALF
from dte.worker.processes import misfits
from dte.worker.processes.misfits import ADVICE, PARTS_MAX
from dte.worker.processes.outcomes import Outcomes

NO_NUMBER = "which JSON cannot represent; return None instead"


@dataclass
class Shelf:
    things: list[Any]


class Texts(dict[str, Any]):
    """A dict of a class of its own, which is not looked into."""


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (object(), f"it has a value of type `object`; {ADVICE}"),
        ((number for number in (1, 2)), f"it has a value of type `generator`; {ADVICE}"),
        ({"a": [1, {"b": 1j}]}, f"it has a value of type `complex` at a[1].b; {ADVICE}"),
        (Shelf([1j]), f"it has a value of type `complex`; {ADVICE}"),
        ([Shelf([object()])], f"it has a value of type `object`; {ADVICE}"),
        (math.nan, f"it has a NaN, {NO_NUMBER}"),
        ({"ratio": [0.5, -math.inf]}, f"it has an infinite number at ratio[1], {NO_NUMBER}"),
        ("\ud800", f"it has a text with \\ud800, {HALF}"),
        (["a", {"b": "c\udc00"}], f"it has a text with \\udc00 at [1].b, {HALF}"),
        ({"\ud800": 1}, f"it has a name with \\ud800, {HALF}"),
        ({(1, 2): 3}, "it has a key of type `tuple`; the keys of JSON are texts"),
        ([{None: 3}], "it has a key of type `NoneType` at [0]; the keys of JSON are texts"),
    ],
)
def test_a_result_that_is_no_json_is_named_with_its_place(result: Any, text: str) -> None:
    outcome = Outcomes(10_000_000, None).of_result(1, result)
    assert outcome.error == f"the result cannot be converted to JSON: {text}"
    assert not outcome.retry


def test_the_place_is_cut() -> None:
    result: Any = math.nan
    for _ in range(100):
        result = [result]
    outcome = Outcomes(10_000_000, None).of_result(1, result)
    assert f" at {'[0]' * misfits.LEVELS_SHOWN}.…, which" in str(outcome.error)


def test_of_a_long_result_only_a_part_is_looked_at() -> None:
    outcome = Outcomes(10_000_000, None).of_result(1, [1] * 2 * PARTS_MAX + [1j])
    assert outcome.error == (
        f"the result cannot be converted to JSON: it has a value of type `complex`; {ADVICE}"
    )


def test_a_number_that_json_has_not_comes_without_a_trace_of_the_library() -> None:
    assert Outcomes(10_000_000, None).of_result(1, {"ratio": math.nan}).trace == ""


def test_what_is_not_found_is_said_by_the_exception() -> None:
    outcome = Outcomes(10_000_000, None).of_result(1, Texts(a="\ud800"))
    assert str(outcome.error).startswith("the result cannot be converted to JSON: UnicodeEncode")


def test_a_result_that_contains_itself_says_so() -> None:
    result: list[Any] = []
    result += [result] * 1000
    outcome = Outcomes(10_000_000, None).of_result(1, result)
    assert str(outcome.error).endswith("JSON: it nests too deep, or contains itself")
    assert misfits.reason(result, ValueError("other")) == "other"
