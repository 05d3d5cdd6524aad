"""The accounting of cancels: a job whose cancel was confirmed has ended as cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.accounting import Found
from torture.chaos.effects.jobs import CANCELLED
from torture.chaos.effects.story import Story
from torture.chaos.outcome import Outcome


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
