"""Kills, stops and disturbs at random, by a plan that is made of a seed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random

from torture.chaos.cluster import LEASE_S, Cluster
from torture.chaos.nodes import Node
from torture.chaos.proxy import Fault, Link

Lengths = Sequence[tuple[float, float, float]]
"""Of lengths to choose from: how often, from, to."""

MASTER_SHARE = 0.4
"""Of the kills, how many are of the master; the workers share the others."""
AGAIN_SHARE = 0.2
"""Of the kills, how many hit the node that was killed last when its next life has just begun."""
AGAIN_S = (0.0, 0.8)
DOWN: Lengths = ((5, 0.0, 0.1), (4, 0.1, 1.0), (1, 1.0, 2.0))
"""How long a node is down, in parts of the time between two kills."""
ENDS_EVERY_S = (4.0, 14.0)
WHOLE_SHARE = 0.7
"""Of the ends by SIGTERM, how many are those of a service manager, which signals all processes."""
YOUNG_S = 0.3
START_S = 3.0
"""How long a process may take until it knows what to do at SIGTERM."""
STOPS_EVERY_S = (2.0, 7.0)
STOP_S: Lengths = ((1, 0.1, 1.0), (1, LEASE_S + 0.2, 2 * LEASE_S))
"""How long a node is stopped; some for longer than a lease."""
DAY_S = 86_400.0
CLOCK_EVERY_S = (1.0, 6.0)
CLOCK_S: Lengths = ((2, -3600.0, 3600.0), (1, -400 * DAY_S, 400 * DAY_S))
"""How far the clock is set ahead, or back."""
CALM_S = (0.5, 6.0)
FAULT_S = (0.2, 3.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One harm of a plan.

    Attributes:
        at_s: when, in seconds from the beginning.
        length_s: for how long.
        node: which one, 0 for the master.
        fault: which one, if it is about a link.
        clock_s: how far the clock is set ahead, if it is about that.
        whole: the node's child processes get its signal too.
    """

    at_s: float
    length_s: float
    node: int = 0
    fault: Fault = Fault.NONE
    whole: bool = False
    clock_s: float = 0.0


def plan_kills(kills: int, seconds: float, workers: int, randoms: Random) -> list[Step]:
    """A plan of kills, spread over the time: the node, the moment, the time that it is down."""
    steps: list[Step] = []
    each_s = seconds / max(1, kills)
    for number in range(kills):
        if steps and randoms.random() < AGAIN_SHARE:
            last = steps[-1]
            at_s = last.at_s + last.length_s + randoms.uniform(*AGAIN_S)
            node = last.node
        else:
            at_s = (number + randoms.random()) * each_s
            node = 0 if randoms.random() < MASTER_SHARE else randoms.randint(1, workers)
        steps.append(Step(at_s, each_s * _length(DOWN, randoms), node))
    return sorted(steps, key=lambda step: step.at_s)


def plan_ends(seconds: float, workers: int, randoms: Random) -> list[Step]:
    """A plan of ends by SIGTERM, each with the time that the node is down."""
    steps: list[Step] = []
    at_s = randoms.uniform(*ENDS_EVERY_S)
    while at_s < seconds:
        node = 0 if randoms.random() < MASTER_SHARE else randoms.randint(1, workers)
        length_s = min(seconds - at_s, randoms.uniform(0, 0.5))
        steps.append(Step(at_s, length_s, node, whole=randoms.random() < WHOLE_SHARE))
        at_s += randoms.uniform(*ENDS_EVERY_S)
    return steps


def plan_stops(seconds: float, workers: int, randoms: Random) -> list[Step]:
    """A plan of stops, each with its length."""
    steps: list[Step] = []
    at_s = randoms.uniform(*STOPS_EVERY_S)
    while at_s < seconds:
        node = 0 if randoms.random() < MASTER_SHARE else randoms.randint(1, workers)
        steps.append(Step(at_s, min(seconds - at_s, _length(STOP_S, randoms)), node))
        at_s += steps[-1].length_s + randoms.uniform(*STOPS_EVERY_S)
    return steps


def plan_clock(seconds: float, randoms: Random) -> list[Step]:
    """A plan of settings of the clock, each with the time until it is put right."""
    steps: list[Step] = []
    at_s = randoms.uniform(*CLOCK_EVERY_S)
    while at_s < seconds:
        length_s = min(seconds - at_s, randoms.uniform(*FAULT_S))
        steps.append(Step(at_s, length_s, clock_s=_length(CLOCK_S, randoms)))
        at_s += length_s + randoms.uniform(*CLOCK_EVERY_S)
    return steps


def plan_faults(seconds: float, randoms: Random) -> list[Step]:
    """A plan of the faults of a link, each with its length."""
    steps: list[Step] = []
    faults = [fault for fault in Fault if fault is not Fault.NONE]
    at_s = randoms.uniform(*CALM_S)
    while at_s < seconds:
        length_s = min(seconds - at_s, randoms.uniform(*FAULT_S))
        steps.append(Step(at_s, length_s, fault=randoms.choice(faults)))
        at_s += steps[-1].length_s + randoms.uniform(*CALM_S)
    return steps


def _length(lengths: Lengths, randoms: Random) -> float:
    (chosen,) = randoms.choices(lengths, [weight for weight, _, _ in lengths])
    return randoms.uniform(*chosen[1:])


class Nemesis:
    """Does harm to a cluster.

    Args:
        cluster: what to harm.
        kills: the number of kills.
        seconds: in how much time.
        seed: decides about everything.
        tell: is told what is done, as sentences.

    Attributes:
        kills: how often each node was killed, by name.
        ends: how often each was ended with SIGTERM.
        stops: how often each was stopped.
        problems: what did not end as it should, as sentences.
        faults: how often each fault was switched on, by name.
        clock_settings: how often the clock was set wrong.
    """

    def __init__(
        self, cluster: Cluster, kills: int, seconds: float, seed: int, tell: Callable[[str], None]
    ) -> None:
        def randoms(what: str) -> Random:
            # One series for each of what goes on at the same time: none depends on another's pace.
            return Random(f"{seed} {what}")

        self._cluster = cluster
        self._seconds = seconds
        self._tell = tell
        workers = len(cluster.workers)
        self._kills = plan_kills(kills, seconds, workers, randoms("kills"))
        self._ends = plan_ends(seconds, workers, randoms("ends"))
        self._stops = plan_stops(seconds, workers, randoms("stops"))
        self._clock = plan_clock(seconds, randoms("clock"))
        self._faults = {
            link: plan_faults(seconds, randoms(f"faults {link.name}")) for link in cluster.links
        }
        self.problems: list[str] = []
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.clock_settings = 0

    async def rage(self) -> None:
        """Carry out the plan. What is broken at its end stays so."""
        began_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for step in self._kills:
                group.create_task(_at(began_at + step.at_s, self._kill(step)))
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
        while not node.lives:  # Only what lives can be killed.
            node.start()
            await asyncio.sleep(YOUNG_S)
        self._tell(f"{node.name} ({node.pid}) is killed, for {step.length_s:.2f} s")
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
        code = await self._cluster.end(node, whole=step.whole)
        self._tell(f"{node.name} has ended with exit code {code}")
        self.ends[node.name] += 1
        if code != 0 and not (may_be_starting and code == -signal.SIGTERM):
            how = "had to be killed" if code is None else f"ended with exit code {code}"
            self.problems.append(f"{node.name} {how} after SIGTERM")
        await asyncio.sleep(step.length_s)
        self._start(node)

    def _start(self, node: Node) -> None:
        if not node.lives:
            node.start()
            self._tell(f"{node.name} ({node.pid}) is started")

    async def _stop(self, step: Step) -> None:
        node = self._cluster.nodes[step.node]
        if not node.lives or node.stopped:
            return
        pid = node.pid
        self._tell(f"{node.name} ({pid}) is stopped, for {step.length_s:.2f} s")
        node.stop()
        self.stops[node.name] += 1
        await asyncio.sleep(step.length_s)
        if node.lives and node.pid == pid:
            node.go_on()
            self._tell(f"{node.name} ({pid}) goes on")

    async def _set_clock(self, step: Step) -> None:
        self._tell(f"the clock is set {step.clock_s:.0f} s ahead, for {step.length_s:.2f} s")
        self._cluster.clock.set(step.clock_s)
        self.clock_settings += 1
        await asyncio.sleep(step.length_s)
        self._cluster.clock.set(0.0)
        self._tell("the clock is right")

    async def _disturb(self, link: Link, step: Step) -> None:
        self._tell(f"{link.name}: {step.fault.value}, for {step.length_s:.2f} s")
        link.set_fault(step.fault)
        self.faults[step.fault.value] += 1
        await asyncio.sleep(step.length_s)
        link.set_fault(Fault.NONE)
        self._tell(f"{link.name}: no fault")


async def _at(moment: float, harm: Coroutine[None, None, None]) -> None:
    try:
        await asyncio.sleep(moment - time.monotonic())
    except asyncio.CancelledError:
        harm.close()
        raise
    await harm
