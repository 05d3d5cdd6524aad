"""The settings of the wall clock over time."""

from __future__ import annotations

import time


class ClockHistory:
    """When the clock of the nodes was set, and how far ahead.

    Args:
        wall_time: the time of the right clock, in seconds since 1970.
        now: the moment of that, by `time.monotonic`.
    """

    def __init__(self, wall_time: float, now: float) -> None:
        self._right_s = wall_time - now
        self._offsets: list[tuple[float, float]] = [(float("-inf"), 0.0)]

    def set(self, offset_s: float, now: float | None = None) -> None:
        """Note that the clock is set so far ahead from now on."""
        self._offsets.append((time.monotonic() if now is None else now, offset_s))

    def was_set(self, since: float, until: float) -> bool:
        """True if it was wrong at any time between two moments."""
        return any(offset_s for _, _, offset_s in self._pieces(since, until))

    def reached(self, wall_time: float, since: float, until: float) -> bool:
        """True if it has shown a time, or a later one, between two moments."""
        return any(
            end + self._right_s + offset_s >= wall_time
            for _, end, offset_s in self._pieces(since, until)
        )

    def _pieces(self, since: float, until: float) -> list[tuple[float, float, float]]:
        ends = [begin for begin, _ in self._offsets[1:]] + [float("inf")]
        return [
            (max(begin, since), min(end, until), offset_s)
            for (begin, offset_s), end in zip(self._offsets, ends, strict=True)
            if begin <= until and end >= since
        ]
