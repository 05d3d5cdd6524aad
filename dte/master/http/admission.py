"""Where requests stand in line when more of them come than can be begun at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque

LONG_TURN_S = 0.01


class Admission:
    """Lets some through in each turn of the loop; the others follow in the order they came.

    A thousand requests that begin in the same turn keep the loop from all else until the last is
    answered, and so do the thousand that their clients send next.

    Args:
        most: how many are let through in a turn.
        least: and how many when turns get long.
    """

    def __init__(self, most: int, least: int) -> None:
        self._most = most
        self._least = least
        self._a_turn = most
        self._left = most
        self._line: deque[asyncio.Future[None]] = deque()
        self._turning = False
        self._turned_at = 0.0

    def __len__(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def enter(self) -> asyncio.Future[None] | None:
        """None for who is let through at once; else what is done when it is their turn."""
        if not self._turning:
            self._turn_later()
            self._turned_at = time.monotonic()
        if self._left and not self._line:
            self._left -= 1
            return None
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        return place

    def _turn_later(self) -> None:
        self._turning = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._turned_at > LONG_TURN_S:
            self._a_turn = max(self._least, self._a_turn // 2)
        else:
            self._a_turn = min(self._most, self._a_turn + 1)
        self._turned_at = now
        self._left = self._a_turn
        while self._left and self._line:
            place = self._line.popleft()
            if not place.done():  # Else whoever stood there has gone.
                place.set_result(None)
                self._left -= 1
        self._turning = False
        if self._left < self._a_turn:
            self._turn_later()
