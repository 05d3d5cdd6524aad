"""Plays many scripts against a cluster, and looks after the cluster in between."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torture import runner
from torture.fuzz import scripts
from torture.fuzz.cluster import FuzzedCluster
from torture.fuzz.exchange import Exchange, Named, play
from torture.fuzz.scripts import MASTER, WORKER, Script

CONNECTIONS = 8
ROUND = 250
"""Scripts between two looks at the cluster."""
FOUND_MAX = 20
MEMORY_GROWTH_MAX_BYTES = 50_000_000
"""From a quarter of the way to the end; by then the master keeps as many jobs as it ever will."""
FILES_GROWTH_MAX = 50
SETTLE_S = 5.0

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: in a script, or in the cluster somewhere before it.

    Attributes:
        number: the script's; or None, if a look at the cluster has found it.
    """

    number: int | None
    what: str


@dataclass(slots=True)
class Tally:
    """The replies to scripts, and the faults.

    Attributes:
        statuses: of the replies, by target.
        memory_bytes: of each process: at a quarter of the way, and at the end.
        logs: the folder of the logs, if something was found.
    """

    scripts: int = 0
    requests: int = 0
    statuses: dict[str, Counter[int]] = field(
        default_factory=lambda: {MASTER: Counter(), WORKER: Counter()}
    )
    found: list[Fault] = field(default_factory=list)
    memory_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    took_s: float = 0.0
    logs: Path | None = None

    def add(self, number: int, script: Script, exchange: Exchange) -> None:
        self.scripts += 1
        self.requests += exchange.requests
        self.statuses[script.target].update(exchange.statuses)
        self.found += [Fault(number, fault) for fault in exchange.faults]


def run(seed: int, requests: int, *, progress: Progress = lambda done: None) -> Tally:
    """Send about that number of requests in the scripts of a seed; stop after `FOUND_MAX` faults.

    Args:
        progress: told the number of requests sent, now and then.
    """
    started = time.monotonic()
    tally = Tally()
    with runner.folder("fuzz") as folder, FuzzedCluster(folder.path) as cluster:
        files_before = cluster.open_files()
        memory_before: dict[str, int] = {}
        named = Named()
        while tally.requests < requests and len(tally.found) < FOUND_MAX:
            first = tally.scripts
            asyncio.run(_round(seed, cluster, tally, requests, named))
            span = f"after scripts {first} to {tally.scripts - 1}"
            tally.found += [Fault(None, f"{span}: {fault}") for fault in cluster.faults()]
            progress(tally.requests)
            if not memory_before and tally.requests > requests / 4:
                memory_before = cluster.memory_bytes()
        memory = cluster.memory_bytes()
        tally.memory_bytes = {name: (memory_before[name], memory[name]) for name in memory_before}
        at_last = [*_growth(tally, cluster, files_before), *cluster.idle_faults()]
        tally.found += [Fault(None, f"at last: {fault}") for fault in at_last]
        if tally.found:
            folder.keep, tally.logs = True, folder.path
    tally.took_s = time.monotonic() - started
    return tally


async def _round(
    seed: int, cluster: FuzzedCluster, tally: Tally, requests: int, named: Named
) -> None:
    numbers = iter(range(tally.scripts, tally.scripts + ROUND))

    async def one_after_another() -> None:
        for number in numbers:
            if tally.requests >= requests or len(tally.found) >= FOUND_MAX:
                return
            script, exchange = await play_one(seed, number, cluster, named)
            tally.add(number, script, exchange)

    await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))


async def play_one(
    seed: int, number: int, cluster: FuzzedCluster, named: Named | None = None
) -> tuple[Script, Exchange]:
    """Play script `number` of a seed against a cluster; see `play`."""
    script = scripts.script(seed, number, cluster.silent_ports)
    ports = cluster.worker_ports if script.target == WORKER else [cluster.port]
    return script, await play(script, ports[number % len(ports)], named)


def _growth(tally: Tally, cluster: FuzzedCluster, files_before: int) -> Iterator[str]:
    for name, (before, after) in tally.memory_bytes.items():
        if after - before > MEMORY_GROWTH_MAX_BYTES:
            yield f"{name} grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB"
    deadline = time.monotonic() + SETTLE_S
    while (files := cluster.open_files()) > files_before + FILES_GROWTH_MAX:
        if time.monotonic() > deadline:
            yield f"the master has {files} files open, {files_before} at first"
            return
        time.sleep(0.05)
