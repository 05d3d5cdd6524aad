"""Measures dte and others, and prints a table. See `scripts/bench --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import access
import calls
import formulas
import growth
import journal
import large
import machine
import report
import singles
from figures import Row
from peers import Peer, peers
from processes import unwind_on_sigterm

DOCS = Path(__file__).parents[2] / "docs"
FAILED = "failed"
DESCRIPTION = """\
Measure dte on this machine: a master with its journal on and two workers, and beside it

  - a bare loop that posts the same operations to workers, and a bare Tornado handler,
    which parse nothing and keep no promise: the floor,
  - Ray, Dask and Celery with two workers each, which are left out where they are not
    installed: scripts/setup bench installs them; Celery needs redis-server too.

Figures are medians of turns. A full run takes some minutes, prints its progress on stderr and
the table on stdout, and draws docs/bench.png; a row without a figure says why. The machine should
have nothing else to do meanwhile: beside other work, all figures are low and some ratios wrong.
"""
EXAMPLES = """\
examples:
  scripts/bench --quick               after a change: under a minute, smaller workloads, no peers
  scripts/bench --only tree           one workload, with its peers
  scripts/bench --json > bench.json   the figures for a program
  scripts/bench --write               a full run that puts its table into docs/benchmarks.md
"""


def main() -> None:
    arguments = read_arguments()
    unwind_on_sigterm()
    try:
        run(arguments)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(workloads(1))
    parser.add_argument("--quick", action="store_true", help="smaller, no peers, no journals")
    parser.add_argument("--only", metavar="NAME", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--write", action="store_true", help="put a full run into docs/benchmarks.md"
    )
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write takes a full run")
    return arguments


def workloads(less: int) -> Mapping[str, Callable[[], list[Row]]]:
    """The workloads, by name.

    Args:
        less: by what most amounts are divided.
    """
    return {
        "tree": lambda: formulas.tree(32_767),
        "batches": lambda: formulas.batches(100_000 // less),
        "chain": lambda: formulas.chain(2_000 // less),
        "floats": lambda: formulas.floats(10_000 // less),
        "singles": lambda: singles.singles(10_000 // less),
        "large": lambda: large.large(1_000_000 // less),
        "sleeps": lambda: calls.sleeps(10_000 // less),
        "echo": lambda: calls.echo(20_000 // less),
        "graph": lambda: calls.graph(10_000 // less),
        "growth": lambda: growth.growth(1_000_000 // less, 10_000 // less, 20_000 // less),
        "idle": lambda: growth.idle(100, 20 // min(less, 4)),
        "journal": lambda: journal.journal(20_000 // less),
        "access": lambda: access.access(5_000 // less),
    }


def run(arguments: argparse.Namespace) -> None:
    measured = workloads(10 if arguments.quick else 1)
    names = [arguments.only] if arguments.only else list(measured)
    if arguments.quick and not arguments.only:
        names = [name for name in names if name not in ("journal", "access")]
    others = [] if arguments.quick else peers()
    circumstances = machine.circumstances(others)
    if not arguments.json:
        print(f"{circumstances.text}\n", flush=True)
    measure_peers(others, names)
    rows: list[Row] = []
    for name in names:
        found = measure(name, measured[name], others)
        if not arguments.json:
            print("\n".join(map(report.line, found)), flush=True)
        rows += found
    if arguments.json:
        print(report.as_json(circumstances, rows))
    if any(row.note == FAILED for row in rows):
        sys.exit(1)
    if not arguments.quick and not arguments.only:
        draw(circumstances, rows)
    if arguments.write:
        text = report.as_markdown(circumstances, rows)
        report.write_into(DOCS / "benchmarks.md", text)


def measure(name: str, workload: Callable[[], list[Row]], others: list[Peer]) -> list[Row]:
    """The rows of a workload, with those of the peers that have done it."""
    say(name)
    try:
        rows = workload()
        for peer in others:
            rows += peer.rows(name, rows[0])
    except Exception:  # The other workloads are worth having all the same.
        traceback.print_exc()
        rows = [Row(name, name, note=FAILED)]
    say("")
    return rows


def measure_peers(others: list[Peer], names: list[str]) -> None:
    for peer in others:
        wanted = [name for name in names if name in peer.workloads]
        if wanted and not peer.missing:
            say(peer.name)
            peer.measure(wanted)
    say("")


def draw(circumstances: machine.Circumstances, rows: list[Row]) -> None:
    if find_spec("matplotlib") is None:
        print(
            "no docs/bench.png: matplotlib is not installed: scripts/setup bench", file=sys.stderr
        )
        return
    import plot

    plot.draw(DOCS / "bench.png", circumstances, rows)


def say(name: str) -> None:
    """Tell on a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{name}{' ...' if name else ''}", end="", file=sys.stderr, flush=True)
    elif name:
        print(f"{name} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
