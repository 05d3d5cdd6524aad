"""Jobs with calls, each different from all others, with what may become of them.

Every call has, as its first argument, a tag that calls of other jobs do not have; equal calls of a
pure handler may share theirs. What a handler gives follows from its arguments alone, so that
anybody can tell whether a result is right, and whether arguments have the results they refer to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from zlib import crc32

import msgspec
from torture.simulation.world import World

from dte.core.graph.json_template import JsonTemplate
from dte.core.jobs.job import kept_task
from dte.wire.codec import encode
from dte.wire.messages.handlers import HandlerInfo

NAP_TIMEOUT_S = 1.0
HANDLERS: dict[str, HandlerInfo] = {
    "mix": HandlerInfo(pure=True),
    "effect": HandlerInfo(retries=1),
    "flaky": HandlerInfo(retries=2),
    "fatal": HandlerInfo(retries=3),
    "nap": HandlerInfo(timeout=NAP_TIMEOUT_S),
}
"""All but the first do something that must not be done again without need. The second argument of
flaky says how often it fails first, that of nap how long it takes; fatal fails, for good."""
FLAKY, FATAL = "flaky for once", "fatal for ever"
TAGS_OF_A_PLAN = 100
AFTER_MAX = 2


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A call of a job; of a formula's only tag, handler and arguments matter.

    Attributes:
        args: with ``{"ref": name}`` for results.
        retries: None for the handler's; likewise `timeout_s`.
        not_before: when it may begin, by the clock on the wall; 0 for any time.
        not_before_s: when it may begin, in the time of the world.
    """

    name: str
    tag: int
    handler: str
    args: Any
    refs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int | None = None
    timeout_s: float | None = None
    lost_max: int = 3
    whatever: bool = False
    not_before: float = 0.0
    not_before_s: float = 0.0

    @property
    def pure(self) -> bool:
        return HANDLERS[self.handler].pure

    @property
    def retries_max(self) -> int:
        return HANDLERS[self.handler].retries if self.retries is None else self.retries

    @property
    def may_time_out(self) -> bool:
        return self.timeout_s is not None or HANDLERS[self.handler].timeout is not None


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """A job with calls.

    Attributes:
        name: no other has it.
        body: what is posted to ``/jobs``.
        nodes: its calls by name; of a formula by tag.
        answer: the node whose result is the answer; None for all that nobody refers to.
        formula: its text, and what it comes to if no call fails; "" of a graph.
        after: the jobs that it waits for.
        made_at: when it was made, in the time of the world.
    """

    name: str
    body: Mapping[str, Any]
    nodes: Mapping[str, NodeSpec]
    answer: str | None = None
    formula: str = ""
    value: int | float | None = None
    after: Sequence[int] = ()
    whatever: bool = False
    made_at: float = 0.0

    @property
    def leaves(self) -> list[str]:
        """The nodes that no other refers to or waits for."""
        read = {name for node in self.nodes.values() for name in (*node.refs, *node.after)}
        return [name for name in self.nodes if name not in read]


def read(args: Any) -> Any:
    """Arguments, also where they are kept as JSON; without the results that go into them."""
    if isinstance(args, JsonTemplate):
        return msgspec.json.decode(args.fill(dict.fromkeys(args.names, b"null")))
    return msgspec.json.decode(args) if isinstance(args, msgspec.Raw) else args


def value_of(args: Any) -> int:
    """What every handler gives for these arguments, if it succeeds."""
    return crc32(encode(read(args)))


def tag_of(args: Any) -> int:
    """The tag among the arguments of a call."""
    args = read(args)
    tag = args["tag"] if isinstance(args, dict) else args[0]
    assert isinstance(tag, int)
    return tag


def filled(args: Any, values: Mapping[str, Any]) -> Any:
    """Arguments with values in the place of references."""
    if isinstance(args, dict):
        if args.keys() == {"ref"}:
            return values[args["ref"]]
        return {key: filled(item, values) for key, item in args.items()}
    if isinstance(args, list):
        return [filled(item, values) for item in args]
    return args


@dataclass(slots=True)
class PlanMaker:
    """Makes jobs with calls.

    Args:
        world: decides about their shape.
        waits: whether some wait for other jobs.

    Attributes:
        by_tag: every call made so far, with its job.
        made: every job by its name, and formulas by their texts.
    """

    world: World
    waits: bool
    by_tag: dict[int, tuple[PlanSpec, NodeSpec]] = field(default_factory=dict)
    made: dict[str, PlanSpec] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def random(self) -> Random:
        return self.world.random

    def some(self, known: Sequence[int]) -> PlanSpec:
        """A job.

        Args:
            known: jobs for which it may wait.
        """
        number = next(self._numbers)
        kind = self.random.random()
        if kind < 0.25:
            plan = self._formula(number)
        elif kind < 0.4:
            plan = self._lone(number)
        else:
            plan = self._graph(number, known)
        plan = replace(plan, made_at=self.world.now)
        self.made[plan.name] = plan
        if plan.formula:
            self.made[plan.formula] = self.made[kept_task(plan.formula)] = plan
        self.by_tag |= {node.tag: (plan, node) for node in plan.nodes.values()}
        return plan

    def _lone(self, number: int) -> PlanSpec:
        """One call."""
        node, body = self._node(number * TAGS_OF_A_PLAN, "call", {})
        del_keys = {"priority", "when", "lost_max"}
        body = {key: value for key, value in body.items() if key not in del_keys}
        node = replace(node, lost_max=3, whatever=False)
        body["priority"] = self._priority()
        return PlanSpec(f"plan {number}", body, {"call": node})

    def _graph(self, number: int, known: Sequence[int]) -> PlanSpec:
        random = self.random
        nodes: dict[str, NodeSpec] = {}
        bodies: dict[str, Any] = {}
        for place in range(random.choice((1, 2, 3, 4, 5, 9))):
            name = f"n{place}"
            nodes[name], bodies[name] = self._node(number * TAGS_OF_A_PLAN + place, name, nodes)
        names = list(nodes)
        random.shuffle(names)
        body: dict[str, Any] = {"graph": {name: bodies[name] for name in names}}
        answer = random.choice(names) if random.random() < 0.6 else None
        if answer is not None:
            body["answer"] = answer
        body["priority"] = self._priority()
        after: list[int] = []
        if self.waits and known and random.random() < 0.2:
            after = random.sample(known, min(len(known), random.randint(1, AFTER_MAX)))
            body["after"] = after
        whatever = random.random() < 0.5
        body["when"] = "done" if whatever else "success"
        return PlanSpec(f"plan {number}", body, nodes, answer, after=after, whatever=whatever)

    def _priority(self) -> int:
        return self.random.choice((-3, 0, 0, 0, 7))

    def _node(
        self, tag: int, name: str, before: Mapping[str, NodeSpec]
    ) -> tuple[NodeSpec, dict[str, Any]]:
        """A call that waits for some of those before, and its JSON."""
        random = self.random
        pure = [node for node in before.values() if node.pure and not node.refs and not node.after]
        if pure and random.random() < 0.2:
            same = random.choice(pure)
            twin = NodeSpec(name, same.tag, "mix", same.args)
            return twin, {"handler": "mix", "args": same.args}
        handler = random.choices(list(HANDLERS), (3, 4, 2, 0.3, 1.5))[0]
        refs = tuple(random.sample(list(before), min(len(before), random.choice((0, 1, 1, 2)))))
        after = tuple(random.sample(list(before), min(len(before), random.choice((0, 0, 0, 1)))))
        args = self._args(tag, handler, [{"ref": ref} for ref in refs])
        body: dict[str, Any] = {"handler": handler, "args": args}
        if after:
            body["after"] = list(after)
        retries = random.choice((0, 1, 3)) if random.random() < 0.3 else None
        if retries is not None:
            body["retries"] = retries
        timeout_s = None
        if handler == "nap" and random.random() < 0.5:
            timeout_s = body["timeout"] = random.choice((0.2, 3.0))
        whatever = random.random() < 0.2
        if whatever:
            body["when"] = "done"
        if random.random() < 0.3:
            body["priority"] = self._priority()
        not_before = not_before_s = 0.0
        if random.random() < 0.15:
            body["delay"] = delay_s = random.choice((0.05, 0.5, 2.0))
            not_before_s = self.world.now + delay_s
        elif random.random() < 0.15:
            now = datetime.fromtimestamp(self.world.wall_s, UTC)
            moment = now + timedelta(seconds=random.choice((-1.0, 0.05, 0.5, 2.0, 5.0)))
            body["not_before"], not_before = moment.isoformat(), moment.timestamp()
        lost_max = 3
        if random.random() < 0.1:
            lost_max = body["lost_max"] = random.choice((1, 2, 6))
        return (
            NodeSpec(
                *(name, tag, handler, args, refs, after, retries, timeout_s),
                *(lost_max, whatever, not_before, not_before_s),
            ),
            body,
        )

    def _args(self, tag: int, handler: str, more: list[Any]) -> Any:
        random = self.random
        extra: float = random.randrange(10)
        if handler == "flaky":
            extra = random.choice((0, 1, 1, 2, 5))
        elif handler == "nap":
            extra = random.choice((0.01, 0.1, 0.1, 0.5, 5.0))
        if random.random() < 0.3:
            return {"tag": tag, "extra": extra, "more": {"of it": more}}
        return [tag, extra, *more]

    def _formula(self, number: int) -> PlanSpec:
        """Arithmetic in which calls of handlers give numbers, and get them."""
        random = self.random
        nodes: dict[str, NodeSpec] = {}
        handlers = random.choices(("mix", "effect", "flaky"), (3, 3, 0.5), k=random.randint(1, 4))
        text, value = str(number + 1000), number + 1000
        for place, handler in enumerate(handlers):
            tag = number * TAGS_OF_A_PLAN + place
            extra = random.choice((0, 1)) if handler == "flaky" else random.randrange(10)
            args, inside = [tag, extra], f"{tag}, {extra}"
            for _ in range(random.randint(0, 2)):
                if random.random() < 0.5:
                    left, right = random.randint(1, 99), random.randint(1, 99)
                    args.append(left + right)
                    inside += f", {left}+{right}"
                else:
                    args.append(random.randint(1, 99))
                    inside += f", {args[-1]}"
            if nodes and random.random() < 0.4:
                args.append(value)
                inside, nested = f"{inside}, {text}", True
            else:
                nested = False
            nodes[str(tag)] = NodeSpec(str(tag), tag, handler, args)
            result = value_of(args)
            if nested:
                text, value = f"{handler}({inside})+{place}", result + place
            else:
                text, value = f"({text})*3-{handler}({inside})", value * 3 - result
        body = {"formula": text, "priority": self._priority()}
        return PlanSpec(f"plan {number}", body, nodes, None, text, value)
