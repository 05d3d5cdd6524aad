import pytest

from dte.core import builder as builder_module
from dte.core.builder import GraphBuilder

PLUS, TIMES, OVER = map(ord, "+*/")


def make_builder(operations_max: int = 10) -> GraphBuilder:
    builder = GraphBuilder(operations_max)
    for _ in builder.reserve():
        pass
    return builder


def test_equal_literals_are_one_operand() -> None:
    builder = make_builder()
    assert builder.literal(7) == builder.literal(7)
    assert builder.literal(0.5) == builder.literal(0.5)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0, 0.0), (0.0, -0.0), (0, -0.0)])
def test_numbers_that_python_calls_equal_but_are_not_the_same_are_two(one, other) -> None:
    builder = make_builder()
    assert builder.literal(one) != builder.literal(other)
    assert repr(builder.value(builder.literal(one))) == repr(one)
    assert repr(builder.value(builder.literal(other))) == repr(other)


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
    assert len(list(builder.finish())) == 3
    assert builder.graph.remaining == len(builder.graph.symbols) == 0
