from __future__ import annotations

from dte.core.formula.formula import SLICE_CHARS
from dte.core.graph.work import Work
from dte.master.parsing import parse_again


def parsed_again(*formulas: tuple[int, str]) -> dict[int, Work]:
    found: dict[int, Work] = {}
    for _ in parse_again(formulas, found.__setitem__):
        pass
    return found


def test_what_was_accepted_before_a_restart_meets_no_bound_after_it() -> None:
    long = "+".join(["1"] * SLICE_CHARS)
    found = parsed_again((3, "1+2"), (7, long))
    assert list(found) == [3, 7]
    assert all(formula.graph.failure is None for formula in found.values())


def test_what_cannot_be_read_any_more_fails_and_keeps_no_other_from_going_on() -> None:
    found = parsed_again((1, "1 plus 2"), (2, "7"))
    failure = found[1].graph.failure or ""
    assert failure.startswith("it cannot be read any more: an operator is missing before 'plus'")
    assert found[2].value == 7
