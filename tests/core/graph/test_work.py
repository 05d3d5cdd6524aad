from core.graphs import said_of
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.arithmetic import Graph
from dte.core.graph.work import Work


def test_work_counts_its_calls_as_operations() -> None:
    assert parse("1+2*f(3+4)", FormulaLimits()).operations == 4


def test_work_that_cannot_be_read_fails_and_has_nothing_to_do() -> None:
    work = Work.failed("it cannot be read")
    assert work.graph.failure == "it cannot be read"
    assert (work.operations, work.value, work.calls) == (0, None, None)
    work.graph.failure = None
    assert said_of(work.graph) == said_of(Graph())
