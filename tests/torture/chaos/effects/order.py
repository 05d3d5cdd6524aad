"""The law of order: a call begins after what it waits for, and after its moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.begun import Found
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.holds import Holds
from torture.chaos.effects.jobs import Node
from torture.chaos.effects.marks import Mark, What
from torture.chaos.effects.story import Story
from torture.chaos.harms import DEATHS, MASTER, Harms

EARLY_S = 0.05
"""Clocks and timers differ by no more than this."""
TOLD_S = 1.0
"""An acknowledgement is seen so much later than it is made, at most."""


class Order:
    """Looks at one beginning after the other. Leases are numbered in the order of their making.

    Args:
        marks: those of each call, by its name.
    """

    def __init__(
        self,
        found: Found,
        marks: Mapping[str, Sequence[Mark]],
        holds: Holds,
        harms: Harms,
        clock: ClockHistory,
    ) -> None:
        self._found = found
        self._marks = marks
        self._holds = holds
        self._harms = harms
        self._clock = clock

    def check(self, call: str, node: Node, story: Story, mark: Mark, awaited: Story | None) -> None:
        """Look at a beginning of a call.

        Args:
            story: that of its job.
            awaited: that of the job after which this one begins; None for none.
        """
        for other in node.needs:
            ended = any(
                each.what is What.ENDED and each.at <= mark.at
                for each in self._marks.get(story.job.call(other), ())
            )
            later = any(hold.lease > mark.lease for hold in self._holds.of(story.number, other))
            if later or (not ended and not node.regardless):
                self._early(call, mark, f"before {other} had ended")
        if awaited is not None and self._is_busy(awaited, mark):
            self._early(call, mark, f"before job {awaited.number} had ended")
        if story.first is None:  # Else its moments have passed.
            self._check_moments(call, node, story, mark)

    def _is_busy(self, story: Story, mark: Mark) -> bool:
        """True if a call of a job was leased later, or its end was acknowledged later."""
        return any(
            hold.lease > mark.lease or (hold.accepted_at or 0.0) > mark.at + TOLD_S
            for name in story.job.nodes
            for hold in self._holds.of(story.number, name)
        )

    def _check_moments(self, call: str, node: Node, story: Story, mark: Mark) -> None:
        earliest = story.asked_at + node.delay_s - EARLY_S
        if node.delay_s and mark.at < earliest and not self._delay_moved(story, mark):
            self._early(call, mark, f"{earliest - mark.at:.2f} s before its delay was over")
        if node.not_before is not None and not self._clock.reached(
            node.not_before - EARLY_S, story.asked_at, mark.at
        ):
            self._early(call, mark, "before its moment")

    def _delay_moved(self, story: Story, mark: Mark) -> bool:
        """While no master runs, the clock counts for a delay, and it may have been set."""
        was_away = any(self._harms.to(MASTER, story.asked_at, mark.at, DEATHS))
        return was_away and self._clock.was_set(story.asked_at, mark.at)

    def _early(self, call: str, mark: Mark, what: str) -> None:
        self._found(Anomaly.EARLY, (call, what), f"call {call} was begun {what} ({mark.at:.3f})")
