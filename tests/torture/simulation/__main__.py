"""Lives through the histories of many seeds and tells which went wrong. See `--help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from torture.simulation.simulation import Course, simulate

SEEDS = 1_000
SEEDS_AT_ONCE = 50
FAILURES_TOLD = 20
TOLD_EVERY_S = 30.0
WRONG, INTERRUPTED = 1, 130

HELP = """\
Run dte's own master, journal, core, announcers and arithmetic in a simulated world: clock, network,
disk, workers, clients and accidents follow from a seed, and no real time passes. After each step
everything is checked that must always hold.

A seed gives the same history each time, on every machine with the same version of Python.
"""
EXAMPLES = """\
examples:
  scripts/simulate --seeds 100000    on all cores
  scripts/simulate --seed 7 --trace  what happens with seed 7, line by line

exit codes: 0 all went well; 1 something happened that must not, and its seeds are told; 2 the
command is wrong; 130 Ctrl-C.
"""


@dataclass(slots=True)
class Report:
    """What became of many seeds.

    Attributes:
        failures: seeds that went wrong, each with what was wrong.
        seen: how often what happened.
    """

    seeds: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    simulated_s: float = 0.0

    def add(self, other: Report) -> None:
        self.seeds += other.seeds
        self.failures += other.failures
        self.seen += other.seen
        self.simulated_s += other.simulated_s


def run_some(seeds: Sequence[int]) -> Report:
    """Live through some seeds, one after the other."""
    report = Report()
    for seed in seeds:
        course = simulate(seed)
        report.seeds += 1
        report.seen += course.seen
        report.simulated_s += course.simulated_s
        if course.failure is not None:
            report.failures.append((seed, _in_short(course.failure)))
    return report


def main() -> int:
    arguments = _arguments()
    if arguments.seed:
        try:
            return _run_single(arguments.seed, arguments.trace)
        except BrokenPipeError:  # Who reads it has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return WRONG
    try:
        report, took_s = _run_many(arguments.first, arguments.seeds, arguments.processes)
    except KeyboardInterrupt:
        return INTERRUPTED
    if arguments.json:
        print(
            json.dumps(
                {
                    "seeds": report.seeds,
                    "failures": dict(report.failures),
                    "took_s": round(took_s, 1),
                    "simulated_s": round(report.simulated_s),
                    "seen": dict(sorted(report.seen.items())),
                }
            )
        )
    else:
        _tell(report, took_s)
    return WRONG if report.failures else 0


def _run_single(seeds: Sequence[int], trace: bool) -> int:
    code = 0
    for seed in seeds:
        course = simulate(seed, trace)
        print(*course.history, sep="\n", end="\n" if trace else "")
        print(f"seed {seed}: {_outcome(course)}")
        if course.failure is not None:
            code = WRONG
            traceback.print_exception(course.failure)
    return code


def _outcome(course: Course) -> str:
    what = "all is well" if course.failure is None else _in_short(course.failure)
    return f"{what}, after {course.simulated_s:.1f} s of its world"


def _run_many(first: int, count: int, processes: int) -> tuple[Report, float]:
    began_at = told_at = time.monotonic()
    seeds = range(first, first + count)
    parts = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, count, SEEDS_AT_ONCE)]
    report = Report()
    for part in _in_processes(parts, processes):
        report.add(part)
        for seed, failure in part.failures:
            if len(report.failures) <= FAILURES_TOLD:
                print(f"simulate: seed {seed}: {failure}", file=sys.stderr)
        if time.monotonic() - told_at > TOLD_EVERY_S:
            told_at = time.monotonic()
            print(f"simulate: {report.seeds:,} of {count:,} seeds", file=sys.stderr)
    return report, time.monotonic() - began_at


def _in_processes(parts: Sequence[Sequence[int]], processes: int) -> Iterator[Report]:
    if processes == 1 or len(parts) == 1:
        yield from map(run_some, parts)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(run_some, parts)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _tell(report: Report, took_s: float) -> None:
    for what, times in sorted(report.seen.items()):
        print(f"{times:12,}  {what}")
    speed = report.seeds / max(took_s, 1e-9)
    hours = report.simulated_s / 3600
    print(
        f"{report.seeds:,} seeds in {took_s:.1f} s, {speed:.0f} a second; {hours:,.1f} h simulated"
    )
    if not report.failures:
        print("all is well")
        return
    print(f"{len(report.failures)} SEEDS WENT WRONG; to see how:")
    for seed, failure in report.failures[:FAILURES_TOLD]:
        print(f"  scripts/simulate --seed {seed} --trace    # {failure}")


def _in_short(failure: Exception) -> str:
    text = " ".join(f"{type(failure).__name__}: {failure}".split())
    return text if len(text) <= 200 else f"{text[:200]}…"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", metavar="N", type=int, default=SEEDS, help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--first", metavar="N", type=int, default=0, help="the first of them (default: %(default)s)"
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="how many processes share them (default: one a core)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        action="append",
        help="this seed alone; may be given again",
    )
    parser.add_argument("--trace", action="store_true", help="print the history of each --seed")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.processes < 1:
        parser.error("--seeds and --processes: a number from 1 is expected")
    if arguments.trace and not arguments.seed:
        parser.error("--trace: which seed? give --seed N")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
