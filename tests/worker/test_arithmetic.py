from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.graph.numbers import INTEGER_DIGITS_MAX, INTEGER_LIMIT, Number
from dte.worker.arithmetic import OperationFailed, compute, compute_all

LONGEST = INTEGER_LIMIT - 1
"""The longest integer that travels, all nines."""

TOO_LONG = f"the result has more than {INTEGER_DIGITS_MAX} digits"
TOO_LARGE = "overflow, the result is not a finite number"
NO_FLOAT = "overflow, an integer is too large for a float"
BY_ZERO = "division by zero"

FAILURES = [
    ("/", 1, 0, BY_ZERO),
    ("/", 1, 0.0, BY_ZERO),
    ("/", 0.0, -0.0, BY_ZERO),
    ("+", LONGEST, 1, TOO_LONG),
    ("-", -LONGEST, 1, TOO_LONG),
    ("*", LONGEST, LONGEST, TOO_LONG),
    ("*", LONGEST, -10, TOO_LONG),
    ("*", 1e308, 10, TOO_LARGE),
    ("*", 1e308, -10, TOO_LARGE),
    ("+", 1.7e308, 1.7e308, TOO_LARGE),
    ("/", 1e300, 1e-300, TOO_LARGE),
    ("*", LONGEST, 1.0, NO_FLOAT),
    ("-", 0.5, LONGEST, NO_FLOAT),
    ("/", LONGEST, 1, NO_FLOAT),
]

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)


def written(values: list[Number]) -> list[str]:
    """Numbers so that two are equal only if they are the same to the last bit."""
    return [f"{type(value).__name__} {value!r}" for value in values]


def outcome(symbol: str, left: Number, right: Number) -> tuple[Number, str | None]:
    """The result of an operation, or 0 and why it has none."""
    try:
        return compute(symbol, left, right), None
    except OperationFailed as error:
        return 0, str(error)


@pytest.mark.parametrize(
    ("symbol", "left", "right", "result"),
    [
        ("+", 1, 2, 3),
        ("-", 1, 2, -1),
        ("*", 3, -2, -6),
        ("/", 4, 2, 2.0),
        ("/", 1, 3, 0.3333333333333333),
        ("+", 0.1, 0.2, 0.30000000000000004),
        ("*", -1, 0.0, -0.0),
        ("+", LONGEST - 1, 1, LONGEST),
        ("-", 1 - LONGEST, 1, -LONGEST),
        ("/", LONGEST, LONGEST, 1.0),
        ("/", 10**400, 10**399, 10.0),
    ],
)
def test_an_operation_is_python_s(symbol: str, left: Number, right: Number, result: Number) -> None:
    assert written([compute(symbol, left, right)]) == written([result])


@pytest.mark.parametrize(("symbol", "left", "right", "reason"), FAILURES)
def test_an_operation_without_a_result_says_why(
    symbol: str, left: Number, right: Number, reason: str
) -> None:
    with pytest.raises(OperationFailed) as caught:
        compute(symbol, left, right)
    assert str(caught.value) == reason


@pytest.mark.parametrize("symbol", ["%", "sum", ""])
def test_there_are_no_other_operations(symbol: str) -> None:
    with pytest.raises(KeyError):
        compute(symbol, 1, 2)


@given(st.lists(st.tuples(st.sampled_from("+-*/"), numbers, numbers)))
def test_a_batch_gives_what_its_operations_give_alone(
    operations: list[tuple[str, Number, Number]],
) -> None:
    results, errors = compute_all(
        "".join(symbol for symbol, _, _ in operations),
        [left for _, left, _ in operations],
        [right for _, _, right in operations],
    )
    alone = [outcome(*operation) for operation in operations]
    assert written(results) == written([result for result, _ in alone])
    assert errors == {place: why for place, (_, why) in enumerate(alone) if why is not None}


def test_failures_in_a_batch_stay_at_their_places() -> None:
    """Each kind of failure between operations that succeed, and no number that cannot travel."""
    symbols, lefts, rights = "", [], []
    for symbol, left, right, _ in FAILURES:
        symbols += f"+{symbol}"
        lefts += [1, left]
        rights += [2, right]
    results, errors = compute_all(symbols, lefts, rights)
    assert results == [3, 0] * len(FAILURES)
    assert errors == {2 * place + 1: why for place, (_, _, _, why) in enumerate(FAILURES)}


@pytest.mark.parametrize(("symbol", "left", "right", "reason"), FAILURES)
def test_a_failure_is_found_in_a_batch_of_its_own(
    symbol: str, left: Number, right: Number, reason: str
) -> None:
    assert compute_all(symbol, [left], [right]) == ([0], {0: reason})


def test_results_of_the_longest_length_are_not_failures() -> None:
    assert compute_all("+-", [LONGEST - 1, 1 - LONGEST], [1, 1]) == ([LONGEST, -LONGEST], {})


def test_an_empty_batch_has_no_results() -> None:
    assert compute_all("", [], []) == ([], {})


@pytest.mark.parametrize(
    ("symbols", "lefts", "rights"),
    [("+", [1], []), ("+", [], [1]), ("", [1], [1]), ("++", [1], [1]), ("+", [1, 2], [1, 2])],
)
def test_columns_of_different_length_are_refused(
    symbols: str, lefts: list[Number], rights: list[Number]
) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        compute_all(symbols, lefts, rights)


@pytest.mark.parametrize("symbols", ["+%", "%+", "/%"])
def test_another_operation_in_a_batch_is_refused(symbols: str) -> None:
    """Also behind an operation that fails."""
    with pytest.raises(KeyError):
        compute_all(symbols, [1, 1], [0, 0])


def test_the_sign_of_zero_is_python_s() -> None:
    results, _ = compute_all("**-", [-1, -0.0, 0.0], [0.0, 1, 0.0])
    assert [math.copysign(1, result) for result in results] == [-1, -1, 1]
