"""Lets the disk of a master's journal fail, and prints what came of it. See `--help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from torture.disk.faulty import CannotFake
from torture.disk.scenarios import SCENARIOS, Found, Scope

PROBLEM = 1
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

A small library is preloaded that fakes a disk's faults, for which a C compiler is needed; a full
disk is a real one, for which root is. What this machine cannot do is passed over.

exit codes: 0 all is well, 1 something is not, 2 the command is wrong.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/disk-faults",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="scenarios whose name has it")
    parser.add_argument("--seconds", metavar="S", type=float, default=10.0, help="of load")
    parser.add_argument("--quick", action="store_true", help="not every call of all, but some")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a scenario")
    arguments = parser.parse_args()
    chosen = [name for name in SCENARIOS if arguments.only in name]
    if not chosen:
        parser.error(f"--only {arguments.only}: there is " + "; ".join(SCENARIOS))
    problems = 0
    for name in chosen:
        print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
        try:
            found = play(name, arguments.seconds, arguments.quick)
        except CannotFake as error:
            print(f"{name}: not here: {error}", file=sys.stderr)
            continue
        problems += len(found.problems)
        print(as_json(name, found) if arguments.json else row(name, found), flush=True)
        for problem in found.problems:
            print(f"  {problem}", file=sys.stderr)
    return PROBLEM if problems else 0


def play(name: str, seconds: float, quick: bool) -> Found:
    """Play a scenario in folders that are deleted afterwards."""
    memory = MEMORY if MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="dte-disk-") as folder,
        tempfile.TemporaryDirectory(prefix="dte-disk-", dir=memory) as in_memory,
    ):
        return SCENARIOS[name](Scope(Path(folder), Path(in_memory), seconds, quick))


def as_json(name: str, found: Found) -> str:
    scenario: dict[str, Any] = {"scenario": name}
    return json.dumps(scenario | found.figures | {"problems": found.problems})


def row(name: str, found: Found) -> str:
    figures = [
        LABELS[label].format(_shown(value))
        for label, value in found.figures.items()
        if label in LABELS
    ]
    return f"{name:<46}{', '.join(figures)}; {len(found.problems) or 'no'} problems"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " and ".join(f"{count:,} with {status}" for status, count in value.items())
    return f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
