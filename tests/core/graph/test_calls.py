from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plans import Node, built, call
from dte.core.errors import InvalidRequest
from dte.core.graph import call_builder, calls
from dte.core.graph.call import CallRecord, CallState, CallTerms, Ref
from dte.core.graph.call_builder import (
    CYCLE_SHOWN,
    EDGE_BYTES,
    LINKED_IN_SLICE,
    REFERENCE_BYTES,
    CallGraphBuilder,
)
from dte.core.graph.calls import CallGraph
from dte.core.graph.handlers import NAME_CHARS_MAX, check_handler
from dte.core.graph.json_template import JsonTemplate
from dte.core.slices import at_once

A, B, C = Ref("a"), Ref("b"), Ref("c")

T = TypeVar("T")


def end(
    graph: CallGraph,
    name: str,
    value: bytes = b"1",
    state: CallState = CallState.SUCCEEDED,
    error: str | None = None,
) -> tuple[list[str], list[str]]:
    """End a call; the names of those that wait for nothing any more, and of those that failed."""
    call = graph.get(name)
    assert call is not None
    call.record.attempts += 1
    call.conclude(1.0, state, value if state is CallState.SUCCEEDED else None, error)
    call.enter(state)
    ready, failed = graph.ended(call)
    graph.check()
    return [other.name for other in ready], [other.name for other in failed]


def ready(graph: CallGraph) -> list[str]:
    return [call.name for call in graph.ready()]


# What is waited for


def test_a_call_waits_for_what_its_arguments_refer_to() -> None:
    graph = built({"b": call("f", A, [A, {"x": A}]), "a": call("f")})
    assert ready(graph) == ["a"]
    assert end(graph, "a", b"[7]") == (["b"], [])
    b = graph.get("b")
    assert b is not None
    assert (b.refs, b.operands, graph.remaining) == (("a",), {"a": b"[7]"}, 1)


def test_a_call_waits_for_those_after_which_it_comes_without_their_results() -> None:
    graph = built({"a": call("f"), "b": call("f", after=["a", "a"])})
    assert ready(graph) == ["a"]
    assert end(graph, "a") == (["b"], [])
    assert graph.calls["b"].operands == {}


def test_what_is_both_read_and_come_after_is_waited_for_once() -> None:
    graph = built({"a": call("f"), "b": call("f", A, after=["a"])})
    assert graph.calls["b"].missing == 1
    assert end(graph, "a") == (["b"], [])


def test_a_diamond_is_ready_at_its_end_when_both_sides_are() -> None:
    graph = built({"d": call("f", B, C), "b": call("f", A), "c": call("g", A), "a": call("f")})
    assert end(graph, "a") == (["b", "c"], [])
    assert end(graph, "c") == ([], [])
    assert end(graph, "b") == (["d"], [])


def test_a_result_that_is_empty_is_null() -> None:
    graph = built({"a": call("f"), "b": call("f", A)})
    end(graph, "a", b"")
    assert graph.calls["b"].operands == {"a": b"null"}


def test_a_graph_of_thousands_is_linked_in_slices() -> None:
    builder = CallGraphBuilder({"p"})
    names = [str(number) for number in range(2 * LINKED_IN_SLICE)]
    for number, name in enumerate(names):
        before = [names[number - 1]] if number else []
        builder.add(name, "p", [number], after=before)
    assert sum(1 for _ in builder.finish(None)) >= 6
    assert builder.graph.remaining == len(names)


# What cannot be


@pytest.mark.parametrize(
    ("nodes", "circle"),
    [
        ({"a": call("f", A)}, "a -> a"),
        ({"a": call("f", after=["a"])}, "a -> a"),
        ({"a": call("f", B), "b": call("f", after=["a"])}, "a -> b -> a"),
        ({"a": call("f", B), "b": call("f", C), "c": call("f", B)}, "b -> c -> b"),
        ({"x": call("f"), "a": call("f", Ref("x"), B), "b": call("f", A)}, "a -> b -> a"),
    ],
)
def test_calls_that_wait_for_each_other_are_refused(nodes, circle) -> None:
    with pytest.raises(InvalidRequest, match=f"the graph has a cycle: {circle}$"):
        built(nodes)


def test_a_long_circle_is_not_told_in_full() -> None:
    nodes = {f"n{n}": call("f", Ref(f"n{(n + 1) % 30}")) for n in range(30)}
    with pytest.raises(InvalidRequest) as refusal:
        built(nodes)
    circle = str(refusal.value).split(": ")[1].split(" -> ")
    assert len(circle) == CYCLE_SHOWN
    assert circle[0] == circle[-1]


@pytest.mark.parametrize("nodes", [{"a": call("f", B)}, {"a": call("f", after=["b"])}])
def test_unknown_names_are_refused(nodes) -> None:
    with pytest.raises(InvalidRequest, match="node 'a' refers to 'b', which is not in the graph"):
        built(nodes)


def test_an_unknown_answer_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="answer 'b' is not in the graph"):
        built({"a": call("f")}, "b")


def test_a_graph_without_calls_is_refused() -> None:
    """Nothing would ever end it."""
    with pytest.raises(InvalidRequest, match="no nodes"):
        built({})


@pytest.mark.parametrize("name", ["", "x" * (NAME_CHARS_MAX + 1), "a\nb", "\ud800", "\x00"])
def test_names_are_short_and_printable(name) -> None:
    with pytest.raises(InvalidRequest, match="printable characters"):
        built({name: call("f")})


@pytest.mark.parametrize("name", ["f", "_", "images.resize", "send-email", "a1.b_2-c"])
def test_handlers_names(name) -> None:
    check_handler(name)
    check_handler("x" * NAME_CHARS_MAX)


@pytest.mark.parametrize(
    "name", ["", "1f", "f.", ".f", "f..g", "f g", "f\n", "é", "x" * (NAME_CHARS_MAX + 1)]
)
def test_what_is_no_handler_s_name_is_refused(name) -> None:
    with pytest.raises(InvalidRequest, match=r"node 'a': .* is not a handler's name"):
        built({"a": call(name)})


# Failures


def test_a_failure_spreads_at_once_with_its_first_cause() -> None:
    graph = built(
        {"a": call("f"), "b": call("f", A), "c": call("f", B), "d": call("f", C, A), "x": call("f")}
    )
    assert end(graph, "a", state=CallState.FAILED, error="no disk") == ([], ["b", "d", "c"])
    for name in "bcd":
        spread = graph.calls[name]
        assert spread.state is CallState.SKIPPED
        assert spread.record.error == "skipped because 'a' failed: no disk"
        assert spread.record.ended_at == 1.0
    assert graph.remaining == 1
    assert graph.failure() is graph.calls["a"], "the cause, not what it kept from being done"


@pytest.mark.parametrize(
    ("state", "follows", "reason"),
    [
        (CallState.FAILED, CallState.SKIPPED, "skipped because 'a' failed"),
        (CallState.TIMED_OUT, CallState.SKIPPED, "skipped because 'a' timed out"),
        (CallState.CANCELLED, CallState.CANCELLED, "skipped because 'a' was cancelled"),
    ],
)
def test_how_a_call_failed_is_told_to_those_that_waited(state, follows, reason) -> None:
    graph = built({"a": call("f"), "b": call("f", A)})
    end(graph, "a", state=state)
    assert (graph.calls["b"].state, graph.calls["b"].record.error) == (follows, reason)


def test_a_call_that_is_done_whatever_happens_reads_null_for_what_failed() -> None:
    graph = built(
        {
            "a": call("f"),
            "b": call("f", A),
            "c": call("f", A, B, run_on_failure=True),
            "d": call("f", C),
        }
    )
    assert end(graph, "a", state=CallState.FAILED) == (["c"], ["b"])
    assert graph.calls["c"].operands == {"a": b"null", "b": b"null"}
    assert end(graph, "c", b"3") == (["d"], [])


def test_a_failure_reaches_what_waits_twice_only_once() -> None:
    graph = built({"a": call("f"), "b": call("f"), "c": call("f", A, B)})
    assert end(graph, "a", state=CallState.FAILED, error="1") == ([], ["c"])
    assert end(graph, "b", state=CallState.FAILED, error="2") == ([], [])
    assert graph.calls["c"].record.error == "skipped because 'a' failed: 1"
    assert graph.remaining == 0


def test_an_answer_that_does_not_need_what_failed_is_no_failure() -> None:
    nodes = {"a": call("f"), "b": call("f")}
    graph = built(nodes, "b")
    end(graph, "a", state=CallState.FAILED)
    end(graph, "b")
    assert graph.failure() is None
    graph = built(nodes, "a")
    end(graph, "b")
    end(graph, "a", state=CallState.TIMED_OUT)
    assert graph.failure() is graph.calls["a"]


# Answers


def answer(graph: CallGraph) -> object:
    for name in list(graph.calls):
        end(graph, name, json.dumps(f"of {name}").encode())
    assert graph.failure() is None
    return json.loads(graph.result())


def test_the_answer_is_that_of_the_call_named_for_it() -> None:
    assert answer(built({"a": call("f"), "b": call("f", A)}, "a")) == "of a"


def test_the_answer_is_that_of_the_one_call_that_nobody_waits_for() -> None:
    assert answer(built({"a": call("f"), "b": call("f", A)})) == "of b"


def test_the_answer_has_all_that_nobody_waits_for() -> None:
    graph = built({"a": call("f"), 'b"\\é': call("f", A), "c": call("f", after=["a"])})
    assert answer(graph) == {'b"\\é': 'of b"\\é', "c": "of c"}


def test_an_answer_without_a_value_is_null() -> None:
    for named in (None, "a"):
        graph = built({"a": call("f")}, named)
        end(graph, "a", b"")
        assert graph.result() == b"null"


# Equal calls of pure handlers


PURE = ("p",)


def test_equal_pure_calls_are_one() -> None:
    graph = built({"a": call("p", 1), "b": call("p", 1), "c": call("f", A, B)}, pure=PURE)
    assert list(graph.calls) == ["a", "c"]
    assert (graph.remaining, graph.get("b")) == (2, graph.calls["a"])
    assert graph.calls["c"].args == [A, A]
    assert end(graph, "b", b"5") == (["c"], [])
    assert graph.calls["c"].operands == {"a": b"5"}


def test_equal_calls_of_other_handlers_are_several() -> None:
    graph = built({"a": call("f", 1), "b": call("f", 1)}, pure=PURE)
    assert list(graph.calls) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        call("p", 2),
        call("p", 1.0),
        call("p", True),
        call("p", "1"),
        call("p", named={"n": 1}),
        call("q", 1),
        call("p", 1, priority=5),
        call("p", 1, after=["x"]),
    ],
)
def test_calls_that_differ_are_several(other) -> None:
    graph = built({"x": call("f"), "a": call("p", 1), "b": other}, pure=("p", "q"))
    assert len(graph.calls) == 3


def test_a_text_is_not_taken_for_a_reference() -> None:
    nodes = {"a": call("f"), "b": call("p", A), "c": call("p", repr(A))}
    assert len(built(nodes, pure=PURE).calls) == 3


def test_chains_of_equal_pure_calls_are_one_chain() -> None:
    nodes = {}
    for side in "xy":
        nodes[f"{side}0"] = call("p", 0)
        for step in range(1, 5):
            nodes[f"{side}{step}"] = call("p", Ref(f"{side}{step - 1}"), after=[f"{side}0"])
    graph = built(dict(reversed(nodes.items())) | {"z": call("f", Ref("x4"), Ref("y4"))}, pure=PURE)
    assert len(graph.calls) == 6
    last = graph.get("x4")
    assert last is graph.get("y4")
    assert last is not None
    for step in range(5):
        expected = [f"{name}" for name in (f"x{step + 1}", f"y{step + 1}") if step < 4]
        newly, failed = end(graph, f"x{step}")
        assert failed == []
        assert len(newly) == 1
        assert newly[0] in (expected or ["z"])


def test_equal_diamonds_are_one() -> None:
    nodes = {}
    for side in "xy":
        nodes |= {
            f"{side}a": call("p", 1),
            f"{side}b": call("p", Ref(f"{side}a"), 1),
            f"{side}c": call("p", Ref(f"{side}a"), 2),
            f"{side}d": call("p", Ref(f"{side}b"), Ref(f"{side}c")),
        }
    graph = built(nodes, pure=PURE)
    assert list(graph.calls) == ["xa", "xb", "xc", "xd"]
    assert answer(graph) == {"xd": "of xd", "yd": "of xd"}


def test_the_answer_may_be_a_call_that_is_the_same_as_another() -> None:
    assert answer(built({"a": call("p"), "b": call("p")}, "b", pure=PURE)) == "of a"


@pytest.mark.parametrize("pure", [(), PURE])
def test_the_answer_has_the_same_form_whether_equal_calls_are_known_to_be_pure(pure) -> None:
    both = answer(built({"a": call("p"), "b": call("p")}, pure=pure))
    assert isinstance(both, dict)
    assert both.keys() == {"a", "b"}
    read = answer(built({"a": call("p"), "b": call("p"), "c": call("f", A)}, pure=pure))
    assert isinstance(read, dict)
    assert read.keys() == {"b", "c"}


def test_a_call_that_stands_for_others_is_shown_under_each_name() -> None:
    graph = built({"a": call("p"), "b": call("p"), "c": call("f", B)}, pure=PURE)
    end(graph, "a", b"5")
    shown = {one.name: (one.state, one.record.value) for one in graph.named()}
    assert shown.keys() == {"a", "b", "c"}
    assert shown["b"] == shown["a"] == (CallState.SUCCEEDED, b"5")


def test_references_to_calls_that_are_gone_lead_to_the_same_call() -> None:
    nodes = {
        "a": call("p"),
        "b": call("p"),
        "c": call("f", {"x": [B]}, after=["a", "b"]),
        "d": call("f", named={"x": B}, after=["b"]),
    }
    graph = built(nodes, pure=PURE)
    assert graph.calls["c"].args == [{"x": [A]}]
    assert graph.calls["c"].after == ("a",)
    assert graph.calls["d"].args == {"x": A}
    assert end(graph, "a") == (["c", "d"], [])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.booleans()), max_size=20))
def test_a_graph_with_equal_calls_merged_gives_what_the_whole_one_does(made) -> None:
    """Each call gives a text of its arguments, so the answers differ where a call is wrong."""
    nodes = {"n0": call("p", 0)}
    for number, (argument, other, ordered) in enumerate(made, 1):
        name = f"n{other % number}"
        nodes[f"n{number}"] = call("p", argument, *([] if ordered else [Ref(name)]), after=[name])
    answers = []
    for pure in ((), PURE):
        graph = built(nodes, pure=pure)
        line = ready(graph)
        for name in line:
            one = graph.calls[name]
            shown = [one.operands[a.name].decode() if isinstance(a, Ref) else a for a in one.args]
            line += end(graph, name, json.dumps(f"p{shown}").encode())[0]
        assert graph.remaining == 0
        answers.append(json.loads(graph.result()))
    assert answers[0] == answers[1]


def test_terms_tell_calls_apart() -> None:
    assert call("f", priority=1).terms == CallTerms(priority=1)


def test_the_answer_of_many_sinks_has_a_bound() -> None:
    nodes = {"a": call("p"), "b": call("p"), "c": call("f")}
    graph = built(nodes, pure=PURE)
    for name in graph.calls:
        end(graph, name, b'"12345"')
    size = len(graph.result())
    assert at_once(graph.finding_excess(size)) is None
    error = at_once(graph.finding_excess(size - 1))
    assert error is not None, "the result of a counts for b too"
    assert f"3 nodes that no other node needs have more than {size - 1} bytes" in error
    assert "(value_bytes_max); name one node in `answer`" in error
    for one in (built(nodes, "b", pure=PURE), built({"a": call("f")})):
        end(one, "a", b'"12345"')
        assert at_once(one.finding_excess(1)) is None, "one result has a bound of its own"


# What a retry takes over


def reusable(nodes: Mapping[str, Node], **states: CallState | None) -> set[str]:
    """The calls whose results a retry takes over, by how each ended before."""
    records = [CallRecord(name, state, value=b"1") for name, state in states.items()]
    return {record.name for record in built(nodes).reusable(records)}


DONE, FAILED, SKIPPED = CallState.SUCCEEDED, CallState.FAILED, CallState.SKIPPED
CANCELLED, TIMED_OUT = CallState.CANCELLED, CallState.TIMED_OUT


def test_a_retry_takes_over_what_succeeded() -> None:
    nodes = {"a": call("f"), "b": call("f", A), "c": call("f", B)}
    assert reusable(nodes, a=DONE, b=FAILED, c=SKIPPED) == {"a"}
    assert reusable(nodes, a=DONE, b=DONE, c=TIMED_OUT) == {"a", "b"}


@pytest.mark.parametrize("lost", [None, CANCELLED], ids=["no record", "cancelled with its job"])
def test_a_retry_keeps_an_effect_whose_pure_operand_a_crash_made_forget(
    lost: CallState | None,
) -> None:
    """The results of pure handlers are not recorded before their job ends."""
    nodes = {"a": call("pure"), "b": call("effect", A), "c": call("effect", B)}
    assert reusable(nodes, a=lost, b=DONE, c=CANCELLED) == {"b"}


def test_a_retry_keeps_an_effect_behind_two_forgotten_pure_calls() -> None:
    nodes = {"a": call("pure"), "b": call("pure", A), "c": call("effect", after=["b"])}
    assert reusable(nodes, c=DONE) == {"c"}
    assert reusable(nodes, a=CANCELLED, b=CANCELLED, c=DONE) == {"c"}


def test_a_retry_keeps_an_effect_whose_forgotten_operand_failed_when_it_ran_again() -> None:
    nodes = {"a": call("pure"), "b": call("effect", A)}
    assert reusable(nodes, a=FAILED, b=DONE) == {"b"}


@pytest.mark.parametrize("end", [FAILED, TIMED_OUT, SKIPPED])
def test_what_ran_after_a_failure_runs_again_with_all_that_used_it(end: CallState) -> None:
    nodes = {
        "a": call("f"),
        "b": call("f", A, run_on_failure=True),
        "c": call("f", B),
        "d": call("f"),
    }
    assert reusable(nodes, a=end, b=DONE, c=DONE, d=DONE) == {"d"}


def test_a_forgotten_call_that_ran_after_a_failure_gives_another_result() -> None:
    nodes = {"a": call("f"), "b": call("pure", A, run_on_failure=True), "c": call("f", B)}
    assert reusable(nodes, a=FAILED, c=DONE) == set()


# What is done with all calls is done in slices


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice is one call or one edge."""
    for module in (calls, call_builder):
        monkeypatch.setattr(module, "SLICE", 1)
    monkeypatch.setattr(calls, "CALLS_IN_SLICE", 1)


def in_slices(work: Generator[None, None, T]) -> tuple[int, T]:
    """The number of pauses in some work, and what it returns."""
    pauses = 0
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return pauses, stop.value
        pauses += 1


CHAIN = {"a": call("f"), "b": call("f", A), "c": call("f", B), "d": call("f", C)}
SINKS = {name: call("f") for name in "abcd"}


@pytest.mark.usefixtures("short_slices")
def test_names_are_checked_in_slices() -> None:
    builder = CallGraphBuilder()
    for name in "abcd":
        builder.add(name, "f", [], after=["missing"] if name == "d" else [])
    finishing = builder.finish(None)
    assert [next(finishing) for _ in "abc"] == [None] * 3
    with pytest.raises(InvalidRequest, match="'missing'"):
        next(finishing)


@pytest.mark.usefixtures("short_slices")
def test_recorded_states_are_restored_in_slices() -> None:
    graph = built(CHAIN)
    records = [
        CallRecord("a", DONE, value=b"1"),
        CallRecord("b", DONE, value=b"2"),
        CallRecord("c", lease=7),
        CallRecord("gone", DONE),
    ]
    pauses, _ = in_slices(graph.restoring(records))
    assert pauses >= 2 * 3, "each is entered, and each is followed by its readers"
    assert [each.state.value for each in graph.calls.values()] == [
        *("succeeded", "succeeded", "running", "waiting")
    ]
    assert graph.calls["c"].operands == {"b": b"2"}
    graph.check()


@pytest.mark.usefixtures("short_slices")
def test_what_can_be_taken_over_is_found_in_slices() -> None:
    nodes = {name: call("f", *each.args, run_on_failure=True) for name, each in CHAIN.items()}
    records = [CallRecord("a", FAILED), *(CallRecord(name, DONE) for name in "bcd")]
    pauses, found = in_slices(built(nodes).reusing(records))
    assert (pauses, found) == (4, [])


@pytest.mark.usefixtures("short_slices")
def test_an_end_that_reaches_many_is_whole_when_it_is_passed_on_at_once() -> None:
    graph = built({"a": call("f")} | {name: call("f", A) for name in "bcd"})
    assert end(graph, "a", state=FAILED) == ([], ["b", "c", "d"])


@pytest.mark.usefixtures("short_slices")
def test_the_failure_and_its_cause_are_found_in_slices() -> None:
    graph = built({"z": call("f")} | CHAIN)
    end(graph, "z")
    end(graph, "a", state=FAILED, error="no")
    pauses, failure = in_slices(graph.finding_failure())
    assert (pauses, failure) == (1, graph.calls["a"])
    pauses, cause = in_slices(graph.finding_cause(graph.calls["d"]))
    assert (pauses, cause) == (3, graph.calls["a"])


@pytest.mark.usefixtures("short_slices")
def test_the_answer_of_many_sinks_is_measured_and_written_in_slices() -> None:
    graph = built(SINKS)
    for name in graph.calls:
        end(graph, name)
    assert in_slices(graph.finding_excess(100)) == (4, None)
    assert in_slices(graph.writing_result()) == (4, b'{"a":1,"b":1,"c":1,"d":1}')


def test_edges_count_and_share_the_text_of_a_name() -> None:
    builder = CallGraphBuilder()
    for number in range(50):
        names = [f"node {other}" for other in range(number)]
        builder.add(f"node {number}", "f", [], after=names)
    graph = builder.graph
    size = graph.size
    list(builder.finish(None))
    assert graph.edges == 50 * 49 // 2
    assert graph.size == size + EDGE_BYTES * graph.edges
    texts = {id(name) for call in graph.calls.values() for name in call.after}
    assert len(texts) == 49


def test_edges_of_an_ended_job_are_freed_in_slices_and_names_stay() -> None:
    graph = built({f"n{n}": call("f", after=[f"n{other}" for other in range(n)]) for n in range(9)})
    slices = 1
    while graph.free(20):
        slices += 1
    assert slices > 2
    assert all(not each.readers and not each.after for each in graph.calls.values())
    assert [each.name for each in graph.named()] == [f"n{n}" for n in range(9)]


def test_references_count_and_share_the_text_of_a_name() -> None:
    builder = CallGraphBuilder()
    for number in range(50):
        names = tuple(f"node {other}" for other in range(number))
        template = JsonTemplate(b"[]", tuple(f"node {other}" for other in range(number)))
        builder.add(f"node {number}", "f", template, refs=names)
    graph = builder.graph
    list(builder.finish(None))
    texts = 50 * len("f") + 2 * sum(map(len, graph.calls))
    assert graph.size == texts + (EDGE_BYTES + REFERENCE_BYTES) * graph.edges
    assert len({id(name) for call in graph.calls.values() for name in call.refs}) == 49
    assert len({id(name) for call in graph.calls.values() for name in call.args.names}) == 49


def test_operands_of_an_ended_job_are_freed() -> None:
    graph = built({"a": call("f"), "b": call("f", A)})
    end(graph, "a")
    assert graph.calls["b"].operands
    assert not graph.free(1_000)
    assert not graph.calls["b"].operands


def test_calls_that_are_freed_can_be_shown_to_the_end_by_who_began() -> None:
    graph = built({"a": call("f"), "b": call("f"), "c": call("f", B)}, pure={"f"})
    shown = graph.named()
    names = [next(shown).name]
    graph.unused = True
    graph.free(1)
    assert not graph.calls
    assert names + [each.name for each in shown] == ["a", "c", "b"]
