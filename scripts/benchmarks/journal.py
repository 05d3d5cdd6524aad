"""The cost of the journal: one workload with each kind of journal, by turns."""

from __future__ import annotations

from contextlib import ExitStack

from figures import Row, latency, rate, share
from formulas import batch, one_by_one
from system import running

REPEATS = 5


def journal(jobs: int) -> list[Row]:
    """Formulas in batches, and a hundredth of them one after another, with each journal."""
    syncs = ("none", "normal", "full")
    rates: dict[str, list[float]] = {sync: [] for sync in syncs}
    latencies_s: dict[str, list[float]] = {sync: [] for sync in syncs}
    with ExitStack() as stack:
        systems = {sync: stack.enter_context(running(journal=sync)) for sync in syncs}
        for repeat in range(REPEATS):
            for sync, system in systems.items():
                rates[sync].append(batch(system, repeat * jobs, jobs))
                latencies_s[sync] += one_by_one(system, jobs // 100)
    rows = []
    for sync in syncs:
        name = f"journal.{sync}"
        option = "--journal none" if sync == "none" else f"--journal-sync {sync}"
        rows.append(rate(name, f"{option}, {jobs:,} formulas in batches", rates[sync], "jobs/s"))
        if sync != "none":
            rows.append(share(f"{name}.share", "  of none", rates[sync], rates["none"]))
        rows.append(latency(f"{name}.single", "  single submits with wait", latencies_s[sync]))
    return rows
