"""Counts the bytes of replies and bodies in memory."""

from __future__ import annotations

import asyncio

from dte.core.errors import Busy, TooLarge
from dte.core.shares import OWN_USER, Shares

PAST_SHARE = 0.5
"""No job of the journal is read beyond this share: it takes several times its bytes meanwhile."""
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
        self._shares = Shares("bytes in memory", name, bytes_max)
        self.bytes = 0
        self.long_ones = asyncio.Semaphore(long_max)

    def add(self, count: int, owner: str = OWN_USER) -> None:
        self.bytes += count
        if owner:
            self._shares.add(owner, count)

    def remove(self, count: int, owner: str = OWN_USER) -> None:
        self.add(-count, owner)

    def ensure_room(
        self,
        begun: bool = False,
        owner: str = OWN_USER,
        part: float = BEGUN_SHARE,
        more: int = 0,
    ) -> None:
        """Check that an owner may begin something long, or go on with what has `begun`.

        Args:
            part: the part of the bound beyond which nothing begins.
            more: bytes that are not counted yet, but will be.

        Raises:
            Busy: there is no room now.
            TooLarge: there is never room for so many bytes.
        """
        part = 1.0 if begun else part
        bound = self._shares.share if owner else self._bytes_max
        if more > bound * part:
            raise TooLarge(
                f"too large for memory: {more} > {int(bound * part)} bytes ({self._name})"
            )
        if self.bytes + more > self._bytes_max * part:
            used = f"{self.bytes + more} of {self._bytes_max} bytes"
            raise Busy(f"too much in memory: {used} ({self._name})")
        if owner and self._shares.used(owner) + more > self._shares.share * part:
            used = f"{owner} has {self._shares.used(owner) + more} bytes in memory"
            share = f"its share is {self._shares.share}, half of {self._bytes_max}"
            raise Busy(f"{used}; {share} ({self._name})")
