"""Backoff: pauses before retries, twice as long each time up to a bound, with jitter."""

from __future__ import annotations

from random import Random

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0


def backoff_s(
    random: Random, failures: int, first_s: float = BACKOFF_FIRST_S, most_s: float = BACKOFF_MAX_S
) -> float:
    """The pause after a number of failures in a row, from 1.

    It is random between half of the whole and the whole, so that attempts that failed together do
    not all come back together.
    """
    whole_s: float = min(most_s, first_s * 2.0 ** min(failures - 1, 40))
    return whole_s * (0.5 + random.random() / 2)
