"""Lives through the histories of many seeds and tells which went wrong. See `--help`."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from torture import runner
from torture.runner import Progress
from torture.simulation.simulation import Course, simulate

SEEDS = 1_000
SEEDS_AT_ONCE = 50
FAILURES_TOLD = 20
SHOWN_CHARS = 200

HELP = """\
Run dte's own master, journal, core, announcers and arithmetic in a simulated world: clock, network,
disk, workers, clients and accidents follow from a seed, and no real time passes. After each step
everything is checked that must always hold.

A seed gives the same history each time, on every machine with the same version of Python.
"""
EXAMPLES = """\
  scripts/simulate --seeds 100000    on all cores
  scripts/simulate --seed 7 --trace  what happens with seed 7, line by line
"""


@dataclass(slots=True)
class Report:
    """What became of many seeds.

    Attributes:
        failures: seeds that went wrong, each with what was wrong.
        seen: how often what happened.
        took_s: how long it took in the real world.
    """

    seeds: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    simulated_s: float = 0.0
    took_s: float = 0.0

    def add(self, other: Report) -> None:
        self.seeds += other.seeds
        self.failures += other.failures
        self.seen += other.seen
        self.simulated_s += other.simulated_s

    @property
    def good(self) -> bool:
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "failures": dict(self.failures),
            "took_s": round(self.took_s, 1),
            "simulated_s": round(self.simulated_s),
            "seen": dict(sorted(self.seen.items())),
        }

    def table(self) -> str:
        speed = self.seeds / max(self.took_s, 1e-9)
        hours = self.simulated_s / 3600
        lines = [f"{times:12,}  {what}" for what, times in sorted(self.seen.items())]
        took = f"{self.seeds:,} seeds in {self.took_s:.1f} s, {speed:.0f} a second"
        lines.append(f"{took}; {hours:,.1f} h simulated")
        if self.good:
            return "\n".join([*lines, "all is well"])
        lines.append(f"{len(self.failures)} SEEDS WENT WRONG; to see how:")
        for seed, failure in self.failures[:FAILURES_TOLD]:
            lines.append(f"  scripts/simulate --seed {seed} --trace    # {failure}")
        return "\n".join(lines)


def main() -> int:
    options = runner.parser("simulate", HELP, EXAMPLES, "something happened that must not")
    options.add_argument(
        "--seeds",
        metavar="N",
        type=runner.count,
        default=SEEDS,
        help="how many (default: %(default)s)",
    )
    options.add_argument(
        "--first",
        metavar="N",
        type=runner.number,
        default=0,
        help="the first of them (default: %(default)s)",
    )
    options.add_argument(
        "--processes",
        metavar="N",
        type=runner.count,
        default=os.cpu_count() or 1,
        help="how many processes share them (default: one a core)",
    )
    options.add_argument(
        "--seed",
        metavar="N",
        type=runner.number,
        action="append",
        help="this seed alone; may be given again",
    )
    options.add_argument("--trace", action="store_true", help="print the history of each --seed")
    arguments = options.parse_args()
    if arguments.trace and not arguments.seed:
        options.error("--trace: which seed? give --seed N")
    if arguments.seed:
        return live_through(arguments.seed, arguments.trace)
    report = live_through_all(arguments.first, arguments.seeds, arguments.processes)
    return runner.conclude(report, arguments.json)


def live_through(seeds: Sequence[int], trace: bool) -> int:
    """Live through single seeds, and tell what happens."""
    code = 0
    try:
        for seed in seeds:
            course = simulate(seed, trace)
            print(*course.history, sep="\n", end="\n" if trace else "")
            print(f"seed {seed}: {outcome(course)}")
            if course.failure is not None:
                code = runner.WRONG
                traceback.print_exception(course.failure)
    except BrokenPipeError:  # Who reads it has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return runner.WRONG
    return code


def outcome(course: Course) -> str:
    what = "all is well" if course.failure is None else in_short(course.failure)
    return f"{what}, after {course.simulated_s:.1f} s of its world"


def live_through_all(first: int, count: int, processes: int) -> Report:
    """Live through many seeds, in processes that share them."""
    began_at = time.monotonic()
    progress = Progress("simulate")
    seeds = range(first, first + count)
    parts = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, count, SEEDS_AT_ONCE)]
    report = Report()
    for part in in_processes(parts, processes):
        report.add(part)
        for seed, failure in part.failures:
            if len(report.failures) <= FAILURES_TOLD:
                print(f"simulate: seed {seed}: {failure}", file=sys.stderr)
        progress.of(count, "seeds")(report.seeds)
    progress.end()
    report.took_s = time.monotonic() - began_at
    return report


def in_processes(parts: Sequence[Sequence[int]], processes: int) -> Iterator[Report]:
    if processes == 1 or len(parts) == 1:
        yield from map(run_some, parts)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(run_some, parts)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_some(seeds: Sequence[int]) -> Report:
    """Live through some seeds, one after the other."""
    report = Report()
    for seed in seeds:
        course = simulate(seed)
        report.seeds += 1
        report.seen += course.seen
        report.simulated_s += course.simulated_s
        if course.failure is not None:
            report.failures.append((seed, in_short(course.failure)))
    return report


def in_short(failure: Exception) -> str:
    text = " ".join(f"{type(failure).__name__}: {failure}".split())
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


if __name__ == "__main__":
    sys.exit(runner.run(main))
