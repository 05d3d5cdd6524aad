"""A beginning of a call with effects, and how the accounting tells of what must not happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.holds import Hold
from torture.chaos.effects.marks import Mark

Found = Callable[[Anomaly, object, str], None]
"""Is told the kind of anomaly, what it is about, and a sentence."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A beginning of a call.

    Attributes:
        hold: None if nobody had handed it over.
        raised_at: when the call raised an exception; None if it did not.
    """

    mark: Mark
    hold: Hold | None
    raised_at: float | None = None
