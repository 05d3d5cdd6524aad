"""Plans: jobs that are more than a bare formula, as clients send them and the journal keeps them.

A plan has a graph of calls, or a formula, and what holds for the job as a whole. Its JSON is all
that is needed to begin the job again, so it is recorded as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from typing import Any, Literal

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.formula.formula import FormulaLimits, parse_in_slices
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import DEFAULT_TERMS, CallTerms, Ref
from dte.core.graph.call_builder import CallGraphBuilder
from dte.core.graph.work import Work
from dte.wire.codec import Decoder, Malformed, encode

NODES_IN_SLICE = 200
DEPTH_MAX = 100
PRIORITY_MAX = 1_000_000
SECONDS_MAX = 10 * 366 * 86_400.0
RETRIES_MAX = 1_000
TASK_SHOWN = 100
When = Literal["success", "done"]
NO_ARGS = msgspec.Raw(b"[]")
NO_TERMS = (None,) * 5
READ_MARKS = re.compile(rb'"ref"|"literal"|\\u')
"""What arguments have that are to be looked into; others are passed on as they are."""
MERGED_BYTES_MAX = 10_000
"""Longer arguments are not compared with those of other calls of a pure handler."""


class Node(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A node of a graph: one call of a handler.

    Attributes:
        handler: what to call.
        args: a list of arguments, or an object of named ones. ``{"ref": "a"}`` anywhere in it
            stands for the result of node a; ``{"literal": …}`` for just what it has.
        after: nodes that must have ended before, besides those.
        priority: higher is sooner; the job's if it is not given.
        timeout: seconds after which a call is stopped; the handler's if it is not given.
        retries: how often a call that fails is tried again; the handler's if it is not given.
        delay: seconds from the submission before which it is not begun.
        not_before: a moment before which it is not begun.
        when: ``done`` to do it also when what it waits for failed; such a result is then null.
        lost_max: how many workers it may lose.
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


class Plan(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A job that is more than a formula.

    Attributes:
        graph: its calls by name; empty if it has a formula.
        formula: its formula, if it has one.
        answer: the node whose result is the job's answer. Without it the answer is the result of
            the one node that no other waits for; of several, an object of all these results.
        after: jobs that must have ended before it begins.
        when: ``done`` to begin also when one of these failed.
        priority: higher is sooner.
        notify: a URL that is told when the job has ended.
        retry_of: the job whose failed part this one does again.
        about: what a dialect wants to know of it again.
    """

    graph: dict[str, Node] = {}
    formula: str | None = None
    answer: str | None = None
    after: list[int] = []
    when: When = "success"
    priority: int = 0
    notify: str = ""
    retry_of: int | None = None
    about: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """The bounds of one plan: calls, and bytes of the arguments of one."""

    calls_max: int = 100_000
    value_bytes_max: int = 16_000_000


NO_PLAN_LIMITS = PlanLimits(sys.maxsize, sys.maxsize)
"""What was accepted before a restart is not refused after it."""

_plan: Decoder[Plan] = Decoder(Plan)
_any: Decoder[Any] = Decoder(Any, lenient=False)


def read_plan(text: str) -> Plan:
    """A plan from the journal.

    Raises:
        Malformed: it is none.
    """
    return _plan.decode(text.encode())


def plan_text(plan: Plan) -> str:
    """A plan as the journal keeps it."""
    return encode(plan).decode()


def describe(plan: Plan) -> str:
    """What a plan is, in a line for people."""
    if plan.formula is not None:
        return plan.formula
    handlers = list(dict.fromkeys(node.handler for node in plan.graph.values()))
    if len(plan.graph) == 1:
        (node,) = plan.graph.values()
        return f"{node.handler}({_shown_args(bytes(node.args))})"
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


def raw_json(value: Any) -> msgspec.Raw:
    """A value as the JSON that it is kept as."""
    return msgspec.Raw(encode(value))


def set_moments(plan: Plan, now: datetime) -> None:
    """Turn delays into moments, as a restart does not know any more when they began."""
    for name, node in plan.graph.items():
        if node.delay:
            if not 0 <= node.delay <= SECONDS_MAX:
                raise InvalidRequest(
                    f"node {name!r}: delay is {node.delay:g}; seconds from 0 to {SECONDS_MAX:g} "
                    "are expected"
                )
            moment = datetime.fromtimestamp(now.timestamp() + node.delay, UTC)
            if node.not_before is not None:
                _check_moment(node.not_before, f"node {name!r}: ")
            node.not_before = max(node.not_before or moment, moment)
            node.delay = 0.0


def build(
    plan: Plan,
    limits: PlanLimits,
    formula_limits: FormulaLimits,
    wall_offset_s: float,
    pure: Collection[str] = (),
) -> Generator[None, None, Work]:
    """Make of a plan what is to be done, in slices.

    Args:
        wall_offset_s: what turns moments of the core's clock into seconds since 1970.
        pure: names of handlers known to be pure.

    Raises:
        InvalidRequest: something in it is wrong; the message names the node.
        TooLarge: it exceeds a bound.
    """
    if plan.formula is not None:
        return (yield from parse_in_slices(plan.formula, formula_limits, pure))
    if len(plan.graph) > limits.calls_max:
        raise TooLarge(
            f"the graph has {len(plan.graph)} nodes; this master takes up to {limits.calls_max} "
            "(calls_max)"
        )
    builder = CallGraphBuilder(pure)
    size = 0
    for count, (name, node) in enumerate(plan.graph.items()):
        raw = bytes(node.args)
        node_size = len(raw)
        if node_size > limits.value_bytes_max:
            raise TooLarge(
                f"node {name[:50]!r}: its args have {node_size} bytes; this master takes up to "
                f"{limits.value_bytes_max} (value_bytes_max)"
            )
        refs: dict[str, None] = {}
        try:
            args = _read_args(raw, refs, is_pure=node.handler in pure)
            terms = _terms(node, wall_offset_s)
        except InvalidRequest as error:
            raise InvalidRequest(f"node {name[:50]!r}: {error}") from None
        builder.add(name, node.handler, args, refs, node.after, terms, node_size)
        size += node_size
        if count % NODES_IN_SLICE == NODES_IN_SLICE - 1 or size > limits.value_bytes_max:
            size = 0
            yield
    yield from builder.finish(plan.answer)
    return Work(Graph(), calls=builder.graph)


def _read_args(raw: bytes, refs: dict[str, None], *, is_pure: bool) -> Any:
    """Arguments as they are kept: what has no references in it is passed on as it is.

    Args:
        refs: gets the names of the references.
        is_pure: whether equal calls become one, so that it is to be seen whether they are equal.
    """
    if raw.lstrip()[:1] not in (b"[", b"{"):
        raise InvalidRequest("args are a list, or an object of named ones")
    has_marks = READ_MARKS.search(raw) is not None
    if has_marks or (is_pure and len(raw) <= MERGED_BYTES_MAX):
        try:
            args = _with_refs(_any.decode(raw), refs, 0)
        except Malformed as error:
            if has_marks:
                raise InvalidRequest(f"args cannot be read: {error}") from None
        else:
            if not isinstance(args, list | dict):
                raise InvalidRequest("args are a list, or an object of named ones")
            return args
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("args are not in UTF-8") from None
    return msgspec.Raw(raw)


def _with_refs(value: Any, refs: dict[str, None], depth: int) -> Any:
    """JSON with a `Ref` for each reference, whose names go into `refs`."""
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"args nest more than {DEPTH_MAX} deep")
    if isinstance(value, dict):
        if len(value) == 1:
            if "literal" in value:
                return value["literal"]
            name = value.get("ref")
            if isinstance(name, str):
                refs[name] = None
                return Ref(name)
        return {key: _with_refs(item, refs, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_refs(item, refs, depth + 1) for item in value]
    return value


def _terms(node: Node, wall_offset_s: float) -> CallTerms:
    said = (node.priority, node.timeout, node.retries, node.lost_max, node.not_before)
    if said == NO_TERMS and node.when == "success":
        return DEFAULT_TERMS
    check_priority(node.priority or 0)
    for field, value, least, most in (
        ("timeout", node.timeout, 0.001, SECONDS_MAX),
        ("retries", node.retries, 0, RETRIES_MAX),
        ("lost_max", node.lost_max, 1, RETRIES_MAX),
    ):
        if value is not None and not least <= value <= most:
            shown = f"{value:g}" if isinstance(value, float) else value  # It may be too long for g.
            raise InvalidRequest(f"{field} is {shown}; {least:g} to {most:g} is expected")
    moment = node.not_before
    if moment is not None:
        _check_moment(moment)
    return CallTerms(
        node.priority,
        node.timeout,
        node.retries,
        node.lost_max,
        None if moment is None else moment.timestamp() - wall_offset_s,
        node.when == "done",
    )


def _check_moment(moment: datetime, place: str = "") -> None:
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"{place}not_before has no time zone: 2030-01-31T12:00:00Z is expected"
        )
    if moment.year >= MAXYEAR:  # By another clock it may be in a year that cannot be written.
        raise InvalidRequest(f"{place}not_before is in the year {MAXYEAR}; an earlier is expected")


def check_priority(priority: int) -> None:
    """Check a priority.

    Raises:
        InvalidRequest: it is beyond the bound.
    """
    if abs(priority) > PRIORITY_MAX:
        raise InvalidRequest(
            f"priority is {priority}; -{PRIORITY_MAX} to {PRIORITY_MAX} is expected"
        )
