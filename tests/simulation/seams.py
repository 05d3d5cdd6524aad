"""Where the simulation stands in for what surrounds dte: time, chance, the disk, connections.

Everything else of dte is as it is: core, master, recorder, dispatcher, journal, and of a worker its
arithmetic and its announcer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dte.master import connection_pool, master, recorder, resuming
from dte.worker import announcer
from simulation.disk import Disk
from simulation.lines import Lines
from simulation.profile import Knob
from simulation.workers import HttpClient
from simulation.world import World


class Clocks:
    """Stands in for the module ``time``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        """The moment on the clock of the process that asks."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return self._world.wall_s


class Secrets:
    """Stands in for the module ``secrets``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def randbits(self, bits: int) -> int:
        return self._world.random.getrandbits(bits)


@contextmanager
def standing_in(world: World, disk: Disk, lines: Lines, knobs: Sequence[Knob]) -> Iterator[None]:
    """Have dte meet the simulated world where it would meet the real one.

    Args:
        knobs: numbers in dte that are different in this world.
    """
    clocks = Clocks(world)
    places: list[tuple[Any, str, Any]] = [
        (master, "time", clocks),
        (master, "secrets", Secrets(world)),
        (recorder, "time", clocks),
        (resuming, "time", clocks),
        (sqlite3, "connect", disk.connect),
        (connection_pool, "KeptAliveConnection", lines.dial),
        (announcer, "AsyncHTTPClient", HttpClient),
        (logging.getLogger("dte.master"), "disabled", True),
        (logging.getLogger("dte.worker"), "disabled", True),
    ]
    places += [(module, name, value) for modules, name, value in knobs for module in modules]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, stand_in in places:
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for (module, name, _), value in reversed(list(zip(places, before, strict=True))):
            setattr(module, name, value)
