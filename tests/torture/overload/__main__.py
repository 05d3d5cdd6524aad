"""Overloads a master and prints what came of it. See `scripts/overload --help`."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from harness.cluster import Cluster, running_cluster
from harness.earlier_master import EarlierMaster
from harness.processes import Process, until
from torture import runner
from torture.overload.scenario import Scenario
from torture.overload.scenarios import SCENARIOS, done_to
from torture.overload.watch import Suffering, longest_turn_s, memory_mb, watched
from torture.runner import Found

from dte import __version__

COLUMNS = (
    f"{'':<52}{'served':>9}{'429':>9}{'other':>8}  {'/health p50, p99, max':>24}  {'memory':>13}"
)
BOUNDED = sum(
    bool(each.health_p99_ms or each.memory_mb_most or each.turn_s_most or each.none_of)
    for each in SCENARIOS
)
HELP = f"""\
Overload a master with two workers, or one of the workers, on this machine, and print how it did.
Of {len(SCENARIOS)} scenarios, {BOUNDED} have bounds: on the p99 of GET /health, on memory,
on the longest turn of the master's loop, or on replies. A scenario that misses one of its bounds
fails; stderr then says which.

columns:
  served   requests that were answered with 200
  429      requests that were refused because a bound was reached
  other    all other outcomes; the end of the row names them
  /health  how long GET /health took meanwhile, in ms: median, 99th percentile, maximum
  memory   resident memory of the process in MB: before the scenario, and its peak
"""
EXAMPLES = """\
  scripts/overload                    30 s for each scenario, about half an hour
  scripts/overload --only idle        scenarios whose names contain "idle"
  scripts/overload --only '?'         names all scenarios, and runs none
  scripts/overload --seconds 10 --json
"""
WRONG = "a scenario missed one of its bounds, or a master logged an error"


def main() -> int:
    options = runner.parser("overload", HELP, EXAMPLES, WRONG)
    options.add_argument(
        "--seconds",
        type=runner.seconds,
        default=30,
        metavar="S",
        help="how long each scenario lasts (default: %(default)s)",
    )
    options.add_argument("--only", metavar="TEXT", default="", help=runner.ONLY)
    options.add_argument(
        "--journal",
        metavar="FILE",
        type=journal_name,
        default="dte.db",
        help="the master's journal, in a temporary folder unless it begins with / "
        "(default: %(default)s)",
    )
    arguments = options.parse_args()
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    names = runner.chosen(options, arguments.only, list(scenarios))
    if not arguments.json:
        print(f"{machine()}\n\n{COLUMNS}")

    def scenario(name: str) -> Found:
        return measure(scenarios[name], arguments.seconds, arguments.journal)

    with runner.refusing(options):
        return runner.play(names, scenario, row, arguments.json)


def journal_name(text: str) -> str:
    """An option's name for a journal, in a folder that exists."""
    path = Path(text)
    if not (path.parent.is_dir() if path.is_absolute() else path.name == text):
        raise ArgumentTypeError(
            f"{text!r} must be a file name without a folder, or begin with / and be in a folder "
            "that exists"
        )
    return text


def measure(scenario: Scenario, seconds: float, journal: str) -> Found:
    """Do a scenario with a master of its own."""
    settings = {"LOG_LEVEL": "warning", "JOURNAL": journal} | scenario.settings
    variables = {f"DTE_{name}": value for name, value in settings.items()}
    with (
        made_journal(scenario, journal) as folder,
        running_cluster(folder, scenario.workers, **variables) as cluster,
        ExitStack() as stack,
    ):
        scenario.prepare(cluster.port)
        process, port = cluster.master, cluster.port
        if scenario.of_worker:
            process, port = start_open_worker(cluster, stack)
        with watched(process, port) as seen:
            counts = done_to(port, scenario, seconds)
        after_mb = memory_mb(process)
        turn_s = longest_turn_s(cluster.port)
        cluster.master.end()
        errors = cluster.master.errors()
    health = seen.health
    figures = {
        "served": counts.pop("200", 0),
        "refused": counts.pop("429", 0),
        "other": counts,
        "health": {
            "answers": len(health.answered_ms),
            "p50_ms": round(health.within_ms(0.5), 1),
            "p99_ms": round(health.within_ms(0.99), 1),
            "max_ms": round(health.within_ms(1), 1),
            "others": health.others,
        },
        "memory_mb": {
            "before": round(seen.before_mb, 1),
            "peak": round(seen.peak_mb, 1),
            "after": round(after_mb, 1),
        },
        "errors": errors,
    }
    problems = [f"in the master's log: {line}" for line in errors]
    return Found(figures, problems + misses(scenario, seen, turn_s, counts))


def start_open_worker(cluster: Cluster, stack: ExitStack) -> tuple[Process, int]:
    """Start a worker that demands no secret: its port has bounds for its master too."""
    earlier = EarlierMaster()
    stack.callback(earlier.close)
    worker = cluster.processes.start_worker(earlier.port, "open")
    return worker, until(lambda: earlier.worker_port, "it is announced")


def misses(scenario: Scenario, seen: Suffering, turn_s: float, counts: Counter[str]) -> list[str]:
    """The bounds of a scenario that the master missed."""
    health = seen.health
    found = []
    most_ms, p99_ms = scenario.health_p99_ms, health.within_ms(0.99)
    if most_ms is not None and (p99_ms > most_ms or health.others):
        others = f", others: {health.others}" if health.others else ""
        found.append(f"p99 of /health: {p99_ms:.1f} ms > {most_ms} ms{others}")
    if scenario.memory_mb_most is not None and seen.peak_mb > scenario.memory_mb_most:
        found.append(f"memory: {seen.peak_mb:.0f} MB > {scenario.memory_mb_most} MB")
    if scenario.turn_s_most is not None and turn_s > scenario.turn_s_most:
        found.append(f"longest turn of the loop: {turn_s:.3f} s > {scenario.turn_s_most} s")
    found += [f"{name}: {counts[name]}" for name in scenario.none_of if counts[name]]
    return found


@contextmanager
def made_journal(scenario: Scenario, journal: str) -> Iterator[Path]:
    """A folder for a master, with the journal that the scenario makes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if scenario.make_journal is not None:
            scenario.make_journal(folder / journal)
        yield folder


def machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    cores = len(os.sched_getaffinity(0))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    system = f"{platform.system()} {platform.machine()}, {cores} cores"
    return f"dte {__version__}, 2 workers, {python}, {system}, {when}"


def row(name: str, found: Found) -> str:
    figures = found.figures
    health, memory = figures["health"], figures["memory_mb"]
    latencies = f"{health['p50_ms']:.1f}, {health['p99_ms']:.1f}, {health['max_ms']:.0f}"
    others = Counter(figures["other"])
    text = (
        f"{name:<52}{figures['served']:>9,}{figures['refused']:>9,}{others.total():>8,}"
        f"  {latencies:>24}  {memory['before']:>5.0f}, {memory['peak']:>6,.0f}"
    )
    details = [f"{what} {count:,}" for what, count in others.items()]
    details += [f"/health {what} {count:,}" for what, count in health["others"].items()]
    return text + (f"  ({', '.join(details)})" if details else "")


if __name__ == "__main__":
    sys.exit(runner.run(main))
