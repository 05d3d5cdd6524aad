"""Plans: jobs that are more than a bare formula, as clients send them and the journal keeps them.

A plan has a graph of calls, or a formula, and the options of the job. Its JSON is all that is
needed to resume the job, so the journal has the JSON itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from typing import Any, Literal

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.formula.formula import FormulaLimits, parse, parse_in_slices
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import DEFAULT_TERMS, CallTerms
from dte.core.graph.call_builder import CallGraphBuilder
from dte.core.graph.json_template import JsonTemplate
from dte.core.graph.work import Work
from dte.core.jobs.job import Job
from dte.core.jobs.table import NewJob
from dte.master.arguments import read_arguments
from dte.master.checks import check_range, shown_number
from dte.master.parsing import NO_LIMITS
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.nesting import ARGUMENT_LEVELS_MAX

NODES_IN_SLICE, EDGES_IN_SLICE, BYTES_IN_SLICE = 200, 20_000, 100_000
SHORT_CHARS = 200
PRIORITY_MAX = 1_000_000
SECONDS_MAX = 10 * 366 * 86_400.0
RETRIES_MAX = 1_000
TASK_SHOWN = 100
When = Literal["success", "done"]
REFERENCES_MAX = 100_000
"""Bound on the references of a call; the bound on calls is one, too, if it is higher."""
NO_ARGS = msgspec.Raw(b"[]")
NO_TERMS = (None,) * 5
LOST_PLAN = '"lost"'
"""Stands in the journal for the text of a plan that was on a damaged page."""
EMPTY = re.compile(rb"\s*(?:\[\s*\]|\{\s*\})\s*")
"""The JSON of an empty list or object."""


class Node(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A node of a graph: one call of a handler.

    Attributes:
        handler: the name of the handler.
        args: a list of arguments, or an object of named ones. ``{"ref": "a"}`` anywhere in it
            stands for the result of node a. ``{"literal": …}`` passes its value through unchanged.
        kwargs: an object of named arguments beside a list of positional ones.
        after: further nodes that must end before.
        priority: higher is sooner; by default the job's.
        timeout: seconds after which a call is stopped; by default the handler's.
        retries: tries after a failure; by default the handler's.
        delay: seconds from the submission before which the call does not begin. They pass whatever
            the wall clock shows; while the master is away, those of the wall clock count.
        not_before: a moment before which the call does not begin.
        when: ``done`` to run the call also after failures, whose results are null then.
        lost_max: workers that the call may lose.
    """

    handler: str
    args: msgspec.Raw = msgspec.field(default_factory=lambda: NO_ARGS)
    after: list[str] = []
    priority: int | None = None
    timeout: float | None = None
    retries: int | None = None
    delay: float = 0.0
    not_before: datetime | None = None
    when: When = "success"
    lost_max: int | None = None
    kwargs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Plan(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A job that is more than a formula.

    Attributes:
        graph: the calls by name; empty for a formula.
        formula: the formula, if there is one.
        answer: the node whose result is the job's answer. By default it is the node that no other
            node waits for; if there are several, the answer is an object of their results.
        after: jobs that must end before this one begins.
        when: ``done`` to begin also after a failure of one of them.
        priority: higher is sooner.
        notify: the URL of a webhook for the job's end.
        retry_of: the job whose failed part this one runs again.
        accepted_at: when its delays began; None if it has none.
        about: data of a dialect.
        expects: ids of tasks that must end before, too, and that were not there at the submission.
        merged: the pure handlers of which equal calls are one; that one alone is recorded.
    """

    graph: dict[str, Node] = {}
    formula: str | None = None
    answer: str | None = None
    after: list[int] = []
    when: When = "success"
    priority: int = 0
    notify: str = ""
    retry_of: int | None = None
    accepted_at: datetime | None = None
    about: dict[str, Any] = {}
    expects: list[str] = []
    merged: list[str] = []


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """The bounds of one plan: of its formula or calls, and of the arguments of one call.

    Attributes:
        value_bytes_max: the bytes of the arguments.
        levels_max: the levels of nesting in the arguments.
    """

    formula: FormulaLimits
    value_bytes_max: int
    levels_max: int = ARGUMENT_LEVELS_MAX

    @property
    def references_max(self) -> int:
        """The references in the arguments."""
        return max(REFERENCES_MAX, self.formula.calls_max)


RESUMED_LIMITS = PlanLimits(NO_LIMITS, sys.maxsize)
"""A job that was accepted before a restart is not refused after it, if workers can read it."""
NO_PLAN_LIMITS = PlanLimits(NO_LIMITS, sys.maxsize, sys.maxsize)
"""A job that has ended is shown, whatever is in it."""

_plan: Decoder[Plan] = Decoder(Plan)
_any: Decoder[Any] = Decoder(Any, lenient=False)


def read_plan(text: str) -> Plan:
    """The plan that `plan_text` wrote."""
    return _plan.decode(text.encode())


def plan_text(plan: Plan) -> str:
    """The text of a plan for the journal."""
    return encode(plan).decode()


def describe(plan: Plan) -> str:
    """A line that describes a plan to people."""
    if plan.formula is not None:
        return plan.formula
    handlers = list(dict.fromkeys(node.handler for node in plan.graph.values()))
    if len(plan.graph) == 1:
        (node,) = plan.graph.values()
        raw, is_mixed = arguments_of(node)
        shown = _shown_args(raw)
        if is_mixed:
            assert isinstance(node.kwargs, msgspec.Raw)
            shown = f"{_shown_args(bytes(node.args))}, {_shown_args(bytes(node.kwargs))}"
        return f"{node.handler}({shown})"
    shown = ", ".join(handlers[:5]) + (", …" if len(handlers) > 5 else "")
    return f"{len(plan.graph)} calls: {shown}"


def _shown_args(raw: bytes) -> str:
    text = raw[: 4 * TASK_SHOWN].decode(errors="replace").strip()[1:]
    if len(raw) <= TASK_SHOWN:
        with suppress(Malformed):
            args = _any.decode(raw)
            if isinstance(args, dict):
                return ", ".join(f"{key}={encode(args[key]).decode()}" for key in args)
        return text[:-1]
    return f"{text[:TASK_SHOWN]}…"


def begin_delays(plan: Plan, now: datetime) -> None:
    """Check delays, and note when they begin, so that they do not begin anew after a restart."""
    for name, node in plan.graph.items():
        if node.delay:
            if not 0 <= node.delay <= SECONDS_MAX:
                expected = f"delay must be from 0 to {SECONDS_MAX:,.0f} seconds"
                raise InvalidRequest(f"node {name!r}: {expected}, not {shown_number(node.delay)}")
            plan.accepted_at = now


def shorten_delays(plan: Plan, now: datetime) -> None:
    """Leave of delays what is not over, so that a job that is run again does not wait anew."""
    begun_at, plan.accepted_at = plan.accepted_at or now, None
    for node in plan.graph.values():
        node.delay = max(0.0, min(node.delay, node.delay - (now - begun_at).total_seconds()))


def build(
    plan: Plan, limits: PlanLimits, accepted_at: float = 0.0, pure: Collection[str] = ()
) -> Generator[None, None, Work]:
    """Turn a plan into work, in slices.

    Args:
        accepted_at: the moment from which delays count, on the core's clock.
        pure: names of handlers known to be pure.

    Raises:
        InvalidRequest: the plan is invalid; the message names the node.
        TooLarge: the plan exceeds a bound.
    """
    if plan.formula is not None:
        if len(plan.formula) <= SHORT_CHARS:  # Each would be several slices.
            return parse(plan.formula, limits.formula, pure)
        return (yield from parse_in_slices(plan.formula, limits.formula, pure))
    calls_max = limits.formula.calls_max
    if len(plan.graph) > calls_max:
        raise TooLarge(f"graph too large: {len(plan.graph)} nodes > {calls_max} (calls_max)")
    builder = CallGraphBuilder(pure, plan.about.get("dialect", ""))
    size = edges = 0
    for count, (name, node) in enumerate(plan.graph.items()):
        raw, is_mixed = arguments_of(node)
        node_size = len(raw)
        if node_size > limits.value_bytes_max:
            excess = f"{node_size} bytes > {limits.value_bytes_max} (value_bytes_max)"
            raise TooLarge(f"node {name[:50]!r}: args too large: {excess}")
        try:
            if is_mixed:
                _check_mix(node)
            args = yield from read_arguments(
                raw,
                limits.references_max,
                limits.levels_max,
                is_mixed=is_mixed,
                is_pure=node.handler in pure,
            )
            terms = _terms(node, accepted_at)
        except (InvalidRequest, TooLarge) as error:
            raise type(error)(f"node {name[:50]!r}: {error}") from None
        refs = args.names if isinstance(args, JsonTemplate) else ()
        builder.add(name, node.handler, args, refs, node.after, terms, node_size, is_mixed)
        size += node_size
        edges += len(node.after)
        if (
            count % NODES_IN_SLICE == NODES_IN_SLICE - 1
            or edges > EDGES_IN_SLICE
            or size > BYTES_IN_SLICE
        ):
            size = edges = 0
            yield
    yield from builder.finish(plan.answer)
    return Work(Graph(), calls=builder.graph)


def merged_handlers(plan: Plan, work: Work) -> list[str]:
    """The handlers of which equal calls became one when a plan was built."""
    if work.calls is None:
        return []
    return sorted({plan.graph[name].handler for name in work.calls.aliases if name in plan.graph})


def arguments_of(node: Node) -> tuple[bytes, bool]:
    """The JSON of a node's arguments, and True if it is an object of positional and named ones."""
    args = bytes(node.args)
    if isinstance(node.kwargs, msgspec.UnsetType):
        return args, False
    kwargs = bytes(node.kwargs)
    if EMPTY.fullmatch(kwargs):
        return args, False
    if EMPTY.fullmatch(args) and kwargs.lstrip().startswith(b"{"):
        return kwargs, False
    return b'{"args":%s,"kwargs":%s}' % (args, kwargs), True


def _check_mix(node: Node) -> None:
    """Check that a node's positional arguments are a list and its named ones are an object."""
    assert isinstance(node.kwargs, msgspec.Raw)
    if bytes(node.args).lstrip()[:1] != b"[":
        raise InvalidRequest("args must be a list (positional) beside kwargs")
    if bytes(node.kwargs).lstrip()[:1] != b"{":
        raise InvalidRequest("kwargs must be an object (named arguments)")


def _terms(node: Node, accepted_at: float) -> CallTerms:
    terms = (node.priority, node.timeout, node.retries, node.lost_max, node.not_before)
    if terms == NO_TERMS and not node.delay and node.when == "success":
        return DEFAULT_TERMS
    check_priority(node.priority or 0)
    for field, value, least, most in (
        ("timeout", node.timeout, 0.001, SECONDS_MAX),
        ("retries", node.retries, 0, RETRIES_MAX),
        ("lost_max", node.lost_max, 1, RETRIES_MAX),
    ):
        if value is not None and not least <= value <= most:
            expected = f"{field} must be from {least:,} to {most:,.0f}"
            raise InvalidRequest(f"{expected}, not {shown_number(value)}")
    moment = node.not_before
    if moment is not None:
        _check_moment(moment)
    return CallTerms(
        node.priority,
        node.timeout,
        node.retries,
        node.lost_max,
        None if moment is None else moment.timestamp(),
        node.when == "done",
        accepted_at + node.delay if node.delay else None,
    )


def _check_moment(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise InvalidRequest("not_before needs a time zone, as in 2030-01-31T12:00:00Z")
    if moment.year >= MAXYEAR:  # Another clock may show it in a year that cannot be written.
        raise InvalidRequest(f"not_before must be before the year {MAXYEAR}")


def check_priority(priority: int) -> None:
    """Raise `InvalidRequest` if a priority is out of range."""
    check_range("priority", priority, -PRIORITY_MAX, PRIORITY_MAX)


def new_job(plan: Plan, task: str, text: str, work: Work, awaited: Sequence[Job]) -> NewJob:
    """A plan's job, to be accepted or resumed.

    Args:
        task: a description for people.
        text: the plan as JSON.
        awaited: the jobs that must end before it begins.

    Raises:
        InvalidRequest: the plan is a formula without calls, which cannot wait.
    """
    if awaited and work.calls is None:
        raise InvalidRequest("after: a formula without calls cannot wait for other jobs")
    run_on_failure = plan.when == "done"
    expects = plan.expects if work.calls is not None else ()
    return NewJob(
        task,
        work,
        text,
        plan.priority,
        plan.notify,
        awaited,
        run_on_failure,
        expects,
        plan.retry_of,
    )
