"""The disk of the master: a real SQLite database in memory, which outlives the master's processes.

Only `sqlite3.connect` is stood in for: each start of a master gets a connection of its own to the
same database. Through it statements fail while the disk is full or broken, and the master can be
killed before any statement, or after a commit that nobody was told of.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from enum import Enum
from typing import Any

from torture.simulation.world import Process, World

WRITING = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT", "ROLLBACK", "\nINSERT", "\nDELETE")

in_memory = sqlite3.connect


class Killed(BaseException):
    """The master's process ended in the midst of what its thread did."""


class Fault(Enum):
    """What is wrong with a disk."""

    FULL = "SQLITE_FULL"
    BROKEN = "SQLITE_IOERR_WRITE"
    UNREADABLE = "SQLITE_IOERR_READ"


class Disk:
    """A SQLite database in memory.

    Attributes:
        database: what is on the disk.
        fault: what is wrong with it at the moment; None if nothing is.
        failing: how many statements fail by that.
        slow_s: how long a piece of work takes at most.
        kill_in: after so many statements the process that uses the disk is killed; None for never.
        on_kill: who does that.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.fault: Fault | None = None
        self.failing = 0.5
        self.slow_s = 0.003
        self.kill_in: int | None = None
        self.on_kill: Callable[[], None] = lambda: None
        self._free_at = 0.0

    def connect(self, path: str, **options: Any) -> Connection | sqlite3.Connection:
        """A connection for a new process: what another one left unfinished is undone."""
        if not options:  # It is no journal: a schema is made, to compare one with it.
            return in_memory(path)
        self.detach()
        return Connection(self, self._world)

    def detach(self) -> None:
        """Undo what the last process left unfinished."""
        if self.database.in_transaction:
            self.database.execute("ROLLBACK")
        self._free_at = self._world.now

    def serve(self, process: Process) -> None:
        """Do what a process gives to its thread, one piece of work after the other."""

        def begin(future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
            random = self._world.random
            begins_at = max(self._world.now, self._free_at) + random.random() * self.slow_s
            self._free_at = begins_at + random.random() * self.slow_s
            process.call_later(
                begins_at - self._world.now, do, future, work, self._free_at - begins_at
            )

        def do(future: asyncio.Future[Any], work: Callable[[], Any], rest_s: float) -> None:
            result, error = None, None
            try:
                result = work()
            except Killed:
                self.on_kill()
                return
            except sqlite3.ProgrammingError:
                raise
            except Exception as failure:
                error = failure
            process.call_later(rest_s, tell, future, result, error)

        def tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        process.disk = begin

    # What there is on it

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives, for those who look on: nothing fails."""
        return self.database.execute(query, values).fetchall()


class Connection:
    """What a journal takes for a connection to a SQLite file."""

    def __init__(self, disk: Disk, world: World) -> None:
        self._disk = disk
        self._world = world
        self._open = True

    @property
    def in_transaction(self) -> bool:
        return self._open and self._disk.database.in_transaction

    def close(self) -> None:
        if self._open:
            self._open = False
            self._disk.detach()

    def executescript(self, script: str) -> None:
        self._before("BEGIN")
        self._disk.database.executescript(script)

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        disk = self._disk
        self._before(statement)
        cursor = disk.database.execute(statement, values)
        if statement == "COMMIT" and disk.kill_in is not None:
            # Between the commit and the moment when somebody is told of it.
            self._count_down()
        return cursor

    def _before(self, statement: str) -> None:
        disk = self._disk
        if not self._open:
            raise sqlite3.ProgrammingError("the process of this connection has ended")
        writing = statement.startswith(WRITING)
        if writing and disk.kill_in is not None:
            self._count_down()
        if disk.fault is None or statement.startswith("PRAGMA"):
            return
        fails = not writing if disk.fault is Fault.UNREADABLE else writing
        if fails and self._world.chance(disk.failing):
            # A transaction may be over by that, as after some failures of SQLite itself; a failed
            # ROLLBACK always ends it.
            rolls_back = statement == "ROLLBACK" or self._world.chance(0.5)
            if disk.database.in_transaction and rolls_back:
                disk.database.execute("ROLLBACK")
            self._world.seen[f"{disk.fault.value} at {statement.split()[0]}"] += 1
            error = sqlite3.OperationalError("the disk is full or broken")
            error.sqlite_errorname = disk.fault.value
            raise error

    def _count_down(self) -> None:
        disk = self._disk
        assert disk.kill_in is not None
        disk.kill_in -= 1
        if disk.kill_in < 0:
            disk.kill_in = None
            self.close()
            raise Killed
