"""Graphs of calls, as programs build them, and single calls: both as the JSON of ``POST /jobs``.

All that is given to a call is the handler's, whatever its arguments are named. How the call is to
be done is said apart, by `with_options`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Literal, TypedDict

from dte.client.exact import encode
from dte.client.job import Job

When = Literal["success", "done"]


class CallOptions(TypedDict, total=False):
    """How a call is to be done, and waited for.

    Attributes:
        priority: higher is sooner; 0 if it is not given.
        call_timeout_s: seconds after which a worker stops the call; the handler's own if it is not
            given.
        retries: how often it is tried again when it fails; the handler's own if it is not given.
        delay_s: seconds before which it is not begun.
        not_before: a moment, with its time zone, before which it is not begun.
        after: jobs that must have ended before.
        when: ``done`` to begin also when one of these failed, not only on ``success``.
        notify: a URL that is told when the job has ended.
        key: as for `submit`: the same key again gives the first job again.
        timeout_s: how long `call` waits for the result; the job goes on.
    """

    priority: int
    call_timeout_s: float | None
    retries: int | None
    delay_s: float
    not_before: datetime | None
    after: Iterable[Job | int]
    when: When
    notify: str
    key: str | None
    timeout_s: float | None


def check_options(options: Mapping[str, Any]) -> None:
    """Check the names of options.

    Raises:
        TypeError: there is no such option.
    """
    for name in options:
        if name not in CallOptions.__annotations__:
            known = ", ".join(CallOptions.__annotations__)
            raise TypeError(f"there is no option {name!r}; the options of a call are {known}")


def call_body(
    handler: str, args: tuple[Any, ...], named: Mapping[str, Any], options: CallOptions
) -> bytes:
    """The JSON of a job that is one call.

    Raises:
        TypeError, ValueError: an argument or an option cannot be sent.
    """
    terms = _terms(
        options.get("priority"),
        options.get("call_timeout_s"),
        options.get("retries"),
        options.get("delay_s", 0.0),
        options.get("not_before"),
    )
    job = _of_job(options.get("after", ()), options.get("when"), options.get("notify", ""))
    return encode({"handler": handler, "args": _arguments(args, named, None)} | terms | job)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A call in a graph. As an argument of another it stands for its result."""

    graph: Graph
    name: str


class Graph:
    """Calls of handlers, whose results go into each other.

    ::

        graph = dte.Graph()
        primes = graph.call("primes", limit=100)
        copy = graph.with_options(priority=5, retries=2).call("echo", {"found": primes})
        print(client.run(graph, answer=copy))

    A node as an argument, at any depth of lists and dicts, stands for its result, and is waited
    for. Arguments are given all by position or all by name.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def call(self, handler: str, /, *args: Any, **named: Any) -> Node:
        """Add a call of a handler.

        Raises:
            TypeError, ValueError: an argument cannot be sent.
        """
        return self._add(handler, args, named, "", {})

    def with_options(
        self,
        *,
        name: str = "",
        after: Iterable[Node] = (),
        priority: int | None = None,
        call_timeout_s: float | None = None,
        retries: int | None = None,
        delay_s: float = 0.0,
        not_before: datetime | None = None,
        when: When = "success",
    ) -> NodeOptions:
        """What is to hold for calls that are added: ``graph.with_options(retries=2).call(…)``.

        Args:
            name: what to call the node; its handler, with a number, if it is not given.
            after: nodes that must have ended before, besides those among its arguments.
            priority: higher is sooner; the job's if it is not given.
            call_timeout_s: seconds after which a worker stops it; the handler's if it is not given.
            retries: how often it is tried again when it fails; the handler's if it is not given.
            delay_s: seconds from the submission before which it is not begun.
            not_before: a moment, with its time zone, before which it is not begun.
            when: ``done`` to do it also when what it waits for failed; such a result is then None.
        """
        terms = _terms(priority, call_timeout_s, retries, delay_s, not_before)
        if names := [self.name_of(node) for node in after]:
            terms["after"] = names
        if when != "success":
            terms["when"] = when
        return NodeOptions(self, name, terms)

    def name_of(self, node: Node | str) -> str:
        """The name of a node of this graph.

        Raises:
            ValueError: it is none.
        """
        name = node.name if isinstance(node, Node) else node
        if name not in self._nodes or (isinstance(node, Node) and node.graph is not self):
            raise ValueError(f"{name!r} is no node of this graph")
        return name

    def body(
        self,
        answer: Node | str | None = None,
        *,
        priority: int = 0,
        after: Iterable[Job | int] = (),
        when: When = "success",
        notify: str = "",
    ) -> bytes:
        """The JSON of a job that does it, see `Client.submit_graph`."""
        job = _of_job(after, when, notify)
        if answer is not None:
            job["answer"] = self.name_of(answer)
        if priority:
            job["priority"] = priority
        return encode({"graph": self._nodes} | job)

    def _add(
        self,
        handler: str,
        args: tuple[Any, ...],
        named: Mapping[str, Any],
        name: str,
        terms: Mapping[str, Any],
    ) -> Node:
        if name in self._nodes:
            raise ValueError(f"there is a node {name!r} already")
        value = {"handler": handler, "args": _arguments(args, named, self), **terms}
        count = len(self._nodes) + 1
        name = name or (handler if handler not in self._nodes else f"{handler}-{count}")
        while name in self._nodes:
            count += 1
            name = f"{handler}-{count}"
        self._nodes[name] = value
        return Node(self, name)


class NodeOptions:
    """A graph with what holds for calls that are added, see `Graph.with_options`."""

    def __init__(self, graph: Graph, name: str, terms: Mapping[str, Any]) -> None:
        self._graph = graph
        self._name = name
        self._terms = terms

    def call(self, handler: str, /, *args: Any, **named: Any) -> Node:
        """As `Graph.call`."""
        return self._graph._add(handler, args, named, self._name, self._terms)


def _terms(
    priority: int | None,
    call_timeout_s: float | None,
    retries: int | None,
    delay_s: float,
    not_before: datetime | None,
) -> dict[str, Any]:
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError("not_before has no time zone: datetime(…, tzinfo=UTC) is expected")
    terms = {
        "priority": priority,
        "timeout": call_timeout_s,
        "retries": retries,
        "delay": delay_s or None,
        "not_before": not_before,
    }
    return {name: _plain(value, None) for name, value in terms.items() if value is not None}


def _of_job(after: Iterable[Job | int], when: When | None, notify: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if numbers := [job.id if isinstance(job, Job) else job for job in after]:
        fields["after"] = numbers
    if when is not None and when != "success":
        fields["when"] = when
    if notify:
        fields["notify"] = notify
    return fields


def _arguments(args: tuple[Any, ...], named: Mapping[str, Any], graph: Graph | None) -> Any:
    if args and named:
        raise TypeError(
            f"arguments by position ({len(args)}) and by name ({', '.join(named)}); give all in "
            "the same way"
        )
    return _plain(dict(named), graph) if named else _plain(list(args), graph)


def _plain(value: Any, graph: Graph | None) -> Any:
    """A value with a reference for each node in it, and nothing else that looks like one."""
    if isinstance(value, Node):
        if graph is None:
            raise ValueError(f"node {value.name!r} can be an argument in its graph only")
        return {"ref": graph.name_of(value)}
    if isinstance(value, dict):
        plain = {key: _plain(item, graph) for key, item in value.items()}
        if len(value) == 1 and ("literal" in value or isinstance(value.get("ref"), str)):
            if _has_node(value):
                raise ValueError('a dict with nothing but "literal" cannot have nodes in it')
            return {"literal": value}
        return plain
    if isinstance(value, list | tuple):
        return [_plain(item, graph) for item in value]
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} cannot be sent: JSON has no such number")
    return value


def _has_node(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_has_node, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Node)
