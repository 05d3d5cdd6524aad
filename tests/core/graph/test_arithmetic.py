import pytest

from dte.core.graph.arithmetic import Graph


def make_graph(operations: int) -> Graph:
    graph = Graph()
    for _ in graph.reserve(operations):
        pass
    return graph


def plus(graph: Graph, left: int | float | None, right: int | float | None, *sources: int) -> int:
    """Add a sum; operands that are None come from `sources`, in order."""
    given = iter(sources)
    source1 = next(given) if left is None else -1
    source2 = next(given) if right is None else -1
    return graph.add(ord("+"), source1, left, source2, right)


def test_an_operation_with_literals_is_ready_at_once() -> None:
    graph = make_graph(1)
    node = plus(graph, 1, 2)
    assert list(graph.ready) == [node]
    assert graph.columns([node]) == ("+", [1], [2])
    graph.check()


def test_the_root_s_result_is_the_answer() -> None:
    graph = make_graph(1)
    node = plus(graph, 1, 2)
    assert graph.done(graph.take(1), [3]) == 3
    assert node == 0
    assert graph.remaining == 0
    graph.check()


def test_an_operation_waits_for_both_of_its_operands() -> None:
    graph = make_graph(3)
    left, right = plus(graph, 1, 2), plus(graph, 3, 4)
    root = plus(graph, None, None, left, right)
    assert graph.done([left], [3]) is None
    assert root not in graph.ready
    assert graph.done([right], [7]) is None
    assert root in graph.ready
    assert graph.columns([root]) == ("+", [3], [7])


def test_one_result_may_be_both_operands() -> None:
    graph = make_graph(2)
    shared = plus(graph, 1, 2)
    root = plus(graph, None, None, shared, shared)
    assert graph.done(graph.take(1), [3]) is None
    assert graph.columns([root]) == ("+", [3], [3])
    graph.check()


def test_one_result_goes_to_every_reader() -> None:
    graph = make_graph(4)
    shared = plus(graph, 1, 2)
    readers = [plus(graph, None, 10, shared), plus(graph, 20, None, shared)]
    graph.done(graph.take(1), [3])
    assert sorted(graph.ready) == readers
    assert graph.columns(readers) == ("++", [3, 20], [10, 3])
    graph.check()


def test_a_supplied_value_makes_operations_ready() -> None:
    graph = make_graph(3)
    first = plus(graph, 1, 2)
    second, third = plus(graph, None, 1, first), plus(graph, None, None, first, first)
    graph.take(1)
    graph.supply([2 * second, 2 * third], 0.5)
    assert list(graph.ready) == [second]
    graph.check()
    graph.supply([2 * third + 1], 7)
    assert list(graph.ready) == [second, third]
    assert graph.columns([second, third]) == ("++", [0.5, 0.5], [1, 7])
    graph.check()


def test_the_newest_ready_operation_is_taken_first() -> None:
    graph = make_graph(3)
    nodes = [plus(graph, n, n) for n in range(3)]
    assert list(graph.take(2)) == nodes[1:]
    assert list(graph.take(2)) == nodes[:1]
    assert list(graph.take(2)) == []


def test_what_is_given_back_is_ready_with_its_operands() -> None:
    graph = make_graph(1)
    plus(graph, 5, 6)
    taken = graph.take(1)
    graph.requeue(taken)
    assert graph.columns(graph.take(1)) == ("+", [5], [6])


def test_values_are_dropped_after_their_last_reader() -> None:
    graph = make_graph(2)
    first = plus(graph, 1, 2)
    plus(graph, None, 1, first)
    graph.done(graph.take(1), [3])
    assert graph.operands1[first] is graph.operands2[first] is None
    graph.done(graph.take(1), [4])
    assert graph.operands1 == graph.operands2 == [None, None]


def test_results_that_do_not_match_the_operations_are_refused() -> None:
    graph = make_graph(1)
    plus(graph, 1, 2)
    with pytest.raises(ValueError, match="shorter"):
        graph.done(graph.take(1), [])


def test_a_graph_has_no_room_beyond_what_is_reserved() -> None:
    graph = make_graph(1)
    plus(graph, 1, 2)
    with pytest.raises(IndexError):
        plus(graph, 1, 2)


def test_room_that_is_not_needed_is_given_back() -> None:
    graph = make_graph(10)
    plus(graph, 1, 2)
    graph.trim()
    assert len(graph.operands1) == len(graph.operands2) == len(graph.first_edge) == 1
    assert len(graph.next_edge) == 2
    graph.check()


def test_a_graph_is_freed_in_slices() -> None:
    graph = make_graph(5)
    assert graph.free(2)
    assert graph.free(2)
    assert not graph.free(2)


def test_check_notices_an_operation_without_operands() -> None:
    graph = make_graph(2)
    first = plus(graph, 1, 2)
    second = plus(graph, None, 1, first)
    graph.ready.append(second)
    with pytest.raises(AssertionError, match="misses operands"):
        graph.check()
