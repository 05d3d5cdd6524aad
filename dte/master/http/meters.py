"""Counts the bytes of replies and bodies in memory."""

from __future__ import annotations

import asyncio

from dte.core.errors import Busy

BEGUN_SHARE = 0.75
"""Nothing long is begun beyond this share of the bound, so that what is begun can be finished."""


class Budget:
    """Bytes in memory, and their bound.

    Attributes:
        long_ones: lets `long_max` long values be made at a time.
    """

    def __init__(self, name: str, bytes_max: int, long_max: int) -> None:
        self._name = name
        self._bytes_max = bytes_max
        self.bytes = 0
        self.long_ones = asyncio.Semaphore(long_max)

    def add(self, count: int) -> None:
        self.bytes += count

    def remove(self, count: int) -> None:
        self.bytes -= count

    def ensure_room(self, begun: bool = False) -> None:
        """Raise `Busy` unless something long may begin, or, if it has `begun`, go on."""
        if self.bytes > self._bytes_max * (1.0 if begun else BEGUN_SHARE):
            used = f"{self.bytes} of {self._bytes_max} bytes"
            raise Busy(f"too much in memory: {used} ({self._name})")
