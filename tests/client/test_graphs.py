"""Graphs of calls and single calls, as the JSON that is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import dte
from dte.client.graphs import call_body, plan_body
from dte.client.job import Job


def sent(graph: dte.Graph, *args: Any, **terms: Any) -> Any:
    return json.loads(graph.body(*args, **terms))


def sent_call(*args: Any, **named: Any) -> Any:
    return json.loads(call_body("echo", args, named, {}))


def test_a_node_as_an_argument_is_a_reference_at_any_depth() -> None:
    graph = dte.Graph()
    a = graph.call("primes", limit=100)
    b = graph.call("echo", a)
    c = graph.call("echo", {"deep": [1, (a, b)], "plain": "primes"})
    assert sent(graph, c) == {
        "graph": {
            "primes": {"handler": "primes", "args": {"limit": 100}},
            "echo": {"handler": "echo", "args": [{"ref": "primes"}]},
            "echo-3": {
                "handler": "echo",
                "args": [{"deep": [1, [{"ref": "primes"}, {"ref": "echo"}]], "plain": "primes"}],
            },
        },
        "answer": "echo-3",
    }
    assert len(graph) == 3


def test_options_of_a_node_are_beside_its_arguments_whatever_these_are_named() -> None:
    graph = dte.Graph()
    a = graph.with_options(name="first").call("sleep", seconds=1)
    moment = datetime(2030, 1, 31, 12, tzinfo=UTC)
    b = graph.with_options(
        after=[a],
        priority=5,
        call_timeout_s=10,
        retries=0,
        delay_s=3,
        not_before=moment,
        when="done",
    ).call("mail", priority="low", after="lunch", handler="x", self="y", name="z")
    assert sent(graph)["graph"]["mail"] == {
        "handler": "mail",
        "args": {"priority": "low", "after": "lunch", "handler": "x", "self": "y", "name": "z"},
        "after": ["first"],
        "priority": 5,
        "timeout": 10,
        "retries": 0,
        "delay": 3,
        "not_before": "2030-01-31T12:00:00Z",
        "when": "done",
    }
    assert b.name == "mail"


def test_what_holds_for_the_whole_job_is_beside_its_graph() -> None:
    graph = dte.Graph()
    graph.call("echo", 1)
    body = sent(graph, "echo", priority=7, after=[Job(3, True), 4], when="done", notify="http://x")
    del body["graph"]
    assert body == {
        "answer": "echo",
        "priority": 7,
        "after": [3, 4],
        "when": "done",
        "notify": "http://x",
    }


@pytest.mark.parametrize("value", [{"ref": "x"}, {"literal": 1}, {"literal": {"ref": "x"}}])
def test_data_that_looks_like_a_reference_stays_data(value: Any) -> None:
    assert sent_call(value)["args"] == [{"literal": value}]
    assert sent_call([value])["args"] == [[{"literal": value}]]
    assert sent_call(**value)["args"] == {"literal": value}


def test_data_that_looks_like_no_reference_is_sent_as_it_is() -> None:
    values: list[Any] = [{"ref": 1}, {"ref": "x", "more": 1}, {}, [], None, "ref"]
    for value in values:
        assert sent_call(value)["args"] == [value]


def test_names_of_nodes_are_made_up_apart() -> None:
    graph = dte.Graph()
    graph.with_options(name="echo-2").call("echo", 1)
    graph.call("echo", 2)
    assert graph.call("echo", 3).name == "echo-3"
    assert graph.call("echo", 4).name == "echo-4"
    with pytest.raises(ValueError, match="the graph already has a node 'echo'"):
        graph.with_options(name="echo").call("echo", 1)


def test_a_node_of_another_graph_is_refused() -> None:
    graph, other = dte.Graph(), dte.Graph()
    graph.call("echo", 1)
    stranger = other.call("echo", 1)
    for use in (
        lambda: graph.call("echo", [stranger]),
        lambda: graph.with_options(after=[stranger]),
        lambda: graph.body(stranger),
        lambda: graph.body("nobody"),
    ):
        with pytest.raises(ValueError, match="is not a node of this graph"):
            use()
    with pytest.raises(ValueError, match="in its own graph"):
        sent_call(stranger)


@pytest.mark.parametrize("graph", [{"a": {"handler": "echo"}}, [1], None])
def test_what_is_no_graph_is_refused_with_what_would_be_right(graph: Any) -> None:
    for method in ("run", "submit_graph"):
        with dte.Client() as client, pytest.raises(TypeError, match=r"a dte\.Graph is expected"):
            getattr(client, method)(graph)


def test_one_node_or_job_in_place_of_a_list_is_refused() -> None:
    graph = dte.Graph()
    node: Any = graph.call("echo", 1)
    job: Any = Job(7, False)
    for use in (
        lambda: graph.with_options(after=node),
        lambda: graph.body(after=job),
        lambda: graph.body(after=job.id),
    ):
        with pytest.raises(TypeError, match=r"after takes a list, as in after=\[…\], not a "):
            use()


def test_a_dict_that_cannot_be_told_from_a_literal_has_no_nodes() -> None:
    graph = dte.Graph()
    with pytest.raises(ValueError, match='only the key "literal"'):
        graph.call("echo", {"literal": graph.call("echo", 1)})


def test_arguments_by_position_and_by_name_go_beside_each_other() -> None:
    body = json.loads(call_body("resize", ("cat.png",), {"width": 200, "ref": "a"}, {}))
    assert body == {"handler": "resize", "args": ["cat.png"], "kwargs": {"width": 200, "ref": "a"}}
    graph = dte.Graph()
    first = graph.call("echo", 1)
    graph.call("merge", [first], title=first)
    nodes = json.loads(graph.body())["graph"]
    assert nodes["merge"] == {
        "handler": "merge",
        "args": [[{"ref": "echo"}]],
        "kwargs": {"title": {"ref": "echo"}},
    }


def test_a_function_stands_for_the_handler_that_it_is() -> None:
    @dte.handler("pictures.resize")
    def resize(path: str) -> str:
        return path

    assert json.loads(call_body(resize, ("a",), {}, {}))["handler"] == "pictures.resize"
    graph = dte.Graph()
    assert graph.call(resize, "a").name == "pictures.resize"
    dte.handler("pictures.scale")(resize)
    with pytest.raises(TypeError, match=r"several handlers: pictures\.resize, pict"):
        call_body(resize, ("a",), {}, {})


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (
            json.loads,
            r'loads is not a handler; decorate it with @dte.handler\("loads"',
        ),
        (None, "the handler must be a name, not NoneType"),
        (b"echo", "the handler must be a name, not bytes"),
    ],
)
def test_what_is_no_handler_says_what_to_do(handler: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        call_body(handler, (), {}, {})


@pytest.mark.parametrize("plan", [{"jobs": []}, b'{"jobs": [{"handler": "echo"}]}'])
def test_a_plan_of_several_jobs_is_refused(plan: Any) -> None:
    with pytest.raises(ValueError, match="submit_plan makes one job"):
        plan_body(plan)


@pytest.mark.parametrize("plan", [5, "{}", None, []])
def test_what_is_no_plan_says_what_to_do(plan: Any) -> None:
    with dte.Client() as client, pytest.raises(TypeError, match="a plan is a dict, or JSON"):
        client.submit_plan(plan)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": float("-inf")}]])
def test_numbers_that_json_has_not_are_refused_and_not_sent_as_null(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot be converted to JSON"):
        sent_call(value)


def test_long_integers_are_sent_exactly() -> None:
    body = call_body("echo", (10**5000,), {}, {})
    assert b"[1" + b"0" * 5000 + b"]" in body


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        call_body("echo", (), {}, {"not_before": datetime(2030, 1, 31)})


def test_options_of_a_call_are_those_of_the_job() -> None:
    body = json.loads(
        call_body(
            "echo",
            ("hi",),
            {},
            {
                "priority": 5,
                "call_timeout_s": 2.5,
                "retries": 3,
                "after": [1],
                "when": "done",
                "notify": "http://x",
                "key": "k",
                "timeout_s": 1,
            },
        )
    )
    assert body == {
        "handler": "echo",
        "args": ["hi"],
        "priority": 5,
        "timeout": 2.5,
        "retries": 3,
        "after": [1],
        "when": "done",
        "notify": "http://x",
    }


def test_an_option_that_does_not_exist_is_refused_and_the_others_are_named() -> None:
    with (
        dte.Client() as client,
        pytest.raises(TypeError, match=r"no option 'timeout'; .*call_timeout_s, "),
    ):
        client.with_options(timeout=3)  # type: ignore[call-arg]
