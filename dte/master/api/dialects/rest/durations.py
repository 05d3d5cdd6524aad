"""Durations as Go writes them: ``1.5s``, ``250ms``, ``2h0m0s``."""

from __future__ import annotations

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


def duration_text(duration_ns: int) -> str:
    """A duration below a second in its largest unit, or a longer one in hours to seconds."""
    if duration_ns < 0:
        return f"-{duration_text(-duration_ns)}"
    if duration_ns == 0:
        return "0s"
    for unit, places, end in (("ns", 0, 1_000), ("µs", 3, 1_000_000), ("ms", 6, SECOND_NS)):
        if duration_ns < end:
            return f"{_decimal(duration_ns, places)}{unit}"
    minutes, rest_ns = divmod(duration_ns, MINUTE_NS)
    text = f"{_decimal(rest_ns, 9)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return text


def _decimal(value: int, places: int) -> str:
    """A number with decimal places, without trailing zeros."""
    whole, fraction = divmod(value, 10**places)
    digits = f"{fraction:0{places}d}".rstrip("0") if places else ""
    return f"{whole}.{digits}" if digits else str(whole)
