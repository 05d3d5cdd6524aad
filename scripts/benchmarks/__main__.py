"""Measures dte and prints a table. See `scripts/bench --help`."""

from __future__ import annotations

import argparse
import platform
import sys
from datetime import UTC, datetime

import workloads
from system import System

from dte import __version__

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure dte on this machine: a master and two workers, and beside them a bare "
        "loop that posts the same batches to the same workers. Medians of five.",
    )
    parser.add_argument("--quick", action="store_true", help="smaller workloads, in seconds")
    parser.add_argument("--only", metavar="NAME", help="one of: tree, batches, singles, large")
    arguments = parser.parse_args()
    small = 10 if arguments.quick else 1
    measured = {
        "tree": lambda system: workloads.tree(system, 32_767),
        "batches": lambda system: workloads.batches(system, 20_000 // small),
        "singles": lambda system: workloads.singles(system, 2_000 // small),
        "large": lambda system: workloads.large(system, 1_000_000 // small),
    }
    if arguments.only and arguments.only not in measured:
        parser.error(f"--only {arguments.only}: there are {', '.join(measured)}")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"dte {__version__}, {WORKERS} workers, {python}, {machine()}, {when}\n")
    for name, measure in measured.items():
        if arguments.only in (None, name):
            # A system for each, so that what one leaves behind is not measured in the next.
            print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
            with System(WORKERS) as system:
                for label, figure in measure(system):
                    print(f"{label:<60}{figure:>32}", flush=True)


def machine() -> str:
    import os

    cores = len(os.sched_getaffinity(0))
    return f"{platform.system()} {platform.machine()}, {cores} cores"


if __name__ == "__main__":
    main()
