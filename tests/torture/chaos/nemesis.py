"""Kills, stops and disturbs at random, by a plan that is made of a seed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random

from torture.chaos.cluster import Cluster
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.victims import Victims
from torture.chaos.harms import BREAKING, Harms, Kind
from torture.chaos.nodes import Node
from torture.chaos.plans import (
    Step,
    calm,
    plan_clock,
    plan_ends,
    plan_faults,
    plan_kills,
    plan_process_kills,
    plan_stops,
)
from torture.chaos.proxy import Fault, Link

YOUNG_S = 0.3
START_S = 3.0
"""How long a process may take until it knows what to do at SIGTERM."""
PROCESS_KILLS_SHARE = 0.3
"""How many processes of handlers are killed for each kill of a node."""
LINGERING = {Fault.HALF_OPEN: 4.0, Fault.MUTE: 4.0}
LINGERS_S = 0.5
"""How long a fault is felt when it is over: connections that died in it are given up later."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much harm is done, and in how much time."""

    kills: int
    stops: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Records:
    """What is noted of the harm, for the accounting."""

    harms: Harms
    clock: ClockHistory
    victims: Victims


class Nemesis:
    """Does harm to a cluster.

    Args:
        cluster: what to harm.
        amount: how much.
        seed: decides about everything.
        records: take what is done.
        tell: is told what is done, as sentences.

    Attributes:
        kills: how often each node was killed, by name.
        ends: how often each was ended with SIGTERM.
        stops: how often each was stopped.
        problems: what did not end as it should, as sentences.
        faults: how often each fault was switched on, by name.
        clock_settings: how often the clock was set wrong.
        process_kills: how many processes of handlers were killed.
    """

    def __init__(
        self,
        cluster: Cluster,
        amount: Amount,
        seed: int,
        records: Records,
        tell: Callable[[str], None],
    ) -> None:
        def randoms(what: str) -> Random:
            # One series for each of what goes on at the same time: none depends on another's pace.
            return Random(f"{seed} {what}")

        self._cluster = cluster
        self._records = records
        self._harms = records.harms
        self._tell = tell
        workers, kills, seconds = len(cluster.workers), amount.kills, amount.seconds
        self._kills = plan_kills(kills, seconds, workers, randoms("kills"))
        process_kills = round(PROCESS_KILLS_SHARE * kills)
        self._process_kills = plan_process_kills(process_kills, seconds, randoms("processes"))
        self._ends = plan_ends(seconds, workers, randoms("ends"))
        self._stops = plan_stops(amount.stops, seconds, workers, randoms("stops"))
        self._clock = plan_clock(seconds, randoms("clock"))
        self._faults = {
            link: plan_faults(seconds, randoms(f"faults {link.name}"), calm(self._stops))
            for link in cluster.links
        }
        self.problems: list[str] = []
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.clock_settings = 0
        self.process_kills = 0

    async def rage(self) -> None:
        """Carry out the plan. What is broken at its end stays so."""
        began_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for step in self._kills:
                group.create_task(_at(began_at + step.at_s, self._kill(step)))
            for step in self._process_kills:
                group.create_task(_at(began_at + step.at_s, self._kill_process()))
            for step in self._ends:
                group.create_task(_at(began_at + step.at_s, self._end(step)))
            for step in self._stops:
                group.create_task(_at(began_at + step.at_s, self._stop(step)))
            for step in self._clock:
                group.create_task(_at(began_at + step.at_s, self._set_clock(step)))
            for link, steps in self._faults.items():
                for step in steps:
                    group.create_task(_at(began_at + step.at_s, self._disturb(link, step)))

    async def _kill(self, step: Step) -> None:
        node = self._cluster.nodes[step.node]
        node.check()
        await self._until_alive(node)
        self._tell(f"{node.name} ({node.pid}) is killed, for {step.length_s:.2f} s")
        self._harms.begin(Kind.KILLED, node.name)
        self._cluster.kill(node)
        self.kills[node.name] += 1
        await asyncio.sleep(step.length_s)
        self._start(node)

    async def _end(self, step: Step) -> None:
        node = self._cluster.nodes[step.node]
        if not node.lives:
            return
        may_be_starting = node.age_s < START_S
        name = f"{node.name} with its processes" if step.whole else node.name
        self._tell(f"{name} ({node.pid}) is told to end, and down for {step.length_s:.2f} s")
        self._harms.begin(Kind.ENDED, node.name)
        code = await self._cluster.end(node, whole=step.whole)
        self._tell(f"{node.name} has ended with exit code {code}")
        self.ends[node.name] += 1
        if code != 0 and not (may_be_starting and code == -signal.SIGTERM):
            how = "had to be killed" if code is None else f"ended with exit code {code}"
            self.problems.append(f"{node.name} {how} after SIGTERM")
        await asyncio.sleep(step.length_s)
        self._start(node)

    async def _until_alive(self, node: Node) -> None:
        """Only what lives can be harmed."""
        while not node.lives:
            self._start(node)
            await asyncio.sleep(YOUNG_S)

    def _start(self, node: Node) -> None:
        if not node.lives:
            node.start()
            self._harms.revived(node.name)
            self._tell(f"{node.name} ({node.pid}) is started")

    async def _stop(self, step: Step) -> None:
        node = self._cluster.nodes[step.node]
        await self._until_alive(node)
        # Another stop may not be over yet, and one that leaves has no time to lose.
        while node.stopped or node.leaves or not node.lives:
            await asyncio.sleep(YOUNG_S)
        pid = node.pid
        self._tell(f"{node.name} ({pid}) is stopped, for {step.length_s:.2f} s")
        harm = self._harms.begin(Kind.STOPPED, node.name)
        node.stop()
        self.stops[node.name] += 1
        await asyncio.sleep(step.length_s)
        if node.lives and node.pid == pid:
            node.go_on()
            self._tell(f"{node.name} ({pid}) goes on")
        self._harms.over(harm)

    async def _kill_process(self) -> None:
        pid = self._records.victims.kill_one(node.pid for node in self._cluster.workers)
        if pid is not None:
            self._harms.processes[pid] = time.monotonic()
            self._tell(f"process {pid} of a handler is killed")
            self.process_kills += 1

    async def _set_clock(self, step: Step) -> None:
        self._tell(f"the clock is set {step.clock_s:.0f} s ahead, for {step.length_s:.2f} s")
        self._cluster.clock.set(step.clock_s)
        self._records.clock.set(step.clock_s)
        self.clock_settings += 1
        await asyncio.sleep(step.length_s)
        self._cluster.clock.set(0.0)
        self._records.clock.set(0.0)
        self._tell("the clock is right")

    async def _disturb(self, link: Link, step: Step) -> None:
        self._tell(f"{link.name}: {step.fault.value}, for {step.length_s:.2f} s")
        kind = Kind.CUT if step.fault in BREAKING else Kind.SLOW
        harm = self._harms.begin(kind, self._cluster.worker_of(link))
        link.set_fault(step.fault)
        self.faults[step.fault.value] += 1
        await asyncio.sleep(step.length_s)
        link.set_fault(Fault.NONE)
        self._harms.over(harm, time.monotonic() + LINGERING.get(step.fault, LINGERS_S))
        self._tell(f"{link.name}: no fault")


async def _at(moment: float, harm: Coroutine[None, None, None]) -> None:
    try:
        await asyncio.sleep(moment - time.monotonic())
    except asyncio.CancelledError:
        harm.close()
        raise
    await harm
