from collections.abc import Collection

import pytest

from dte.core.formula import builder as builder_module
from dte.core.formula.builder import GraphBuilder
from dte.core.graph.call import Ref

PLUS, TIMES, OVER = map(ord, "+*/")


def make_builder(operations_max: int = 10, pure: Collection[str] = ()) -> GraphBuilder:
    builder = GraphBuilder(operations_max, pure)
    for _ in builder.reserve():
        pass
    return builder


@pytest.mark.parametrize("value", [7, 0, 0.5, 0.0, -0.0, 10**20])
def test_operations_on_equal_literals_are_one(value) -> None:
    builder = make_builder()
    one, other = builder.literal(value), builder.literal(type(value)(repr(value)))
    assert builder.operation(PLUS, one, other) == builder.operation(PLUS, other, one)
    assert builder.graph.remaining == 1


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0, 0.0), (0.0, -0.0), (0, -0.0)])
def test_operations_on_what_python_calls_equal_but_is_not_the_same_are_two(one, other) -> None:
    builder = make_builder()
    two, operands = builder.literal(2), (builder.literal(one), builder.literal(other))
    assert len({builder.operation(PLUS, two, operand) for operand in operands}) == 2
    assert [repr(builder.value(operand)) for operand in operands] == [repr(one), repr(other)]


def test_equal_operations_are_one_operation() -> None:
    builder = make_builder()
    one, two = builder.literal(1), builder.literal(2)
    total = builder.operation(PLUS, one, two)
    assert builder.operation(PLUS, one, two) == total
    assert builder.operation(PLUS, two, one) != total
    assert builder.operation(TIMES, one, two) != total
    assert builder.graph.remaining == 3


def test_what_is_an_integer_whatever_the_values_is_known() -> None:
    builder = make_builder()
    one, half = builder.literal(1), builder.literal(0.5)
    assert builder.operation(PLUS, one, one) & builder_module.INTEGRAL
    assert not builder.operation(PLUS, one, half) & builder_module.INTEGRAL
    assert not builder.operation(OVER, one, one) & builder_module.INTEGRAL


def test_only_literals_have_a_value() -> None:
    builder = make_builder()
    one = builder.literal(1)
    assert builder.value(one) == 1
    assert builder.value(builder.operation(PLUS, one, one)) is None


def test_a_literal_that_is_not_finite_fails_the_job() -> None:
    builder = make_builder()
    builder.literal(1e308)
    assert builder.graph.failure is None
    builder.literal(float("inf"))
    assert "too large" in (builder.graph.failure or "")


def test_full_tables_cost_sharing_and_nothing_else() -> None:
    """Input that fills every place a search looks at is built right, and twice."""
    builder = make_builder(0)  # Tables of 8 places.
    literals = [builder.literal(n) for n in range(50)]
    assert [builder.value(operand) for operand in literals] == list(range(50))
    assert builder.value(builder.literal(49)) == 49
    crowded = make_builder(1000)
    crowded._mask = 1
    one = crowded.literal(1)
    for n in range(100):
        crowded.operation(PLUS, one, crowded.literal(n))
    assert crowded.graph.remaining == 100
    crowded.graph.check()


def test_finish_frees_the_tables_in_slices(monkeypatch) -> None:
    monkeypatch.setattr(builder_module, "FINISH_LITERALS", 10)
    builder = make_builder()
    for n in range(25):
        builder.literal(n)
    assert len(list(builder.finish(builder.literal(24)))) == 3
    assert builder.graph.remaining == len(builder.graph.symbols) == 0


def finish(builder: GraphBuilder, answer: int) -> None:
    for _ in builder.finish(answer):
        pass
    builder.graph.check()


def test_a_call_s_numbers_are_its_arguments_and_all_else_is_referred_to() -> None:
    builder = make_builder()
    seven = builder.literal(7)
    total = builder.operation(PLUS, seven, seven)
    inner = builder.call("f", 1, [seven])
    outer = builder.call("images.g", 5, [inner, seven, total, inner])
    assert builder.value(outer) is None
    finish(builder, outer)
    assert builder.calls is not None
    assert builder.calls.arithmetic is not None
    f, g = builder.calls.calls.values()
    assert (f.name, f.handler, f.args, f.refs, f.missing) == ("f@1", "f", [7], (), 0)
    assert (g.name, g.handler) == ("images.g@5", "images.g")
    assert g.args == [Ref("f@1"), 7, Ref("#0"), Ref("f@1")]
    assert (g.refs, g.missing) == (("f@1", "#0"), 2)
    assert (f.readers, builder.calls.arithmetic) == ([g], {0: [(g, "#0")]})
    assert (builder.calls.answer, builder.calls.root) == (g, None)
    assert 100 < builder.calls.size < 1000


def test_operations_wait_for_the_calls_that_they_read() -> None:
    builder = make_builder()
    call, one = builder.call("f", 1, []), builder.literal(1)
    both = builder.operation(TIMES, call, call)
    left = builder.operation(PLUS, call, one)
    free = builder.operation(PLUS, one, one)
    root = builder.operation(PLUS, builder.operation(PLUS, both, left), free)
    finish(builder, root)
    assert builder.calls is not None
    assert sorted(builder.calls.calls["f@1"].edges) == [0, 1, 2]
    assert list(builder.graph.missing) == [2, 1, 0, 2, 2]
    assert list(builder.graph.ready) == [2]
    assert (builder.calls.answer, builder.calls.root) == (None, 4)


def test_a_call_is_no_integer_and_minus_a_call_is_an_operation() -> None:
    builder = make_builder()
    call = builder.call("f", 1, [])
    assert not call & builder_module.INTEGRAL
    assert builder.negation(call) == builder.operation(TIMES, call, builder.literal(-1))
    assert builder.graph.remaining == 1


def test_equal_calls_are_one_where_the_handler_is_pure() -> None:
    builder = make_builder(pure={"f"})
    values = [0, 0.0, -0.0, -0.0, 0.0, 0]
    calls = {builder.call("f", n, [builder.literal(value)]) for n, value in enumerate(values)}
    assert len(calls) == 3
    (one,) = {builder.call("f", 20, []), builder.call("f", 30, [])}
    assert builder.call("f", 40, [one]) == builder.call("f", 50, [one])
    assert builder.call("g", 60, [one]) != builder.call("g", 70, [one])
    assert builder.calls is not None
    assert builder.calls.remaining == len(builder.calls.calls) == 7
    assert [call.pure for call in builder.calls.calls.values()] == [True] * 5 + [False] * 2


def test_operations_are_looked_through_for_calls_in_slices(monkeypatch) -> None:
    monkeypatch.setattr(builder_module, "AWAITING_OPERATIONS", 3)
    builder = make_builder(10)
    operand = call = builder.call("f", 1, [])
    for _ in range(10):
        operand = builder.operation(PLUS, operand, call)
    assert len(list(builder.finish(operand))) >= 4
    assert builder.calls is not None
    assert sorted(builder.calls.calls["f@1"].edges) == [0, *range(1, 20, 2)]
