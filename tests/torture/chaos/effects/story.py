"""The story of one job with effects, as its client knows it."""

from __future__ import annotations

from dataclasses import dataclass

from torture.chaos.effects.jobs import EffectJob


@dataclass(slots=True, eq=False)
class Story:
    """A job, and what was asked and told of it; moments are those of `time.monotonic`.

    Attributes:
        asked_at: when it was submitted for the first time.
        number: the job's id, once that is known.
        cancelled_at: when the cancel was confirmed; None if it was not.
        gone_at: when its client was told that it has ended as cancelled.
        first: the story of the job whose failed part this one runs again.
    """

    job: EffectJob
    asked_at: float
    number: int = 0
    cancelled_at: float | None = None
    gone_at: float | None = None
    first: Story | None = None
