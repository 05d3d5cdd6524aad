"""The law of cancels: once one is confirmed the job ends as cancelled, and no call starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.begun import Begun, Found
from torture.chaos.effects.jobs import CANCELLED
from torture.chaos.effects.story import Story
from torture.chaos.harms import Harms
from torture.chaos.outcome import Outcome

HARMED_S = 1.0
"""A harm to a worker is felt so long after it is over."""
SEEN_S = 0.5
"""A hand-over is seen so much later than it is made, at most."""


def check_cancels(
    found: Found, stories: Iterable[Story], standing: Mapping[int, Outcome | None]
) -> int:
    """Look at every cancel that was confirmed; how many there were."""
    confirmed = [story for story in stories if story.cancelled_at is not None]
    for story in confirmed:
        outcome = standing.get(story.number)
        if outcome != Outcome.of_error(CANCELLED):
            text = f"the cancel of job {story.number} was confirmed, and it is {outcome}"
            found(Anomaly.CANCELLED, story.number, text)
    return len(confirmed)


def check_begun(found: Found, harms: Harms, call: str, story: Story, begun: Begun) -> None:
    """Look at a beginning of a call: nothing is handed over, and after the end nothing begins."""
    hold, confirmed_at, gone_at = begun.hold, story.cancelled_at, story.gone_at
    if hold is None:
        return
    # What a worker was given comes late through a slow link, and it may not be told of the cancel.
    harmed = any(harms.to(hold.worker, hold.at - HARMED_S, begun.mark.at))
    if confirmed_at is not None and hold.at > confirmed_at + SEEN_S and not harmed:
        text = f"call {call} was handed over after the cancel of job {story.number}"
        found(Anomaly.CANCELLED, call, text)
    if gone_at is not None and begun.mark.at > gone_at and not harmed:
        text = f"call {call} was begun after job {story.number} had ended as cancelled"
        found(Anomaly.CANCELLED, call, text)
