"""Requests for jobs that only the journal has: few jobs are read at a time, each for all who wait.

A job of the journal may take 30 MB in memory, and nobody knows before it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

AT_A_TIME = 1
"""Jobs that are read and shown at a time; the journal reads one at a time in any case."""


class Reading:
    """What is read of one job, for the requests that waited for it. One after another has it.

    Attributes:
        operations: how many the job has, if its calls are read.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.requests = 0
        self.operations = 0
        self._read: dict[str, Any] = {}

    async def once(self, what: str, read: Callable[[], Awaitable[T]]) -> T:
        """Read something of the job, or return what another request has read."""
        if what not in self._read:
            self._read[what] = await read()
        found: T = self._read[what]
        return found


class PastJobs:
    """Lets few requests at a time read and show jobs of the journal.

    Requests that wait for the same job share a reading, and those that come later have another: a
    job that is always asked for must not keep the others waiting.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_A_TIME)
        self._waiting: dict[Hashable, Reading] = {}
        self._begun: dict[Reading, asyncio.Task[bool]] = {}

    @property
    def operations(self) -> int:
        """The number of operations that are in memory only to be shown."""
        return sum(reading.operations for reading in self._begun)

    async def enter(self, key: Hashable) -> Reading:
        """Return the reading of a job when it is this request's turn; `leave` ends the turn."""
        reading = self._waiting.get(key)
        if reading is None:
            reading = self._waiting[key] = Reading()
            self._begun[reading] = asyncio.create_task(self._begin(key))
        reading.requests += 1
        try:
            await asyncio.shield(self._begun[reading])
            await reading.turn.acquire()
        except BaseException:
            self._drop(reading)
            raise
        return reading

    def leave(self, reading: Reading) -> None:
        """End a request's turn."""
        reading.turn.release()
        self._drop(reading)

    async def _begin(self, key: Hashable) -> bool:
        """Wait for a free place; from then on other requests have another reading."""
        try:
            return await self._free.acquire()
        finally:
            self._waiting.pop(key, None)

    def _drop(self, reading: Reading) -> None:
        reading.requests -= 1
        if reading.requests:
            return
        begun = self._begun.pop(reading)
        if begun.done():
            with suppress(asyncio.CancelledError):
                begun.result()
                self._free.release()
        else:
            begun.cancel()
