"""Long plans are read and written in slices, with what comes of it at once."""

from __future__ import annotations

from typing import Any

import pytest

from dte.core.errors import TooLarge
from dte.core.slices import at_once
from dte.master import long_plans
from dte.master.api import submission
from dte.master.api.submission import SubmissionDecoder
from dte.master.long_plans import decoding_nodes, reading_plan, writing_plan
from dte.master.plans import Node, Plan, plan_text, read_plan
from dte.wire import pieces
from dte.wire.codec import Malformed, encode

NODES = {
    f"n{n}": {"handler": "echo", "args": [n, "},{"], "after": [f"n{n - 1}"] if n else []}
    for n in range(20)
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pieces, long_plans, submission):
        monkeypatch.setattr(module, "PIECE_BYTES", 30)
    monkeypatch.setattr(long_plans, "NODES_AT_ONCE", 0)


@pytest.mark.parametrize(
    "more", [{}, {"answer": "n3", "priority": 5}, {"after": [1, 2], "when": "done"}]
)
def test_a_plan_is_read_and_written_as_at_once(more: dict[str, Any]) -> None:
    plan = read_plan(encode({"graph": NODES} | more).decode())
    assert sum(1 for _ in writing_plan(plan)) > 2
    text = at_once(writing_plan(plan))
    assert text == plan_text(plan)
    assert sum(1 for _ in reading_plan(text)) > 2
    assert at_once(reading_plan(text)) == plan


def test_a_formula_is_a_plan_too() -> None:
    plan = Plan(formula="1+2" * 30)
    assert at_once(reading_plan(at_once(writing_plan(plan)))) == plan


@pytest.mark.parametrize(
    "body",
    [{"graph": {"a": {"handler": "echo", "args": ["x" * 100]}}}, {"jobs": [{"graph": NODES}]}],
)
def test_each_look_at_something_long_is_in_a_slice_of_its_own(body: Any) -> None:
    """One of 15 MB takes up to 50 ms: the whole, the graph, the names of a node, and the node."""
    assert sum(1 for _ in SubmissionDecoder().decoding(encode(body))) >= 5
    if "graph" in body:
        text = plan_text(read_plan(encode(body).decode()))
        assert sum(1 for _ in reading_plan(text)) >= 5


@pytest.mark.parametrize(
    "body",
    [
        {"graph": NODES, "answer": "n7"},
        {"jobs": [{"graph": NODES}, {"handler": "echo", "args": ["x" * 100], "after": [1, 2]}]},
        {"handler": "echo", "args": ["x" * 100], "timeout": 5.0},
        {"formula": "1+2" * 30, "after": [7]},
    ],
)
def test_a_submission_is_decoded_as_at_once(body: Any) -> None:
    decoder, raw = SubmissionDecoder(), encode(body)
    assert at_once(decoder.decoding(raw)) == decoder.decode(raw)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"graph": NODES | {"bad": {"handlr": "echo"}}}, "node 'bad': "),
        ({"jobs": [{"graph": NODES}, {"graph": {"bad": 1} | NODES}]}, "job 1 of the request: node"),
        ({"jobs": [{"handler": "echo"}] * 9 + [{"after": "x"}]}, "job 9 of the request: "),
        ({"graph": NODES, "colour": "red"}, "colour"),
        ({"jobs": {"a": NODES}}, "jobs must be a list"),
        ({"graph": [NODES]}, "graph must be an object"),
    ],
)
def test_what_is_wrong_in_a_long_submission_is_named(body: Any, text: str) -> None:
    with pytest.raises(Malformed, match=text):
        at_once(SubmissionDecoder().decoding(encode(body)))


def test_more_names_than_there_may_be_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_plans, "AFTER_NAMES_MAX", 20)
    nodes = {"a": {"handler": "f"}, "b": {"handler": "f", "after": ["a"] * 21}}
    with pytest.raises(TooLarge, match="node 'b': after has more than 20 names"):
        at_once(decoding_nodes(encode(nodes)))
    nodes["b"]["after"] = ["a"] * 20
    assert at_once(decoding_nodes(encode(nodes)))["b"] == Node("f", after=["a"] * 20)
    monkeypatch.setattr(submission, "AFTER_NAMES_MAX", 20)
    with pytest.raises(TooLarge, match="after has more than 20 jobs"):
        at_once(SubmissionDecoder().decoding(encode({"handler": "f", "after": list(range(22))})))


def test_equal_names_of_nodes_are_one_text() -> None:
    names = [f"node {number}" for number in range(50)]
    graph = {name: {"handler": "f", "after": names[:at]} for at, name in enumerate(names)}
    nodes = at_once(decoding_nodes(encode(graph)))
    assert nodes["node 7"].after == names[:7]
    assert len({id(name) for node in nodes.values() for name in node.after}) == 49
