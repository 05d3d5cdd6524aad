"""The master's time on a core for an operation, as formulas, queues and workers grow.

Time on a core, as workers are simulated and cores are few; by turns and as medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from figures import Row
from formulas import batch
from harness.machine import cpu_s
from harness.workloads import mixed
from system import running

from dte import Client

ROUNDS = 3
AIM = "grows by less than 10%"
IDLE_AIM = "less than 1% of a core"
WORKERS = (1, 10, 100)
JOBS_A_REQUEST = 5_000


def growth(operations_max: int, waiting_max: int, jobs: int) -> list[Row]:
    """The costs along three lines, each beginning at a hundredth of its end.

    Args:
        operations_max: of the longest formula.
        waiting_max: most jobs that wait meanwhile.
        jobs: of 4 operations, for what is done while others wait.
    """
    return [
        *by_operations([operations_max // 100, operations_max // 10, operations_max]),
        *by_waiting([1, waiting_max // 100, waiting_max], jobs),
        *by_workers(WORKERS, operations_max // 5),
    ]


def by_operations(lengths: Sequence[int]) -> list[Row]:
    """Formulas of growing length; short ones are repeated up to the length of the longest."""
    formulas = {
        length: [mixed(length, seed) for seed in range(min(20, lengths[-1] // length))]
        for length in lengths
    }
    with running() as system, Client(system.url) as client:

        def cost(length: int) -> float:
            before_s = cpu_s(system.master.pid)
            for formula in formulas[length]:
                assert client.compute(formula.text) == formula.answer
            return (cpu_s(system.master.pid) - before_s) / (length * len(formulas[length]))

        cost(lengths[0])
        return rows("operations", "operations of a formula:", lengths, cost)


def by_waiting(waiting: Sequence[int], jobs: int) -> list[Row]:
    """Small formulas, while calls wait for a handler that nobody has."""
    with ExitStack() as stack:
        systems = {count: stack.enter_context(running()) for count in waiting}
        for count, system in systems.items():
            for start in range(0, count, JOBS_A_REQUEST):
                part = range(start, min(start + JOBS_A_REQUEST, count))
                calls = [{"handler": "nobody-has-it", "args": [number]} for number in part]
                system.client.value("POST", "/jobs", {"jobs": calls})
            batch(system, 0, jobs // 10)

        def cost(count: int) -> float:
            before_s = cpu_s(systems[count].master.pid)
            batch(systems[count], 0, jobs)
            return (cpu_s(systems[count].master.pid) - before_s) / (4 * jobs)

        return rows("waiting", "small formulas, waiting jobs:", waiting, cost)


def by_workers(counts: Sequence[int], operations: int) -> list[Row]:
    """One formula, with simulated workers."""
    formula = mixed(operations, seed=1)
    with ExitStack() as stack:
        systems = {count: stack.enter_context(running(0, simulated=count)) for count in counts}

        def cost(count: int) -> float:
            before_s = cpu_s(systems[count].master.pid)
            with Client(systems[count].url) as client:
                assert client.compute(formula.text) == formula.answer
            return (cpu_s(systems[count].master.pid) - before_s) / operations

        for count in counts:
            cost(count)
        label = f"a formula of {operations:,} operations, workers:"
        return rows("workers", label, counts, cost)


def rows(name: str, label: str, sizes: Sequence[int], cost: Callable[[int], float]) -> list[Row]:
    """A row for each size, and how much more the last costs than the first."""
    costs_s: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            costs_s[size].append(cost(size))
    cost_us = {size: statistics.median(found) * 1e6 for size, found in costs_s.items()}
    more = (cost_us[sizes[-1]] / cost_us[sizes[0]] - 1) * 100
    return [
        *(
            Row(f"growth.{name}.{size}", f"{label} {size:,}", "µs/operation", us)
            for size, us in cost_us.items()
        ),
        Row(f"growth.{name}", f"  from {sizes[0]:,} to {sizes[-1]:,}", "% more", more, aim=AIM),
    ]


def idle(workers: int, seconds: int) -> list[Row]:
    """The time on a core of a master without jobs, whose workers announce themselves."""
    with running(0, simulated=workers) as system:
        time.sleep(1)  # Until the last has come.
        before_s, started = cpu_s(system.master.pid), time.perf_counter()
        time.sleep(seconds)
        used = (cpu_s(system.master.pid) - before_s) / (time.perf_counter() - started)
    return [Row("idle", f"idle master with {workers} workers", "%", used * 100, aim=IDLE_AIM)]
