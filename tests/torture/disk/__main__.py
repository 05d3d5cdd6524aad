"""Lets the disk of a master's journal fail, and prints what came of it. See `--help`."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from torture import runner
from torture.disk.scenarios import SCENARIOS, Scope
from torture.runner import Found

MEMORY = Path("/dev/shm")
LABELS = {
    "jobs_s": "{} jobs/s",
    "jobs_a_commit": "{} jobs a commit",
    "submit_p50_ms": "submit p50 {} ms",
    "submit_p99_ms": "p99 {} ms",
    "health_p50_ms": "/health p50 {} ms",
    "health_p99_ms": "p99 {} ms",
    "health_max_ms": "max {} ms",
    "accepted": "{} accepted",
    "refused": "{} refused",
    "reads_p99_ms": "reads meanwhile p99 {} ms",
    "recovered_s": "accepted again after {} s",
    "looked": "{} journals looked at",
    "ended": "{} ends",
}
HELP = """\
Let the disk with the journal of a master be slow, full or broken, and the power fail, and account
for every job: nothing that was acknowledged may be lost, doubled, changed or wrong.

Most faults of the disk are simulated by a small preloaded library, which needs a C compiler. The
full disk is a real one, which needs root. Scenarios that this machine cannot play are skipped.
"""
EXAMPLES = """\
  scripts/disk-faults              everything, about three minutes
  scripts/disk-faults --quick      faults in some of the calls to the disk, not in each
  scripts/disk-faults --only sync  scenarios whose names contain "sync"
"""


def main() -> int:
    options = runner.parser("disk-faults", HELP, EXAMPLES)
    options.add_argument("--only", metavar="TEXT", default="", help=runner.ONLY)
    options.add_argument(
        "--seconds",
        metavar="S",
        type=runner.seconds,
        default=10.0,
        help="how long the load of a scenario lasts (default: %(default)g)",
    )
    options.add_argument(
        "--quick", action="store_true", help="faults in some of the calls to the disk, not in each"
    )
    arguments = options.parse_args()
    names = runner.chosen(options, arguments.only, list(SCENARIOS))
    scenario = partial(play, seconds=arguments.seconds, quick=arguments.quick)
    return runner.play(names, scenario, row, arguments.json)


def play(name: str, seconds: float, quick: bool) -> Found:
    """Play a scenario in folders that are deleted afterwards."""
    memory = MEMORY if MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="dte-disk-") as folder,
        tempfile.TemporaryDirectory(prefix="dte-disk-", dir=memory) as in_memory,
    ):
        return SCENARIOS[name](Scope(Path(folder), Path(in_memory), seconds, quick))


def row(name: str, found: Found) -> str:
    figures = [
        LABELS[label].format(_shown(value))
        for label, value in found.figures.items()
        if label in LABELS
    ]
    problems = len(found.problems)
    return f"{name:<46}{', '.join(figures)}; {problems or 'no'} problem{'s' * (problems != 1)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " and ".join(f"{count:,} with {status}" for status, count in value.items())
    return f"{value:,}"


if __name__ == "__main__":
    sys.exit(runner.run(main))
