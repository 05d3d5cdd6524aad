"""Where the simulation stands in for what surrounds dte: time, chance, the disk, connections.

Everything else of dte is as it is: core, master, recorder, dispatcher, journal, and of a worker its
arithmetic and its announcer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torture.simulation.disk import Disk
from torture.simulation.lines import Lines
from torture.simulation.profile import Knob
from torture.simulation.workers import MasterLine
from torture.simulation.world import Process, World

from dte.master import clock, master
from dte.master.dispatch import pool as connection_pool
from dte.master.journal import recorder
from dte.worker import announcer, compute

T = TypeVar("T")


class Clocks:
    """Stands in for the module ``time``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        """The moment on the clock of the machine of the process that asks."""
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        return self._world.now + process.clock_s

    def time(self) -> float:
        return self._world.wall_s


class JournalThread:
    """Stands in for the thread of the journal: the process has its disk do what is to be done."""

    def __init__(self) -> None:
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        self._process = process

    def do(self, work: Callable[[], T], told: Callable[[T | BaseException], None]) -> None:
        done = self._process.run_in_executor(None, work)
        done.add_done_callback(lambda done: told(done.exception() or done.result()))

    def close(self) -> None:
        pass


class Secrets:
    """Stands in for the module ``secrets``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def randbits(self, bits: int) -> int:
        return self._world.random.getrandbits(bits)


class Reach:
    """Stands in for the check of connections: that all are accepted, as far as is known."""

    def __init__(self, pool: object) -> None:
        pass

    async def problem(self, announcement: object) -> None:
        return None

    async def has_address(self, announcement: object) -> bool:
        return True

    async def other_at(self, announcement: object) -> None:
        return None


@contextmanager
def standing_in(
    world: World, disk: Disk, lines: Lines, knobs: Sequence[Knob], *, reaches: bool
) -> Iterator[None]:
    """Have dte meet the simulated world where it would meet the real one.

    Args:
        knobs: numbers in dte that are different in this world.
        reaches: the master finds out itself whether it can call its workers.
    """
    clocks = Clocks(world)
    places: list[tuple[Any, str, Any]] = [
        (master, "secrets", Secrets(world)),
        (recorder, "time", clocks),
        (clock, "time", clocks),
        (compute, "time", clocks),
        (sqlite3, "connect", disk.connect),
        (recorder, "JournalThread", JournalThread),
        (connection_pool, "KeptAliveConnection", lines.dial),
        (announcer, "time", clocks),
        (announcer, "MasterClient", MasterLine),
        (logging.getLogger("dte.master"), "disabled", True),
        (logging.getLogger("dte.worker"), "disabled", True),
    ]
    if not reaches:
        places.append((master, "Reach", Reach))
    places += [(module, name, value) for modules, name, value in knobs for module in modules]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, stand_in in places:
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for (module, name, _), value in reversed(list(zip(places, before, strict=True))):
            setattr(module, name, value)
