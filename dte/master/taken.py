"""Remembers the results that were taken, to know a repeat.

A worker repeats a report whose answer it did not get, for example because the master was paused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dte.core.calls.attempts import Outcome
from dte.core.graph.numbers import Number

RESULTS_MAX = 20_000
"""At least as many of the newest results are remembered, and at most twice as many."""
COMPARED_BYTES = 64
"""The part of a long result that is compared, besides its length."""


class Reporter(NamedTuple):
    """Who reports: a worker's name and the digest of its session; "" for none."""

    worker: str
    session: str = ""


class TakenResults:
    """The newest results that were taken, by the number of their lease."""

    def __init__(self) -> None:
        self._newer: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def add(self, lease: int, mark: int) -> None:
        """Note that a result was taken."""
        self._newer[lease] = mark
        if len(self._newer) >= RESULTS_MAX:
            self._older, self._newer = self._newer, {}

    def has(self, lease: int, mark: int) -> bool:
        """True if a result was taken before."""
        return self._newer.get(lease, self._older.get(lease)) == mark


def mark_of(reporter: Reporter, outcome: Outcome) -> int:
    """A number that is the same for a repeat of a worker's report on a call."""
    value = outcome.value or b""
    return hash((reporter, outcome.state, outcome.error, len(value), value[-COMPARED_BYTES:]))


def mark_of_batch(reporter: Reporter, results: Sequence[Number]) -> int:
    """A number that is the same for a repeat of a worker's results of a batch."""
    return hash((reporter, len(results), *results[:1], *results[-1:]))
