"""Plans of harm: what is done to whom, when, and for how long, made of chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from torture.chaos.proxy import Fault
from torture.chaos.times import LEASE_S

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
STOP_S: Lengths = ((1, 0.1, 1.0), (1, LEASE_S + 0.2, 2 * LEASE_S))
"""How long a worker is stopped; sometimes for longer than a lease."""
MASTER_STOP_S: Lengths = ((3, 0.1, 1.0), (1, 3.0, 20.0))
"""How long the master is stopped: nobody loses a call by that."""
DAY_S = 86_400.0
CLOCK_EVERY_S = (1.0, 6.0)
CLOCK_S: Lengths = ((2, -3600.0, 3600.0), (1, -400 * DAY_S, 400 * DAY_S))
"""How far the clock is set ahead, or back."""
CALM_S = (0.5, 6.0)
FAULT_S = (0.2, 3.0)
CALM_BEFORE_S, CALM_AFTER_S = 6.0, 3.0
"""No fault of a link is felt any more when a long stop of the master begins, or is noticed."""


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


def plan_stops(stops: int, seconds: float, workers: int, randoms: Random) -> list[Step]:
    """A plan of stops, spread over the time: the node, the moment, the length."""
    steps: list[Step] = []
    for number in range(stops):
        at_s = (number + randoms.random()) * seconds / stops
        node = 0 if randoms.random() < MASTER_SHARE else randoms.randint(1, workers)
        lengths = STOP_S if node else MASTER_STOP_S
        steps.append(Step(at_s, min(seconds - at_s, _length(lengths, randoms)), node))
    return steps


def plan_process_kills(kills: int, seconds: float, randoms: Random) -> list[Step]:
    """A plan of kills of the processes of handlers."""
    return [Step(randoms.uniform(0, seconds), 0.0) for _ in range(kills)]


def plan_clock(seconds: float, randoms: Random) -> list[Step]:
    """A plan of settings of the clock, each with the time until it is put right."""
    steps: list[Step] = []
    at_s = randoms.uniform(*CLOCK_EVERY_S)
    while at_s < seconds:
        length_s = min(seconds - at_s, randoms.uniform(*FAULT_S))
        steps.append(Step(at_s, length_s, clock_s=_length(CLOCK_S, randoms)))
        at_s += length_s + randoms.uniform(*CLOCK_EVERY_S)
    return steps


def calm(stops: Sequence[Step]) -> list[tuple[float, float]]:
    """The times around long stops of the master, in which links have no faults.

    There only the stop may be to blame for what happens to calls.
    """
    return [
        (step.at_s - CALM_BEFORE_S, step.at_s + step.length_s + CALM_AFTER_S)
        for step in stops
        if step.node == 0 and step.length_s > LEASE_S
    ]


def plan_faults(
    seconds: float, randoms: Random, calm: Sequence[tuple[float, float]] = ()
) -> list[Step]:
    """A plan of the faults of a link, each with its length.

    Args:
        calm: times in which it has none.
    """
    steps: list[Step] = []
    faults = [fault for fault in Fault if fault is not Fault.NONE]
    at_s = randoms.uniform(*CALM_S)
    while at_s < seconds:
        length_s = min(seconds - at_s, randoms.uniform(*FAULT_S))
        step = Step(at_s, length_s, fault=randoms.choice(faults))
        if not any(at_s < until and at_s + length_s > since for since, until in calm):
            steps.append(step)
        at_s += length_s + randoms.uniform(*CALM_S)
    return steps


def _length(lengths: Lengths, randoms: Random) -> float:
    (chosen,) = randoms.choices(lengths, [weight for weight, _, _ in lengths])
    return randoms.uniform(*chosen[1:])
