"""All scenarios of overload, from too many clients to hostile ones."""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from torture.overload import (
    bodies,
    bodies_of_json,
    memory,
    operators,
    owners,
    readers,
    slow_clients,
    submissions,
    turns,
    workers_port,
)
from torture.overload.scenario import Scenario

NICE = 5
"""The niceness of clients: they must burden the master, and not take its core away."""
SCENARIOS = [
    *submissions.SCENARIOS,
    *bodies.SCENARIOS,
    *readers.SCENARIOS,
    *slow_clients.SCENARIOS,
    *operators.SCENARIOS,
    *turns.SCENARIOS,
    *memory.SCENARIOS,
    *owners.SCENARIOS,
    *workers_port.SCENARIOS,
    *bodies_of_json.SCENARIOS,
]


def done_to(port: int, scenario: Scenario, seconds: float) -> Counter[str]:
    """Let the clients of a scenario go on in a process of their own, and count the replies."""
    with ProcessPoolExecutor(1, get_context("spawn"), os.nice, (NICE,)) as process:
        return process.submit(_act, SCENARIOS.index(scenario), port, seconds).result()


def _act(number: int, port: int, seconds: float) -> Counter[str]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(SCENARIOS[number].act(port, seconds))
