"""Draws what was measured: operations a second and latency by system, and growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from figures import Row, number
from machine import Circumstances
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OWN, FLOOR, OTHER = "#0b6e4f", "#9aa5b1", "#c8963e"
TREE = {"tree": "dte", "tree.own": "bare loop,\ndte's workers", "tree.plain": "bare loop,\nTornado"}
GROWTH = {"operations": "operations of a formula", "waiting": "jobs waiting", "workers": "workers"}
PEERS = ("Ray", "Dask", "Celery")


def draw(file: Path, circumstances: Circumstances, rows: Sequence[Row]) -> None:
    """Write the picture of a full run; what was not measured is left out."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    found = {row.name: row for row in rows}
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.subplots(2, 2)
    throughput(grid[0][0], "A tree of sums, operations/s", "tree", TREE, found)
    throughput(grid[0][1], "Jobs of 4 operations, jobs/s", "batches", {"batches": "dte"}, found)
    latencies(grid[1][0], found)
    growth(grid[1][1], found)
    versions = ", ".join(f"{name} {number}" for name, number in circumstances.versions.items())
    figure.suptitle(
        f"dte and others, 2 workers each\n{versions}\n{circumstances.machine}; {circumstances.date}"
    )
    figure.savefig(file, dpi=110)


def throughput(
    axes: Axes, title: str, workload: str, own: Mapping[str, str], found: Mapping[str, Row]
) -> None:
    """Bars of what each system did, which differ so much that they need a logarithmic scale."""
    names = {**own, **{f"{workload}.{peer}": peer for peer in PEERS}}
    values = {name: found[name].value for name in names if name in found}
    shown = {name: value for name, value in values.items() if value is not None}
    colours = [colour(name) for name in shown]
    bars = axes.barh([names[name] for name in shown], list(shown.values()), color=colours)
    axes.bar_label(bars, [f"{value:,.0f}" for value in shown.values()], padding=3)
    axes.set_xscale("log")
    axes.set_xlim(10, max(shown.values(), default=10) * 20)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontweight="bold")


def latencies(axes: Axes, found: Mapping[str, Row]) -> None:
    """Bars of the median and marks of the 99th percentile, of one job after another."""
    names = {"chain": "dte", **{f"chain.{peer}": peer for peer in PEERS}}
    shown = [name for name in names if name in found and found[name].percentiles]
    labels = [names[name] for name in shown]
    p50 = [found[name].percentiles["p50"] for name in shown]
    p99 = [found[name].percentiles["p99"] for name in shown]
    bars = axes.barh(labels, p50, color=[colour(name) for name in shown])
    texts = [number(value, "ms") for value in p50]
    axes.bar_label(bars, texts, label_type="center", color="white", fontweight="bold")
    axes.plot(p99, labels, "|", color="black", markersize=24)
    axes.set_xscale("log")
    axes.set_xlim(0.1, max(p99, default=1) * 3)
    axes.invert_yaxis()
    axes.set_xlabel("bar: p50, line: p99")
    title = "A chain of 4 operations, submit to answer, ms"
    axes.set_title(title, loc="left", fontweight="bold")


def growth(axes: Axes, found: Mapping[str, Row]) -> None:
    """The cost of an operation along each line."""
    highest = 0.0
    for name, label in GROWTH.items():
        points = {
            int(key.rpartition(".")[2]): row.value
            for key, row in found.items()
            if key.startswith(f"growth.{name}.") and row.value is not None
        }
        axes.plot(list(points), list(points.values()), "o-", label=label)
        highest = max(highest, *points.values(), 0.0)
    axes.set_xscale("log")
    axes.set_xlabel("how many")
    axes.set_ylim(0, highest * 1.3 or 1)
    axes.legend(frameon=False, loc="lower right")
    title = "Growth: the master's µs of a core, an operation"
    axes.set_title(title, loc="left", fontweight="bold")


def colour(name: str) -> str:
    """dte's own, that of what keeps no promise, or that of the others."""
    part = name.partition(".")[2]
    return OWN if not part else FLOOR if part in ("own", "plain") else OTHER
