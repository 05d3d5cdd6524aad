"""Jobs of calls, written down so that they can be built again and again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import DEFAULT_TERMS, CallTerms, Ref
from dte.core.graph.call_builder import CallGraphBuilder
from dte.core.graph.calls import CallGraph
from dte.core.graph.work import Work
from dte.core.jobs.table import NewJob

if TYPE_CHECKING:
    from dte.core.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Node:
    """A call of a graph."""

    handler: str
    args: Any = ()
    after: tuple[str, ...] = ()
    terms: CallTerms = DEFAULT_TERMS


def call(
    handler: str,
    *args: Any,
    after: Collection[str] = (),
    named: Mapping[str, Any] | None = None,
    **terms: Any,
) -> Node:
    """A call with these arguments, or these named ones."""
    return Node(
        handler, list(args) if named is None else dict(named), tuple(after), CallTerms(**terms)
    )


def refs_in(value: Any) -> Iterator[str]:
    """The names of the calls to which arguments refer."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from refs_in(item)


def built(
    nodes: Mapping[str, Node],
    answer: str | None = None,
    pure: Collection[str] = (),
    origin: str = "",
) -> CallGraph:
    """A graph of calls.

    Raises:
        InvalidRequest: something is wrong with it.
    """
    builder = CallGraphBuilder(pure, origin)
    for name, node in nodes.items():
        refs = list(refs_in(node.args))
        builder.add(name, node.handler, node.args, refs, node.after, node.terms, size=10)
    for _ in builder.finish(answer):
        pass
    return builder.graph


@dataclass(slots=True, eq=False)
class Plan:
    """A job of calls.

    Attributes:
        nodes: its calls, if it is a graph.
        text: its formula, if it is one.
        after: the numbers of the jobs that it waits for.
        run_on_failure: it does so also when one of them fails.
        origin: the dialect of its calls.
    """

    nodes: Mapping[str, Node]
    text: str | None = None
    answer: str | None = None
    after: list[int] = field(default_factory=list)
    run_on_failure: bool = False
    priority: int = 0
    origin: str = ""

    @property
    def task(self) -> str:
        return self.text or f"{len(self.nodes)} calls"

    def new_job(self, core: Scheduler, text: str) -> NewJob:
        """The job as the core takes it, built anew.

        Args:
            text: what is recorded of the plan.
        """
        pure = core.handlers.pure
        if self.text is not None:
            work = parse(self.text, FormulaLimits(), pure)
        else:
            work = Work(Graph(), None, built(self.nodes, self.answer, pure, self.origin))
        awaited = [core.jobs.job(number) for number in self.after]
        return NewJob(
            self.task,
            work,
            text,
            self.priority,
            awaited=awaited,
            run_on_failure=self.run_on_failure,
        )
