"""Pauses before something is tried again: twice as long each time, within a bound, with jitter."""

from __future__ import annotations

from random import Random

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0


def backoff_s(
    random: Random, failures: int, first_s: float = BACKOFF_FIRST_S, most_s: float = BACKOFF_MAX_S
) -> float:
    """How long to pause after so many failures in a row, from 1.

    Between half of the pause and the whole, so that those who failed together do not all come back
    together.
    """
    whole_s: float = min(most_s, first_s * 2.0 ** min(failures - 1, 40))
    return whole_s * (0.5 + random.random() / 2)
