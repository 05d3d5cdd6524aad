"""Overloads a master and prints what came of it. See `scripts/overload --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.cluster import running_cluster

from dte import __version__
from torture.overload.scenarios import SCENARIOS, Scenario, done_to
from torture.overload.watch import memory_mb, watched

COLUMNS = (
    f"{'':<52}{'served':>9}{'429':>9}{'other':>8}  {'/health p50, p99, max':>24}  {'memory':>13}"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/overload",
        description="Do to a master of this machine, which has two workers, what it should bear, "
        "and print how it did: requests served and refused with 429, the milliseconds in which "
        "GET /health was answered meanwhile, and its memory before and at most, in MB.",
    )
    parser.add_argument("--seconds", type=float, default=30, metavar="S", help="for each scenario")
    parser.add_argument("--only", metavar="TEXT", default="", help="scenarios whose name has it")
    parser.add_argument(
        "--journal", metavar="FILE", default="dte.db", help="the master's, in a folder of its own"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object a scenario")
    arguments = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if arguments.only in scenario.name]
    if not chosen:
        parser.error(f"--only {arguments.only}: there is " + "; ".join(s.name for s in SCENARIOS))
    if not arguments.json:
        print(f"{machine()}\n\n{COLUMNS}")
    for scenario in chosen:
        print(f"{scenario.name} ...", end="\r", file=sys.stderr, flush=True)
        found = measure(scenario, arguments.seconds, arguments.journal)
        print(json.dumps(found) if arguments.json else row(found), flush=True)
        for line in found["errors"]:
            print(f"  in the master's log: {line}", file=sys.stderr)


def measure(scenario: Scenario, seconds: float, journal: str) -> dict[str, Any]:
    """Do a scenario with a master of its own."""
    settings = {"LOG_LEVEL": "warning", "JOURNAL": journal} | scenario.settings
    variables = {f"DTE_{name}": value for name, value in settings.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder), scenario.workers, **variables) as cluster,
    ):
        scenario.prepare(cluster.port)
        with watched(cluster.master, cluster.port) as seen:
            heard = done_to(cluster.port, scenario, seconds)
        after_mb = memory_mb(cluster.master)
        cluster.master.end()
        health = seen.health
        return {
            "scenario": scenario.name,
            "served": heard.pop("200", 0),
            "refused": heard.pop("429", 0),
            "other": heard,
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
            "errors": cluster.master.errors(),
        }


def machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    cores = len(os.sched_getaffinity(0))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    system = f"{platform.system()} {platform.machine()}, {cores} cores"
    return f"dte {__version__}, 2 workers, {python}, {system}, {when}"


def row(found: dict[str, Any]) -> str:
    health, memory = found["health"], found["memory_mb"]
    latencies = f"{health['p50_ms']:.1f}, {health['p99_ms']:.1f}, {health['max_ms']:.0f}"
    others = Counter(found["other"])
    text = (
        f"{found['scenario']:<52}{found['served']:>9,}{found['refused']:>9,}{others.total():>8,}"
        f"  {latencies:>24}  {memory['before']:>5.0f}, {memory['peak']:>6,.0f}"
    )
    details = [f"{name} {count:,}" for name, count in others.items()]
    details += [f"/health {name} {count:,}" for name, count in health["others"].items()]
    return text + (f"  ({', '.join(details)})" if details else "")


if __name__ == "__main__":
    main()
