"""The accounting of effects: each that was begun, acknowledged, ended and told.

It does no input or output. It compares four witnesses: the marks that calls have left; what passed
between master and workers; what clients were told; and the last master's word about each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.causes import Causes
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.holds import SUCCEEDED, Hold, Holds
from torture.chaos.effects.jobs import Node
from torture.chaos.effects.marks import Mark, What
from torture.chaos.effects.story import Story
from torture.chaos.harms import Harms, Kind

EARLY_S = 0.05
"""Clocks and timers differ by no more than this."""

Found = Callable[[Anomaly, object, str], None]
NodesTold = Mapping[str, Mapping[str, Any]]
"""The calls of a job by name, as `GET /job/{id}/nodes` has them."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A beginning of a call, with the hold under which it was."""

    mark: Mark
    hold: Hold | None


class EffectAccounts:
    """Compares what witnesses say of effects.

    Args:
        found: is told of what must not happen.
        marks: all of them.
        nodes: the calls of each job, by the last master's word.

    Attributes:
        causes: how often calls were begun again, by cause.
    """

    def __init__(
        self,
        found: Found,
        marks: Sequence[Mark],
        holds: Holds,
        harms: Harms,
        clock: ClockHistory,
        causes: Causes,
        nodes: Mapping[int, NodesTold],
    ) -> None:
        self._found = found
        self._holds = holds
        self._harms = harms
        self._clock = clock
        self._causes = causes
        self._nodes = nodes
        self._marks: dict[str, list[Mark]] = {}
        for mark in marks:
            self._marks.setdefault(mark.call, []).append(mark)
        self.causes: Counter[str] = Counter()

    def verdict(self, stories: Iterable[Story]) -> None:
        """Look at every call of every job."""
        by_name: dict[str, list[Story]] = {}
        for story in stories:
            if story.number:
                first = story.first or story
                by_name.setdefault(first.job.text, []).append(story)
        for family in by_name.values():
            for name, node in family[0].job.nodes.items():
                self._look_at(family, name, node)

    def counts(self) -> dict[str, int]:
        """The numbers of effects that were begun, that ended, and whose end was acknowledged."""
        marks = [mark for marks in self._marks.values() for mark in marks]
        told = (hold for hold in self._holds.by_lease.values() if self._leaves_marks(hold))
        return {
            "effects_begun": sum(mark.what is What.BEGUN for mark in marks),
            "effects_ended": sum(mark.what is not What.BEGUN for mark in marks),
            "effects_acknowledged": sum(hold.accepted_at is not None for hold in told),
            "begun_again": self.causes.total(),
        }

    def _leaves_marks(self, hold: Hold) -> bool:
        return hold.job in self._nodes

    def _look_at(self, family: Sequence[Story], name: str, node: Node) -> None:
        """Look at one call of a job, and of those that run its failed part again."""
        call = family[0].job.call(name)
        holds = [hold for story in family for hold in self._holds.of(story.number, name)]
        by_lease = self._holds.by_lease
        # In the order of the leases: a worker that stood still begins what it had lost by then.
        begun = [
            Begun(mark, by_lease.get(mark.lease))
            for mark in sorted(self._marks.get(call, ()), key=lambda mark: mark.lease)
            if mark.what is What.BEGUN
        ]
        self._check_repeats(call, node, begun)
        self._check_acknowledged(call, begun, holds)
        for each in begun:
            story = self._story_of(each, family)
            self._check_order(call, node, story, each.mark)
            self._check_cancel(call, story, each)
        for story in family:
            told = self._nodes.get(story.number, {}).get(name)
            if told is not None:
                self._check_told(call, story, told, begun)

    def _story_of(self, begun: Begun, family: Sequence[Story]) -> Story:
        number = None if begun.hold is None else begun.hold.job
        return next((story for story in family if story.number == number), family[0])

    def _check_repeats(self, call: str, node: Node, begun: Sequence[Begun]) -> None:
        """Each beginning but the first has a cause; each hold has one beginning at most."""
        failures = 0
        for before, after in pairwise(begun):
            if after.hold is None or before.hold is None:
                continue  # It is found by itself.
            if after.hold is before.hold:
                self._repeated(call, after, "twice under one lease")
                continue
            if after.hold.job != before.hold.job:
                failures = 0
                continue  # A client wanted it; see `_check_acknowledged`.
            cause = self._causes.of(before.hold, before.mark.pid, after.hold.at)
            if cause == "retried":
                failures += 1
                cause = None if failures > node.retries else cause
            if cause is None:
                self._repeated(call, after, f"again, and nothing explains it, after {before.hold}")
            else:
                self.causes[cause] += 1
        for each in begun:
            if each.hold is None:
                self._repeated(call, each, "without having been handed over")

    def _check_acknowledged(self, call: str, begun: Sequence[Begun], holds: Sequence[Hold]) -> None:
        """None is handed over after its success was acknowledged, in this job or the first."""
        done = [hold for hold in holds if hold.said == SUCCEEDED and hold.accepted_at is not None]
        for each in begun:
            for hold in done:
                assert hold.accepted_at is not None
                if each.hold is not None and each.hold.at > hold.accepted_at:
                    self._repeated(call, each, "again after its end was acknowledged")

    def _repeated(self, call: str, begun: Begun, what: str) -> None:
        where = f"on {begun.mark.worker}, process {begun.mark.pid}, at {begun.mark.at:.3f}"
        self._found(Anomaly.REPEATED, (call, what), f"call {call} was begun {what} ({where})")

    def _check_order(self, call: str, node: Node, story: Story, mark: Mark) -> None:
        """It begins after the ends of what it waits for, and after its moment."""
        family = story.job
        for other in node.needs:
            ends = [
                each
                for each in self._marks.get(family.call(other), ())
                if each.what is not What.BEGUN and each.at <= mark.at
            ]
            is_well = any(each.what is What.ENDED for each in ends)
            if not is_well and not node.regardless:
                self._early(call, mark, f"before {other} had ended")
        if story.first is not None:
            return  # Its moments have passed.
        earliest = story.asked_at + node.delay_s - EARLY_S
        if node.delay_s and mark.at < earliest and not self._delay_moved(story, mark):
            self._early(call, mark, f"{earliest - mark.at:.2f} s before its delay was over")
        if node.not_before is not None and not self._clock.reached(
            node.not_before - EARLY_S, story.asked_at, mark.at
        ):
            self._early(call, mark, "before its moment")

    def _delay_moved(self, story: Story, mark: Mark) -> bool:
        """While no master runs, the clock counts for a delay, and it may have been set."""
        was_away = any(self._harms.to("master", story.asked_at, mark.at, (Kind.KILLED, Kind.ENDED)))
        return was_away and self._clock.was_set(story.asked_at, mark.at)

    def _early(self, call: str, mark: Mark, what: str) -> None:
        self._found(Anomaly.EARLY, (call, what), f"call {call} was begun {what} ({mark.at:.3f})")

    def _check_cancel(self, call: str, story: Story, begun: Begun) -> None:
        """After a confirmed cancel nothing is handed over, and after the end nothing begins."""
        confirmed_at, hold = story.cancelled_at, begun.hold
        if hold is None:
            return
        if confirmed_at is not None and hold.at > confirmed_at:
            text = f"call {call} was handed over after the cancel of job {story.number}"
            self._found(Anomaly.CANCELLED, call, text)
        gone_at = story.gone_at
        if gone_at is not None and begun.mark.at > gone_at:
            silent = (Kind.KILLED, Kind.ENDED, Kind.STOPPED, Kind.CUT, Kind.LATE)
            if not any(self._harms.to(hold.worker, hold.at - 1, begun.mark.at, silent)):
                text = f"call {call} was begun after job {story.number} had ended as cancelled"
                self._found(Anomaly.CANCELLED, call, text)

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
