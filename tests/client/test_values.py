"""Arguments arrive as they were given, or they are refused before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

import dte
from dte.client.graphs import call_body, plan_body


def sent_call(*args: Any, **named: Any) -> Any:
    return json.loads(call_body("echo", args, named, {}))


@dataclass
class Photo:
    name: Any
    sizes: Any = None


class Box(msgspec.Struct):
    inside: Any


def test_the_text_of_a_node_is_refused_wherever_it_is_written() -> None:
    graph = dte.Graph()
    node = graph.with_options(name="my fetch").call("echo", 1)
    for text in (f"{node}", str(node), f"see {node!r}", f"{[node]}", f"{node} {node}"):
        for value in (text, [text], {"a": (text,)}, {text: 1}, {text}, Photo(text), Box([text])):
            with pytest.raises(TypeError, match=r"a text contains node 'my fetch'.*pass the node"):
                graph.call("echo", value)
            with pytest.raises(TypeError, match=r"a text contains node 'my fetch'"):
                sent_call(value)
    assert len(graph) == 1


def test_a_node_stays_printable() -> None:
    node = dte.Graph().call("echo", 1)
    assert "name='echo'" in str(node) == repr(node)


@pytest.mark.parametrize("place", [lambda n: {n}, lambda n: frozenset([n]), Photo, Box])
def test_a_node_where_no_reference_can_be_is_refused(place: Any) -> None:
    graph = dte.Graph()
    node = graph.call("echo", 1)
    with pytest.raises(TypeError, match=r"node 'echo' is in a .*; put it into a list or a dict"):
        graph.call("echo", [place(node)])


def test_a_node_as_a_key_is_refused() -> None:
    graph = dte.Graph()
    node = graph.call("echo", 1)
    with pytest.raises(TypeError, match=r"node 'echo' is a key of a dict"):
        graph.call("echo", {"a": [{node: 1}]})


@pytest.mark.parametrize("key", [True, None, (1, 2)])
def test_a_key_that_json_cannot_have_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match=r"the key .* of a dict must be a text"):
        sent_call([{key: "a"}])
    with pytest.raises(TypeError, match=r"the key .* of a dict must be a text"):
        plan_body({"handler": "echo", "args": [{key: "a"}]})


def test_a_number_as_a_key_is_sent_as_its_text_for_the_handler_to_restore() -> None:
    assert sent_call([{1: "a", 1.5: "b"}])["args"] == [[{"1": "a", "1.5": "b"}]]
    assert b'{"1":2}' in plan_body({"handler": "echo", "args": [{1: 2}]})


@pytest.mark.parametrize("place", [lambda x: {x}, Photo, Box, lambda x: [Photo({"a": x})]])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_without_json_are_found_in_every_container(place: Any, value: float) -> None:
    with pytest.raises(ValueError, match=r"cannot be converted to JSON"):
        sent_call(place(value))
    with pytest.raises(ValueError, match=r"cannot be converted to JSON"):
        plan_body({"handler": "echo", "args": [place(value)]})


def test_what_json_keeps_is_sent() -> None:
    value = {
        "a": (1, 2),
        "b": {3},
        "c": Photo("x", {4: 5}),
        "d": 2**70,
        "e": "Node(graph=",
        "f": None,
    }
    assert sent_call(value)["args"] == [
        {
            "a": [1, 2],
            "b": [3],
            "c": {"name": "x", "sizes": {"4": 5}},
            "d": 2**70,
            "e": "Node(graph=",
            "f": None,
        }
    ]


def test_a_node_of_another_graph_is_named_as_such() -> None:
    stranger = dte.Graph().call("echo", 1)
    graph = dte.Graph()
    graph.call("echo", 1)
    with pytest.raises(
        ValueError, match=r"'echo' is not a node of this graph; it belongs to another"
    ):
        graph.call("echo", stranger)


@pytest.mark.parametrize("value", [object(), 1j, [iter([])], {"a": Photo(print)}, {object()}])
def test_what_has_no_json_is_refused_with_its_type_when_it_is_given(value: Any) -> None:
    graph = dte.Graph()
    with pytest.raises(TypeError, match=r"a value of type \w+ cannot be converted to JSON; give"):
        graph.call("echo", value)
