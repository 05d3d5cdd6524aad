"""Measures dte and prints a table. See `scripts/bench --help`."""

from __future__ import annotations

import argparse
import platform
import sys
from contextlib import ExitStack
from datetime import UTC, datetime

import calls
import workloads
from system import System

from dte import __version__

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure dte on this machine: a master and two workers, and beside them a bare "
        "loop that posts the same batches to the same workers. Medians of five. The master has its "
        "journal on, as by default; what that costs is measured by turns with and without it.",
    )
    parser.add_argument("--quick", action="store_true", help="smaller workloads, in seconds")
    parser.add_argument(
        "--only",
        metavar="NAME",
        help="one of: tree, batches, singles, large, echo, graph, journal",
    )
    arguments = parser.parse_args()
    small = 10 if arguments.quick else 1
    measured = {
        "tree": lambda system: workloads.tree(system, 32_767),
        "batches": lambda system: workloads.batches(system, 20_000 // small),
        "singles": lambda system: workloads.singles(system, 2_000 // small),
        "large": lambda system: workloads.large(system, 1_000_000 // small),
        "echo": lambda system: calls.echo(system, 20_000 // small),
        "graph": lambda system: calls.graph(system, 10_000 // small),
    }
    names = [*measured, "journal"]
    if arguments.only and arguments.only not in names:
        parser.error(f"--only {arguments.only}: there are {', '.join(names)}")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"dte {__version__}, {WORKERS} workers, {python}, {machine()}, {when}\n")
    for name in names:
        if arguments.only not in (None, name):
            continue
        print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
        # Systems for each, so that what one leaves behind is not measured in the next.
        with ExitStack() as stack:
            if name == "journal":
                systems = {
                    sync: stack.enter_context(System(WORKERS, sync))
                    for sync in ("none", "normal", "full")
                }
                rows = workloads.journal(systems, 20_000 // small)
            else:
                rows = measured[name](stack.enter_context(System(WORKERS)))
        for label, figure in rows:
            print(f"{label:<60}{figure:>32}", flush=True)


def machine() -> str:
    import os

    cores = len(os.sched_getaffinity(0))
    return f"{platform.system()} {platform.machine()}, {cores} cores"


if __name__ == "__main__":
    main()
