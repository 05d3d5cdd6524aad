"""Where requests stand in line when more of them come than can be begun."""

from __future__ import annotations

import asyncio
import time
from collections import deque

BEGUN_MAX = 8
BEGUN_MIN = 2
"""How many requests begin in a turn of the loop: fewer when turns get long."""
LONG_TURN_S = 0.01


class Turnstile:
    """Lets some requests begin in each turn of the loop; the others follow in the order they came.

    A thousand requests that begin in the same turn keep the loop from all else until the last is
    answered, and so do the thousand that their clients send next.
    """

    def __init__(self) -> None:
        self._a_turn = BEGUN_MAX
        self._left = BEGUN_MAX
        self._line: deque[asyncio.Future[None]] = deque()
        self._turning = False
        self._turned_at = 0.0

    def __len__(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def enter(self) -> asyncio.Future[None] | None:
        """None for who may begin at once; else what is done when it is their turn."""
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
            self._a_turn = max(BEGUN_MIN, self._a_turn // 2)
        else:
            self._a_turn = min(BEGUN_MAX, self._a_turn + 1)
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
