"""Builds graphs of calls and single calls, as bodies of ``POST /jobs``.

All arguments of a call are the handler's own, whatever their names. Options of the call are set
separately, by `with_options`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from dte.client.exact import encode
from dte.client.job import Job
from dte.client.values import Node, check_value, plain
from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.handlers import NAMES

When = Literal["success", "done"]
AnyHandler = str | Callable[..., Any]
"""A handler: its name, or its function."""


class CallOptions(TypedDict, total=False):
    """Options of a call, and of waiting for it.

    Attributes:
        priority: calls with a higher priority run first; 0 by default.
        call_timeout_s: seconds after which a worker stops the call; the handler's default if not
            set.
        retries: the number of retries after a failure; the handler's default if not set.
        delay_s: seconds to wait before the call starts.
        not_before: the earliest start, a datetime with a time zone.
        after: jobs that must end before.
        when: ``"success"``: those jobs must succeed; ``"done"``: they may fail.
        notify: a URL to POST to when the job ends.
        key: an idempotency key: a repeated submission under this key returns the first job.
        timeout_s: seconds that `call` waits for the result; the job continues.
    """

    priority: int | None
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
    """Raise TypeError for an unknown option."""
    for name in options:
        if name not in CallOptions.__annotations__:
            known = ", ".join(CallOptions.__annotations__)
            raise TypeError(f"no option {name!r}; the options of a call are {known}")


def call_body(
    handler: AnyHandler,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    options: CallOptions,
) -> bytes:
    """Build the JSON of a job that is one call."""
    terms = _terms(options)
    job = _of_job(options.get("after", ()), options.get("when"), options.get("notify", ""))
    arguments = _arguments(args, named, None)
    return encode({"handler": handler_name(handler)} | arguments | terms | job)


def handler_name(handler: AnyHandler) -> str:
    """The name of a handler, given as such or as a function with one.

    Raises:
        TypeError: the function is not a handler, or has several names.
    """
    if isinstance(handler, str):
        return handler
    if not callable(handler):
        raise TypeError(f"the handler must be a name, not {type(handler).__name__}")
    name = getattr(handler, "__name__", "") or type(handler).__name__
    names: tuple[str, ...] = getattr(handler, NAMES, ())
    if len(names) == 1:
        return names[0]
    if names:
        raise TypeError(
            f"the function {name} is several handlers: {', '.join(names)}; give one of these names"
        )
    raise TypeError(
        f'the function {name} is not a handler; decorate it with @dte.handler("{name}") in a '
        f'module that workers load, and call it by that name: call("{name}", …)'
    )


class Graph:
    """Calls of handlers that use each other's results.

    ::

        graph = dte.Graph()
        primes = graph.call("primes", limit=100)
        copy = graph.with_options(priority=5, retries=2).call("echo", {"found": primes})
        print(client.run(graph, answer=copy))

    A node as an argument, at any depth of lists and dicts, stands for its result; the call waits
    for it. Arguments may be given by position, by name, or both.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Node:
        """Add a call of a handler.

        Raises:
            TypeError, ValueError: an argument cannot be converted to JSON.
        """
        return NodeOptions(self, "", {}).call(handler, *args, **named)

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
        """Set options for added calls: ``graph.with_options(retries=2).call(…)``.

        Args:
            name: the name of the node; by default its handler, with a number if needed.
            after: nodes that must end before, in addition to those among the arguments.
            priority: nodes with a higher priority run first; the job's priority by default.
            call_timeout_s, retries, not_before: see `dte.client.graphs.CallOptions`.
            delay_s: seconds to wait after the submission before the call starts.
            when: ``"success"``: the nodes before it must succeed; ``"done"``: they may fail, and
                the result of a failed one is None.
        """
        options: CallOptions = {
            "priority": priority,
            "call_timeout_s": call_timeout_s,
            "retries": retries,
            "delay_s": delay_s,
            "not_before": not_before,
        }
        terms = _terms(options)
        if names := [self.name_of(node) for node in _listed(after)]:
            terms["after"] = names
        if when != "success":
            terms["when"] = when
        return NodeOptions(self, name, terms)

    def name_of(self, node: Node | str) -> str:
        """Return the name of a node; raise ValueError if it is not in this graph."""
        name = node.name if isinstance(node, Node) else node
        if name not in self._nodes or (isinstance(node, Node) and node.graph is not self):
            of_other = isinstance(node, Node) and node.graph is not self
            other = "; it belongs to another graph" if of_other else ""
            raise ValueError(f"{name!r} is not a node of this graph{other}")
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
        """Build the JSON of a job for this graph, see `Client.submit_graph`."""
        job = _of_job(after, when, notify)
        if answer is not None:
            job["answer"] = self.name_of(answer)
        if priority:
            job["priority"] = priority
        return encode({"graph": self._nodes} | job)


def check_graph(graph: object) -> None:
    """Raise TypeError, with what would be right, for anything but a graph."""
    if not isinstance(graph, Graph):
        kind = type(graph).__name__
        raise TypeError(f"a dte.Graph is expected, not a {kind}; submit_plan takes a dict or JSON")


class _Several(msgspec.Struct):
    """A plan, as far as it says whether it makes several jobs."""

    jobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_several: Decoder[_Several] = Decoder(_Several, lenient=False)


def plan_body(plan: Mapping[str, Any] | bytes) -> bytes:
    """Build the JSON of a plan, see `Client.submit_plan`.

    Raises:
        TypeError: the plan is neither a dict nor JSON.
        ValueError: the plan makes several jobs.
    """
    if not isinstance(plan, Mapping | bytes):
        kind = type(plan).__name__
        raise TypeError(f"a plan is a dict, or JSON as bytes, not a {kind}")
    if isinstance(plan, bytes):
        with suppress(Malformed):  # The master says what is wrong.
            makes_several = isinstance(_several.decode(plan).jobs, msgspec.Raw)
            _check_one(makes_several)
        return plan
    _check_one("jobs" in plan)
    check_value(plan)
    return encode(plan)


def _check_one(makes_several: bool) -> None:
    if makes_several:
        raise ValueError(
            'submit_plan makes one job, and this plan has "jobs"; submit them one by one, or use '
            "map"
        )


class NodeOptions:
    """A graph with options for added calls, see `Graph.with_options`."""

    def __init__(self, graph: Graph, name: str, terms: Mapping[str, Any]) -> None:
        self._graph = graph
        self._name = name
        self._terms = terms

    def call(self, handler: AnyHandler, /, *args: Any, **named: Any) -> Node:
        """Add a call with these options, see `Graph.call`."""
        nodes, name = self._graph._nodes, self._name
        handler = handler_name(handler)
        if name in nodes:
            raise ValueError(f"the graph already has a node {name!r}")
        value = {"handler": handler, **_arguments(args, named, self._graph), **self._terms}
        count = len(nodes) + 1
        name = name or (handler if handler not in nodes else f"{handler}-{count}")
        while name in nodes:
            count += 1
            name = f"{handler}-{count}"
        nodes[name] = value
        return Node(self._graph, name)


def _terms(options: CallOptions) -> dict[str, Any]:
    not_before = options.get("not_before")
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError("not_before has no time zone; use datetime(…, tzinfo=UTC)")
    terms = {
        "priority": options.get("priority"),
        "timeout": options.get("call_timeout_s"),
        "retries": options.get("retries"),
        "delay": options.get("delay_s") or None,
        "not_before": not_before,
    }
    return {name: plain(value, None) for name, value in terms.items() if value is not None}


def _of_job(after: Iterable[Job | int], when: When | None, notify: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if numbers := [job.id if isinstance(job, Job) else job for job in _listed(after)]:
        fields["after"] = numbers
    if when is not None and when != "success":
        fields["when"] = when
    if notify:
        fields["notify"] = notify
    return fields


def _listed(after: Iterable[Any]) -> Iterable[Any]:
    """Return the nodes or jobs of ``after``; raise TypeError if it is one of them by itself."""
    if isinstance(after, (int, Job, Node)):
        raise TypeError(f"after takes a list, as in after=[…], not a {type(after).__name__}")
    return after


def _arguments(
    args: tuple[Any, ...], named: Mapping[str, Any], graph: Graph | None
) -> dict[str, Any]:
    """The fields of a call with its arguments."""
    name_of = graph.name_of if graph is not None else None
    if args and named:
        return {"args": plain(list(args), name_of), "kwargs": plain(dict(named), name_of)}
    return {"args": plain(dict(named) if named else list(args), name_of)}
