"""The bounds of replies of workers: one for each, and those that all share."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.wire.codec import Malformed
from dte.wire.http.client import KeptAliveConnection

SMALL_REPLY_BYTES = 65_536
"""The longest reply to a request that asks for no value: a 202, or an error page of a framework."""
HEALTH_BYTES = 1_000_000
NUMBER_BYTES = INTEGER_DIGITS_MAX + 10
REPLY_BYTES_BESIDE = 1_000
"""The bytes of a reply besides its values."""
BYTES_MAX = 250_000_000
SLOW_BYTES, SLOW_S = 100_000, 20.0
"""A reply that has begun has these bytes, or its rest, in this time."""
SWEEPS = 4
"""Looks for slow replies in that time."""
PARTS_A_TURN = 3
"""Parts of replies in small chunks that are read at a time, of all together: 0.7 ms."""
PARTS_EVERY_S = 0.002


def batch_reply_bytes(operations: int) -> int:
    """The longest reply to a batch of arithmetic."""
    return max(SMALL_REPLY_BYTES, operations * NUMBER_BYTES + REPLY_BYTES_BESIDE)


def value_reply_bytes(value_bytes_max: int) -> int:
    """The longest reply to a call."""
    return max(SMALL_REPLY_BYTES, value_bytes_max + REPLY_BYTES_BESIDE)


def malformed(status: int, size: int, error: Malformed) -> str:
    """Describe a reply that is none of a worker, without a word of it: it may be anybody's."""
    return f"malformed reply, status {status}: {error} ({size} bytes)"


class Replies:
    """Counts the incomplete replies of workers, and refuses those that exceed a bound.

    Beyond the bound of bytes, the longest reply of the host with most bytes is refused: a host that
    fills the bound is not in the way of others.

    Args:
        bytes_max: the bound of all together.
        slow_s: the time in which a reply has `SLOW_BYTES` or ends.
    """

    def __init__(self, bytes_max: int = BYTES_MAX, slow_s: float = SLOW_S) -> None:
        self._bytes_max = bytes_max
        self._slow_s = slow_s
        self._held: dict[KeptAliveConnection, int] = {}
        self._windows: dict[KeptAliveConnection, tuple[float, int]] = {}
        self.bytes = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._behind: deque[Callable[[], None]] = deque()
        self._scheduled = False

    # Bytes and slowness

    def grew(self, connection: KeptAliveConnection) -> None:
        held = connection.held
        if connection not in self._held:
            self._windows[connection] = (asyncio.get_running_loop().time(), held)
            self._sweep_later()
        self.bytes += held - self._held.get(connection, 0)
        self._held[connection] = held
        while self.bytes > self._bytes_max:
            used = f"{self.bytes} of {self._bytes_max} bytes (worker_replies_bytes_max)"
            self._longest().refuse(f"replies of workers that are incomplete take {used}")

    def ended(self, connection: KeptAliveConnection) -> None:
        self.bytes -= self._held.pop(connection, 0)
        self._windows.pop(connection, None)
        if not self._held and self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _longest(self) -> KeptAliveConnection:
        """The connection with the longest reply, among those to the host with most bytes."""
        of_hosts: Counter[str] = Counter()
        for connection, held in self._held.items():
            of_hosts[connection.host] += held
        ((host, _),) = of_hosts.most_common(1)
        of_host = (each for each in self._held if each.host == host)
        return max(of_host, key=self._held.__getitem__)

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self._slow_s / SWEEPS, self._sweep)

    def _sweep(self) -> None:
        """Refuse slow replies."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for connection, (since, held_then) in list(self._windows.items()):
            held = self._held.get(connection, 0)
            if held - held_then >= SLOW_BYTES:
                self._windows[connection] = (now, held)
            elif now - since > self._slow_s and connection in self._held:
                connection.refuse(f"it has fewer than {SLOW_BYTES} bytes in {self._slow_s:g} s")
        if self._held:
            self._sweep_later()

    # Time

    def later(self, go_on: Callable[[], None]) -> None:
        self._behind.append(go_on)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._behind:
            self._scheduled = True
            asyncio.get_running_loop().call_later(PARTS_EVERY_S, self._go_on)

    def _go_on(self) -> None:
        """Let some connections that are behind go on; the others follow in their order."""
        self._scheduled = False
        for _ in range(min(PARTS_A_TURN, len(self._behind))):
            self._behind.popleft()()
        self._schedule()
