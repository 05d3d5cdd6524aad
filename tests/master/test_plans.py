"""Plans: what is read from clients and the journal, and what is made of it."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.formula.formula import FormulaLimits
from dte.core.graph.call import CallTerms
from dte.core.graph.calls import CallGraph
from dte.master.arguments import COMPACTED_BYTES_MAX
from dte.master.messages import arguments
from dte.master.plans import (
    NO_PLAN_LIMITS,
    REFERENCES_MAX,
    RESUMED_LIMITS,
    Node,
    Plan,
    PlanLimits,
    begin_delays,
    build,
    check_priority,
    describe,
    plan_text,
    read_plan,
    shorten_delays,
)
from dte.wire.codec import Malformed, encode
from dte.wire.nesting import ARGUMENT_LEVELS_MAX

ACCEPTED_AT = 1_000.0
LIMITS = PlanLimits(FormulaLimits(), 10_000_000)
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


def plan_of(**nodes: Any) -> Plan:
    """A plan with these nodes: a list is the arguments of an ``echo``, a dict a whole node."""
    whole = {
        name: {"handler": "echo", "args": said} if isinstance(said, list) else said
        for name, said in nodes.items()
    }
    return read_plan(encode({"graph": whole}).decode())


def built(plan: Plan, limits: PlanLimits = NO_PLAN_LIMITS, pure: Collection[str] = ()) -> CallGraph:
    building = build(plan, limits, ACCEPTED_AT, pure)
    while True:
        try:
            next(building)
        except StopIteration as stop:
            graph: CallGraph = stop.value.calls
            return graph


# References


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([{"ref": "a"}], ["of a"]),
        ({"x": {"ref": "a"}, "y": 2}, {"x": "of a", "y": 2}),
        ({"ref": "a"}, None),
        ([[{"x": [{"ref": "a"}, 1]}]], [[{"x": ["of a", 1]}]]),
        ([{"ref": "a"}, {"ref": "a"}], ["of a", "of a"]),
    ],
)
def test_a_reference_may_stand_anywhere_in_arguments(args: Any, expected: Any) -> None:
    plan = plan_of(a=[1], b={"handler": "echo", "args": args})
    if expected is None:
        with pytest.raises(InvalidRequest, match=r"^node 'b': args must be a list"):
            built(plan)
        return
    call = built(plan).calls["b"]
    call.operands["a"] = b'"of a"'
    assert (arguments(call), call.refs, call.missing) == (expected, ("a",), 1)


@pytest.mark.parametrize(
    "args",
    [
        [{"ref": 1}],
        [{"ref": None}],
        [{"ref": "a", "more": 1}],
        [{"reference": "a"}],
        ["ref"],
        [{"literal": "a", "more": {}}],
    ],
)
def test_what_is_no_reference_stays_as_it_is(args: list[Any]) -> None:
    call = built(plan_of(a=[1], b=args)).calls["b"]
    assert (arguments(call), call.refs) == (args, ())


@pytest.mark.parametrize("args", [[1, 10**5_000], {"b": 1.50, "a": "é"}, [[]] * 3])
def test_arguments_without_references_are_passed_on_as_they_were_sent(args: Any) -> None:
    with_any_digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        text = json.dumps(args, ensure_ascii=False)
    finally:
        sys.set_int_max_str_digits(with_any_digits)
    plan = read_plan(f'{{"graph": {{"a": {{"handler": "f", "args": {text}}}}}}}')
    assert bytes(built(plan).calls["a"].args) == text.encode()


def test_arguments_that_are_not_utf_8_are_refused() -> None:
    plan = Plan(graph={"a": Node("f", msgspec.Raw(b'["\xff"]'))})
    with pytest.raises(InvalidRequest, match=r"^node 'a': args are not in UTF-8$"):
        built(plan)


def test_a_literal_is_what_it_has_even_where_that_looks_like_a_reference() -> None:
    args = [{"literal": {"ref": "a"}}, {"literal": {"literal": [{"ref": "b"}]}}]
    call = built(plan_of(b=args)).calls["b"]
    assert (arguments(call), call.refs) == ([{"ref": "a"}, {"literal": [{"ref": "b"}]}], ())


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Gives the bytes that are kept of what was allocated within."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def nested(depth: int) -> list[Any]:
    args: list[Any] = []
    for _ in range(depth):
        args = [args]
    return args


@pytest.mark.parametrize("more", [[], [{"ref": "b"}], [{"literal": {"ref": "b"}}]])
def test_arguments_nest_as_deep_as_workers_take_them(more: list[Any]) -> None:
    deep = [nested(ARGUMENT_LEVELS_MAX - 2), *more]
    built(plan_of(a=deep, b=[]), LIMITS)
    built(plan_of(a={"handler": "f", "args": deep, "kwargs": {"x": deep[0]}}, b=[]), LIMITS)
    with pytest.raises(InvalidRequest, match=r"^node 'a': args nest more than 500 levels deep$"):
        built(plan_of(a=[deep], b=[]), LIMITS)
    with pytest.raises(InvalidRequest, match=r"^node 'a': args nest more than 500 levels deep$"):
        built(plan_of(a={"handler": "f", "args": [1], "kwargs": {"x": deep}}, b=[]), LIMITS)


def test_a_literal_is_no_level_of_nesting() -> None:
    built(plan_of(a={"handler": "f", "args": {"literal": nested(ARGUMENT_LEVELS_MAX - 1)}}), LIMITS)


def test_deep_arguments_of_a_job_that_has_ended_are_shown() -> None:
    built(plan_of(a=nested(900)), NO_PLAN_LIMITS)
    with pytest.raises(InvalidRequest):
        built(plan_of(a=nested(900)), RESUMED_LIMITS)


@pytest.mark.no_cover
def test_a_call_refers_to_as_many_results_as_there_may_be_calls() -> None:
    many = [{"ref": "b"}] * (REFERENCES_MAX + 1)
    with pytest.raises(
        TooLarge, match=r"^node 'a': too many references in a call: 100001 > 100000"
    ):
        built(plan_of(a=many, b=[]), LIMITS)
    built(plan_of(a=many[1:], b=[]), LIMITS)
    built(plan_of(a=many, b=[]), PlanLimits(FormulaLimits(calls_max=REFERENCES_MAX + 1), 10**7))


@pytest.mark.no_cover
def test_arguments_with_references_take_the_memory_of_their_text() -> None:
    for fill in (b"[]", b"{}", b'{"a":1}', b'"b"', b'{"ref":"a"}'):
        many = b",".join([fill] * (1_000_000 // len(fill)))
        text = b'{"graph":{"a":{"handler":"f"},"b":{"handler":"f","args":[%s,{"ref":"a"}]}}}' % many
        plan = read_plan(text.decode())
        with traced_memory() as kept:
            graph = built(plan)
            assert kept() < 1.5 * len(text), fill
        assert graph.calls["b"].refs == ("a",)


@pytest.mark.parametrize("args", [1, "text", None, True, {"literal": 5}])
def test_arguments_are_a_list_or_an_object(args: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^node 'a': args must be a list"):
        built(plan_of(a={"handler": "echo", "args": args}))


# The graph


def test_nodes_may_refer_to_nodes_that_come_later() -> None:
    graph = built(plan_of(b=[{"ref": "a"}], a=[1]))
    assert [call.name for call in graph.ready()] == ["a"]


def test_an_unknown_name_is_called_by_its_node() -> None:
    with pytest.raises(
        InvalidRequest, match=r"^node 'b' refers to 'c', which is not in the graph$"
    ):
        built(plan_of(b=[{"ref": "c"}]))
    with pytest.raises(
        InvalidRequest, match=r"^node 'b' refers to 'c', which is not in the graph$"
    ):
        built(plan_of(b={"handler": "echo", "after": ["c"]}))


def test_a_circle_is_shown() -> None:
    with pytest.raises(InvalidRequest, match=r"^the graph has a cycle: b -> c -> b$"):
        built(plan_of(a=[1], b=[{"ref": "c"}], c={"handler": "echo", "after": ["b"]}))
    with pytest.raises(InvalidRequest, match=r"^the graph has a cycle: a -> a$"):
        built(plan_of(a=[{"ref": "a"}]))


def test_an_unknown_answer_is_named() -> None:
    plan = plan_of(a=[1])
    plan.answer = "b"
    with pytest.raises(InvalidRequest, match=r"^answer 'b' is not in the graph$"):
        built(plan)


def test_equal_calls_of_pure_handlers_are_one_and_others_are_not() -> None:
    nodes = {"a": [1], "b": [1], "c": [2], "d": [{"ref": "a"}], "e": [{"ref": "b"}]}
    assert list(built(plan_of(**nodes), pure={"echo"}).calls) == ["a", "c", "d"]
    assert list(built(plan_of(**nodes)).calls) == list(nodes)


@pytest.mark.parametrize("size", [1, COMPACTED_BYTES_MAX + 1])
def test_arguments_of_equal_calls_may_be_written_differently_unless_they_are_long(
    size: int,
) -> None:
    long = "x" * size
    texts = (f'[1.0, {{"ref":"z"}}, "a{long}"]', f'[1.0,{{"ref": "z"}},"\\u0061{long}"]')
    nodes = {f"n{n}": Node("p", msgspec.Raw(text.encode())) for n, text in enumerate(texts)}
    graph = built(Plan(graph={"z": Node("p")} | nodes), pure={"p"})
    assert len(graph.calls) == (2 if size == 1 else 3)


def test_arguments_of_pure_handlers_take_the_memory_of_their_text() -> None:
    args = msgspec.Raw(b"[%s]" % b",".join([b"[]"] * 3_000))
    plan = Plan(
        graph={f"n{n}": Node("p", args, after=[f"n{n - 1}"] if n else []) for n in range(50)}
    )
    with traced_memory() as kept:
        built(plan, pure={"p"})
        graph = built(plan, pure={"p"})
        assert kept() < 3 * 50 * len(bytes(args))
    assert len(graph.calls) == 50


# Terms


def test_a_node_s_terms_are_those_of_the_core() -> None:
    node = {
        "handler": "echo",
        "priority": -3,
        "timeout": 0.5,
        "retries": 0,
        "not_before": "2030-01-31T12:00:00Z",
        "when": "done",
        "lost_max": 7,
    }
    terms = built(plan_of(a=node)).calls["a"].terms
    assert terms == CallTerms(-3, 0.5, 0, 7, NOON.timestamp(), True)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("timeout", 0, "timeout must be from 0.001 to 316,224,000, not 0"),
        ("timeout", -1, "timeout must be from 0.001 to 316,224,000, not -1"),
        ("timeout", 1e300, "timeout must be from 0.001 to 316,224,000, not 1e+300"),
        ("retries", -1, "retries must be from 0 to 1,000, not -1"),
        ("retries", 1_001, "retries must be from 0 to 1,000, not 1,001"),
        ("retries", 10**400, "must be from 0 to 1,000, not "),
        ("lost_max", 0, "lost_max must be from 1 to 1,000, not 0"),
        ("lost_max", 10**400, "must be from 1 to 1,000, not "),
        ("priority", 1_000_001, "priority must be from -1,000,000 to 1,000,000, not 1,000,001"),
        ("priority", -(10**400), "must be from -1,000,000 to 1,000,000, not "),
        (
            "not_before",
            "2030-01-31T12:00:00",
            "not_before needs a time zone, as in 2030-",
        ),
        ("not_before", "9999-12-31T23:59:59.999999Z", "not_before must be before the year 9999"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_term_out_of_its_range_is_named_with_its_node(field: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        built(plan_of(a={"handler": "echo", field: value}))
    assert str(refused.value).startswith("node 'a': ")
    assert words in str(refused.value)


def test_the_job_s_priority_has_the_same_range() -> None:
    check_priority(1_000_000)
    check_priority(-1_000_000)
    for priority in (1_000_001, -1_000_001, 10**30):
        with pytest.raises(InvalidRequest, match="to 1,000,000, not "):
            check_priority(priority)


def test_a_delay_is_a_duration_from_the_acceptance() -> None:
    """Of the core's clock: whoever sets the wall clock does not change it."""
    plan = plan_of(
        a={"handler": "echo", "delay": 60}, b=[1], c={"handler": "echo", "delay": 2, "retries": 0}
    )
    begin_delays(plan, NOON)
    assert read_plan(plan_text(plan)).accepted_at == NOON
    calls = built(plan).calls
    assert calls["a"].terms == CallTerms(delayed_until=ACCEPTED_AT + 60)
    assert calls["b"].terms == CallTerms()
    assert calls["c"].terms == CallTerms(retries=0, delayed_until=ACCEPTED_AT + 2)


def test_a_call_may_have_a_delay_and_a_moment() -> None:
    plan = Plan(graph={"a": Node("echo", delay=10, not_before=NOON)})
    begin_delays(plan, NOON)
    terms = built(plan).calls["a"].terms
    assert (terms.delayed_until, terms.not_before) == (ACCEPTED_AT + 10, NOON.timestamp())


@pytest.mark.parametrize(
    ("passed_s", "left_s"), [(0, 60), (59, 1), (60, 0), (1e6, 0), (-1, 60), (-1e6, 60)]
)
def test_a_job_that_is_run_again_waits_for_what_is_left_of_a_delay(
    passed_s: float, left_s: float
) -> None:
    """However the wall clock was set since."""
    plan = plan_of(a={"handler": "echo", "delay": 60}, b=[1])
    begin_delays(plan, NOON)
    shorten_delays(plan, NOON + timedelta(seconds=passed_s))
    assert (plan.graph["a"].delay, plan.graph["b"].delay) == (left_s, 0)
    assert plan.accepted_at is None


@pytest.mark.parametrize("delay", [-1, 1e9, 1e300])
def test_a_delay_out_of_its_range_is_named_with_its_node(delay: float) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^node 'a': delay must be from 0 to 316,224,000 seconds, not "
    ):
        begin_delays(plan_of(a={"handler": "echo", "delay": delay}), NOON)


def test_a_delay_beside_a_moment_without_a_time_zone_is_refused() -> None:
    node = {"handler": "echo", "delay": 1, "not_before": "2030-01-31T12:00:00"}
    with pytest.raises(InvalidRequest, match=r"^node 'a': not_before needs a time zone"):
        built(plan_of(a=node))


# Bounds


def test_a_graph_has_bounds_that_are_named() -> None:
    plan = plan_of(a=[1], b=[1], c=[1])
    built(plan, PlanLimits(FormulaLimits(calls_max=3), 100))
    with pytest.raises(TooLarge, match=r"3 nodes > 2 \(calls_max\)$"):
        built(plan, PlanLimits(FormulaLimits(calls_max=2), 100))
    plan = plan_of(a=[1], b=["x" * 6])
    built(plan, PlanLimits(FormulaLimits(), 10))
    with pytest.raises(TooLarge, match=r"^node 'b': .*: 10 bytes > 9 \(value_bytes_max\)$"):
        built(plan, PlanLimits(FormulaLimits(), 9))


def test_a_large_graph_is_built_in_slices() -> None:
    """While others are answered."""
    nodes = {f"n{count}": [{"ref": f"n{count - 1}"}] if count else [0] for count in range(5_000)}
    building = build(plan_of(**nodes), NO_PLAN_LIMITS)
    assert sum(1 for _ in building) > 20


# Text


def test_the_journal_s_text_is_read_as_the_plan_that_was_written() -> None:
    plan = plan_of(
        a={
            "handler": "echo",
            "args": [{"ref": "é"}],
            "retries": 2,
            "not_before": "2030-01-31T12:00:00Z",
        },
        é={"handler": "sleep", "args": {"seconds": 1}, "when": "done"},
    )
    plan.answer, plan.after, plan.priority, plan.notify = "a", [3], -1, "http://127.0.0.1/x"
    plan.about = {"title": "x"}
    assert read_plan(plan_text(plan)) == plan
    assert read_plan(plan_text(Plan(formula="1+2"))) == Plan(formula="1+2")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"graph": 1}', '{"grahp": {}}'])
def test_what_is_no_plan_is_not_read(text: str) -> None:
    with pytest.raises(Malformed):
        read_plan(text)


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (Plan(formula="fibonacci(30) + 2*3"), "fibonacci(30) + 2*3"),
        (plan_of(call=["hi", 2]), 'echo("hi",2)'),
        (
            plan_of(call={"handler": "sleep", "args": {"seconds": 1, "text": "x"}}),
            'sleep(seconds=1, text="x")',
        ),
        (plan_of(a=[1], b=[2]), "2 calls: echo"),
        (
            plan_of(**{name: {"handler": name} for name in "abcdef"}),
            "6 calls: a, b, c, d, e, …",
        ),
    ],
)
def test_a_plan_is_a_line_for_people(plan: Plan, line: str) -> None:
    assert describe(plan) == line


def test_long_arguments_are_cut_in_that_line() -> None:
    assert describe(plan_of(call=["x" * 1_000])) == f'echo("{"x" * 99}…)'


# Arguments by position and by name


def test_named_arguments_stand_beside_positional_ones() -> None:
    node = {"handler": "f", "args": [1, {"ref": "a"}], "kwargs": {"x": {"ref": "a"}, "y": 2}}
    graph = built(plan_of(a=[0], b=node))
    assert graph.calls["b"].mixed
    graph.calls["b"].operands["a"] = b"5"
    assert arguments(graph.calls["b"]) == {"args": [1, 5], "kwargs": {"x": 5, "y": 2}}
    assert graph.calls["b"].refs == ("a",)
    kept = read_plan(plan_text(plan_of(b=node))).graph["b"].kwargs
    assert bytes(kept) == encode(node["kwargs"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "args"),
    [
        ({"args": [1], "kwargs": {}}, [1]),
        ({"args": [], "kwargs": {"x": 1}}, {"x": 1}),
        ({"kwargs": {"x": 1}}, {"x": 1}),
        ({"args": {"x": 1}, "kwargs": {}}, {"x": 1}),
    ],
)
def test_arguments_of_one_kind_are_what_they_were(said: dict[str, Any], args: Any) -> None:
    call = built(plan_of(a={"handler": "f"} | said)).calls["a"]
    assert (call.mixed, arguments(call)) == (False, args)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"args": {"x": 1}, "kwargs": {"y": 1}}, "node 'a': args must be a list"),
        ({"args": [1], "kwargs": [1]}, "node 'a': kwargs must be an object"),
        ({"kwargs": [1]}, "node 'a': kwargs must be an object"),
        ({"args": [1], "kwargs": 5}, "node 'a': kwargs must be an object"),
        ({"args": [1], "kwargs": None}, "node 'a': kwargs must be an object"),
        ({"args": 5, "kwargs": {"x": 1}}, "node 'a': args must be a list"),
    ],
)
def test_a_mix_that_is_none_is_refused(said: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        built(plan_of(a={"handler": "f"} | said))
    assert str(refused.value).startswith(error)


def test_equal_mixes_of_pure_handlers_are_one_call_and_no_other() -> None:
    mix = {"handler": "f", "args": [1], "kwargs": {"x": 2}}
    named = {"handler": "f", "args": {"args": [1], "kwargs": {"x": 2}}}
    graph = built(plan_of(a=mix, b=mix, c=named), pure={"f"})
    assert (list(graph.calls), graph.aliases) == (["a", "c"], {"b": "a"})


def test_a_mix_is_described_with_both_kinds() -> None:
    mix = {"handler": "f", "args": [1, "a"], "kwargs": {"x": 2}}
    assert describe(plan_of(a=mix)) == 'f(1,"a", x=2)'


@pytest.mark.parametrize(("formula", "is_sliced"), [("1+2", False), ("+".join("1" * 500), True)])
def test_a_short_formula_is_read_in_one_slice(formula: str, is_sliced: bool) -> None:
    building = build(Plan(formula=formula), NO_PLAN_LIMITS)
    assert (sum(1 for _ in building) > 0) == is_sliced
