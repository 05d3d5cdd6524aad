"""The accounting of effects: each that was begun, acknowledged, ended and told.

It does no input or output. It compares four witnesses: the marks that calls have left; what passed
between master and workers; what clients were told; and the last master's word about each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.begun import Begun, Found
from torture.chaos.effects.cancels import check_begun
from torture.chaos.effects.causes import Causes
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.holds import Holds
from torture.chaos.effects.jobs import Node
from torture.chaos.effects.marks import Mark, What
from torture.chaos.effects.order import Order
from torture.chaos.effects.repeats import Repeats
from torture.chaos.effects.story import Story
from torture.chaos.harms import Harms

NodesTold = Mapping[str, Mapping[str, Any]]
"""The calls of a job by name, as `GET /job/{id}/nodes` has them."""


class EffectAccounts:
    """Compares what witnesses say of effects.

    Args:
        found: is told of what must not happen.
        marks: all of them.
        nodes: the calls of each job, by the last master's word.
        lease_s: the length of a lease.
    """

    def __init__(
        self,
        found: Found,
        marks: Iterable[Mark],
        holds: Holds,
        harms: Harms,
        clock: ClockHistory,
        nodes: Mapping[int, NodesTold],
        lease_s: float,
    ) -> None:
        self._found = found
        self._holds = holds
        self._harms = harms
        self._nodes = nodes
        self._marks: dict[str, list[Mark]] = {}
        for mark in marks:
            self._marks.setdefault(mark.call, []).append(mark)
        self._order = Order(found, self._marks, holds, harms, clock)
        self._repeats = Repeats(found, Causes(harms, lease_s))
        self._stories: dict[int, Story] = {}

    @property
    def causes(self) -> Counter[str]:
        """How often calls were begun again, by cause."""
        return self._repeats.by_cause

    def verdict(self, stories: Iterable[Story]) -> None:
        """Look at every call of every job."""
        self._stories = {story.number: story for story in stories if story.number}
        families: dict[str, list[Story]] = {}
        for story in self._stories.values():
            families.setdefault(story.job.name, []).append(story)
        for family in families.values():
            for name, node in family[0].job.nodes.items():
                self._look_at(family, name, node)

    def counts(self) -> dict[str, int]:
        """The numbers of effects that were begun, that ended, and whose end was acknowledged."""
        marks = [mark for marks in self._marks.values() for mark in marks]
        holds = [hold for hold in self._holds.by_lease.values() if hold.job in self._nodes]
        return {
            "effects_begun": sum(mark.what is What.BEGUN for mark in marks),
            "effects_ended": sum(mark.what is not What.BEGUN for mark in marks),
            "effects_acknowledged": sum(hold.accepted_at is not None for hold in holds),
            "begun_again": self.causes.total(),
        }

    def _look_at(self, family: Sequence[Story], name: str, node: Node) -> None:
        """Look at one call of a job, and of those that run its failed part again."""
        call = family[0].job.call(name)
        holds = [hold for story in family for hold in self._holds.of(story.number, name)]
        by_lease = self._holds.by_lease
        # In the order of the leases: a worker that stood still begins what it had lost by then.
        marks = sorted(self._marks.get(call, ()), key=lambda mark: mark.lease)
        raised = {mark.lease: mark.at for mark in marks if mark.what is What.RAISED}
        begun = [
            Begun(mark, by_lease.get(mark.lease), raised.get(mark.lease))
            for mark in marks
            if mark.what is What.BEGUN
        ]
        self._repeats.check(call, node.retries, begun, holds)
        for each in begun:
            story = self._story_of(each, family)
            awaited = self._stories.get(story.job.after or 0)
            self._order.check(call, node, story, each.mark, awaited)
            check_begun(self._found, self._harms, call, story, each)
        for story in family:
            told = self._nodes.get(story.number, {}).get(name)
            if told is not None:
                self._check_told(call, story, told, begun)

    def _story_of(self, begun: Begun, family: Sequence[Story]) -> Story:
        number = None if begun.hold is None else begun.hold.job
        return next((story for story in family if story.number == number), family[0])

    def _check_told(
        self, call: str, story: Story, told: Mapping[str, Any], begun: Sequence[Begun]
    ) -> None:
        """The master counts each attempt, and what it says has succeeded was really done."""
        own = [each for each in begun if each.hold is not None and each.hold.job == story.number]
        if told["attempts"] < len(own):
            text = f"call {call} of job {story.number} was begun {len(own)} times"
            self._found(Anomaly.UNCOUNTED, call, f"{text}, and has {told['attempts']} attempts")
        ended = any(mark.what is What.ENDED for mark in self._marks.get(call, ()))
        if told["state"] == "succeeded" and not ended:
            text = f"call {call} of job {story.number} has succeeded, and was never done"
            self._found(Anomaly.WRONG, call, text)
