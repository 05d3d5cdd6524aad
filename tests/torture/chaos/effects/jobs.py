"""Jobs of calls that leave marks, each with what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any

from harness.workloads import Formula, Outcome
from torture.chaos.effects.handlers import ON_PURPOSE

CANCELLED = "cancelled"
HANDLERS = {"mark": 3, "mark_async": 1}
SECONDS = ((6, 0.02, 0.3), (3, 0.3, 1.0), (1, 1.0, 4.0))
"""How long calls last: how often, from, to. Some last longer than a lease."""
FLAKY_SHARE, BROKEN_SHARE, PAUSED_SHARE = 0.1, 0.08, 0.15
FAILS_ALWAYS = 10**6
RETRIES = 3
PAUSE_S = (0.2, 3.0)
PROCESS_ENDED = "the handler's process"
FAILED = (ON_PURPOSE, "skipped because")
"""The error of a job that fails as it should has one of these."""
AGAIN = " again"
"""A job that is run again has the name of the first, and this."""


@dataclass(frozen=True, slots=True)
class Node:
    """A call of a job.

    Attributes:
        operands: the nodes whose results it adds up.
        after: further nodes that end before it.
        regardless: it runs even if these have failed.
        fails: how often it raises an exception before it succeeds.
        retries: how often it is tried again.
        delay_s: how long after the submission it begins.
        not_before: a moment of the wall clock; None for none.
    """

    handler: str
    seconds: float
    weight: int
    operands: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    regardless: bool = False
    fails: int = 0
    retries: int = 0
    delay_s: float = 0.0
    not_before: float | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The nodes that end before it."""
        return self.operands + self.after

    def as_json(self, call: str) -> dict[str, Any]:
        """As `POST /jobs` takes it."""
        values = [{"ref": name} for name in self.operands]
        found: dict[str, Any] = {"handler": self.handler, "retries": self.retries}
        found["args"] = [call, self.seconds, self.weight, values, self.fails]
        if self.after:
            found["after"] = list(self.after)
        if self.regardless:
            found["when"] = "done"
        if self.delay_s:
            found["delay"] = self.delay_s
        if self.not_before is not None:
            found["not_before"] = datetime.fromtimestamp(self.not_before, UTC).isoformat()
        return found


@dataclass(frozen=True, slots=True)
class EffectJob(Formula):
    """A job of calls that leave marks; its text is the name by which it is recognised.

    Attributes:
        nodes: by name; each stands after those that it needs.
        notify: the URL that is told of its end; empty for none.
        after: the job that ends before it begins; None for none.
        cancels: somebody may cancel it.
        hurt: the names of jobs of whose calls a process was killed, so that they may fail.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    notify: str = ""
    after: int | None = None
    cancels: bool = False
    hurt: Set[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the job, or of the first of those that run its failed part again."""
        return self.text.removesuffix(AGAIN)

    def as_json(self) -> dict[str, Any]:
        """As `POST /jobs` takes it; the last node's result is the answer."""
        graph = {name: node.as_json(self.call(name)) for name, node in self.nodes.items()}
        found: dict[str, Any] = {"graph": graph, "answer": [*self.nodes][-1]}
        if self.notify:
            found["notify"] = self.notify
        if self.after is not None:
            found |= {"after": [self.after], "when": "done"}
        return found

    def call(self, node: str) -> str:
        """The name of a call in its marks."""
        return f"{self.name}/{node}"

    def allows(self, outcome: Outcome) -> bool:
        """True for an outcome that the job may have."""
        answer, error = outcome
        is_hurt = self.name in self.hurt
        if error is None:
            return is_hurt or (not self.reason and answer == repr(self.answer))
        if error == CANCELLED:
            return self.cancels
        if is_hurt and PROCESS_ENDED in error:
            return True
        return (is_hurt or bool(self.reason)) and any(text in error for text in FAILED)


def values_of(nodes: Mapping[str, Node]) -> dict[str, int | None]:
    """The results of calls that nobody harms; None for those that fail or are skipped."""
    values: dict[str, int | None] = {}
    for name, node in nodes.items():
        is_skipped = not node.regardless and any(values[each] is None for each in node.needs)
        if is_skipped or node.fails > node.retries:
            values[name] = None
        else:
            values[name] = node.weight + sum(values[each] or 0 for each in node.operands)
    return values


class EffectJobs:
    """Makes jobs of many shapes.

    Args:
        randoms: decides about everything.
        notify: the URL that is told of some jobs' ends.
        hurt: the names of jobs of whose calls a process was killed.
        wall_time: the time of the wall clock, in seconds since 1970.
    """

    def __init__(
        self, randoms: Random, notify: str, hurt: Set[str], wall_time: Callable[[], float]
    ) -> None:
        self._randoms = randoms
        self._hurt = hurt
        self._notify = notify
        self._wall_time = wall_time
        self._numbers = count(1)

    def one(self, known: Sequence[int], *, cancels: bool = False) -> EffectJob:
        """A job of any shape.

        Args:
            known: jobs after which it may begin.
            cancels: somebody may cancel it.
        """
        randoms = self._randoms
        shapes = (self._single, self._chain, self._diamond, self._tidied, self._fan)
        nodes = randoms.choice(shapes)()
        answer = values_of(nodes)[[*nodes][-1]]
        return EffectJob(
            f"effect-{next(self._numbers)}",
            answer,
            reason="" if answer is not None else ON_PURPOSE,
            nodes=nodes,
            notify=self._notify if randoms.random() < 0.6 else "",
            after=randoms.choice(known) if known and randoms.random() < 0.1 else None,
            cancels=cancels,
            hurt=self._hurt,
        )

    def again(self, job: EffectJob) -> EffectJob:
        """The job that a retry of a job is."""
        return EffectJob(
            job.text + AGAIN,
            job.answer,
            reason=job.reason,
            nodes=job.nodes,
            notify=job.notify,
            hurt=self._hurt,
        )

    def _node(self, *operands: str, after: tuple[str, ...] = (), regardless: bool = False) -> Node:
        randoms = self._randoms
        (length,) = randoms.choices(SECONDS, [weight for weight, _, _ in SECONDS])
        (handler,) = randoms.choices([*HANDLERS], [*HANDLERS.values()])
        fails, retries, chance = 0, 0, randoms.random()
        if chance < FLAKY_SHARE:
            fails, retries = randoms.randint(1, 2), RETRIES
        elif chance < FLAKY_SHARE + BROKEN_SHARE and not regardless:
            fails, retries = FAILS_ALWAYS, randoms.randint(0, 1)
        delay_s, not_before, chance = 0.0, None, randoms.random()
        if chance < PAUSED_SHARE:
            delay_s = round(randoms.uniform(*PAUSE_S), 2)
        elif chance < 2 * PAUSED_SHARE:
            not_before = round(self._wall_time() + randoms.uniform(*PAUSE_S), 2)
        seconds = round(randoms.uniform(*length[1:]), 2)
        weight = randoms.randint(1, 10**6)
        return Node(
            handler,
            seconds,
            weight,
            operands,
            after,
            regardless,
            fails,
            retries,
            delay_s,
            not_before,
        )

    def _single(self) -> dict[str, Node]:
        return {"call": self._node()}

    def _chain(self) -> dict[str, Node]:
        nodes = {"n0": self._node()}
        for number in range(1, self._randoms.randint(2, 4)):
            nodes[f"n{number}"] = self._node(f"n{number - 1}")
        return nodes

    def _diamond(self) -> dict[str, Node]:
        return {
            "top": self._node(),
            "left": self._node("top"),
            "right": self._node("top"),
            "bottom": self._node("left", "right"),
        }

    def _tidied(self) -> dict[str, Node]:
        """The last call runs whatever becomes of the first."""
        return {
            "first": self._node(),
            "second": self._node("first"),
            "tidy": self._node(after=("first", "second"), regardless=True),
        }

    def _fan(self) -> dict[str, Node]:
        names = tuple(f"part{number}" for number in range(self._randoms.randint(2, 5)))
        nodes = {name: self._node() for name in names}
        return nodes | {"all": self._node(*names[1:], after=names[:1])}
