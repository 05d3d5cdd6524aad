"""JSON with gaps: results go into these, and calls are told by what goes in where."""

from __future__ import annotations

from array import array

from dte.core.graph.call import references, renamed
from dte.core.graph.json_template import JsonTemplate

TEMPLATE = JsonTemplate(b"[,1,]", ("a", "b"), array("I", [1, 4, 4]), array("I", [1, 0, 1]))


def test_a_result_goes_into_each_of_its_gaps() -> None:
    assert TEMPLATE.fill({"a": b"7", "b": b"[8]"}) == b"[[8],1,7[8]]"
    assert JsonTemplate(b"[1]").fill({}) == b"[1]"


def test_each_gap_is_a_reference() -> None:
    assert list(references(TEMPLATE)) == ["b", "a", "b"]


def test_the_calls_may_get_other_names() -> None:
    other = renamed(TEMPLATE, {"a": "b", "x": "y"})
    assert other.names == ("b", "b")
    assert other.fill({"b": b"0"}) == b"[0,1,00]"
    assert TEMPLATE.names == ("a", "b")


def test_the_key_is_equal_where_the_same_goes_into_the_same_places() -> None:
    same = JsonTemplate(b"[,1,]", ("b", "a"), array("I", [1, 4, 4]), array("I", [0, 1, 0]))
    assert same.key() == TEMPLATE.key()
    assert renamed(TEMPLATE, {"a": "c"}).key() != TEMPLATE.key()
    moved = JsonTemplate(b"[,1,]", ("a", "b"), array("I", [1, 3, 4]), array("I", [1, 0, 1]))
    assert moved.key() != TEMPLATE.key()
