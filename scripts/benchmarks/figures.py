"""Measured figures, as rows of a table for people and programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the table.

    Attributes:
        name: what a program finds it by, as ``WORKLOAD`` or ``WORKLOAD.PART``.
        label: what it is, for people; begins with two blanks below the row that it belongs to.
        unit: of its values: ``operations/s``, ``ms``, ``%`` and so on.
        value: what was measured; None where there are percentiles, or nothing.
        percentiles: what was measured, by ``p50`` and ``p99``.
        aim: what it should be, in words; empty when nobody set one.
        note: a remark instead of a value, or beside it.
    """

    name: str
    label: str
    unit: str = ""
    value: float | None = None
    percentiles: Mapping[str, float] = {}
    aim: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """The values as people read them."""
        found = [f"{name} {number(value, self.unit)}" for name, value in self.percentiles.items()]
        if self.value is not None:
            found.append(number(self.value, self.unit))
        return ", ".join([*found, self.note] if self.note else found)


def number(value: float, unit: str) -> str:
    """A value with its unit, to about three digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    space = "" if unit == "%" else " "
    return f"{value:,.{digits}f}{space}{unit}"


def rate(name: str, label: str, rates: Sequence[float], unit: str, aim: str = "") -> Row:
    """The median of what was done in a second."""
    return Row(name, label, unit, statistics.median(rates), aim=aim)


def latency(name: str, label: str, latencies_s: Sequence[float], aim: str = "") -> Row:
    """The median and the 99th percentile of latencies."""
    ordered = sorted(latencies_s)
    found = {f"p{percent}": ordered[len(ordered) * percent // 100] * 1e3 for percent in (50, 99)}
    return Row(name, label, "ms", percentiles=found, aim=aim)


def share(
    name: str, label: str, parts: Sequence[float], wholes: Sequence[float], aim: str = ""
) -> Row:
    """The median of the ratios, by turns, in percent."""
    ratios = [part / whole for part, whole in zip(parts, wholes, strict=True)]
    return Row(name, label, "%", statistics.median(ratios) * 100, aim=aim)
