"""The bounds that the connections to a server share: their number, their bytes, their slowness.

What is incomplete costs memory: a request of which only a part has come, and an answer that the
peer has not taken. Both have to go on at `SLOW_BYTES` in `SLOW_S`. Beyond the bound of bytes, the
connection that has stalled for longest is closed; the others are read one after the other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

CONNECTIONS_MAX = 100
BYTES_MAX = 64_000_000
SLOW_BYTES, SLOW_S = 100_000, 20.0
"""What has begun has these bytes, or its rest, in this time."""
LONGEST_S = 120.0
"""The longest time for one request or one answer."""
STALLED_S = 1.0
"""Where bytes are short, what had none for this time is closed."""
SWEEP_S = 0.5


class Peer(Protocol):
    """A connection.

    Attributes:
        has_asked: it has sent a whole request.
        is_at_work: the answer to a request is being made.
    """

    has_asked: bool
    is_at_work: bool

    @property
    def is_over(self) -> bool:
        """It sends what is left, and does nothing else."""

    @property
    def held(self) -> int:
        """The bytes in memory of what is incomplete."""

    def receive(self, receives: bool) -> None:
        """Read what it sends, or leave that to the system."""

    def close(self) -> None:
        """End the connection at once."""


@dataclass(slots=True)
class _Begun:
    """What is incomplete on a connection. `moved` are all bytes that have gone on, either way."""

    since: float
    window_since: float
    last_at: float
    held: int = 0
    moved: int = 0
    window_moved: int = 0
    waits: bool = False


class Crowd:
    """The open connections of a server, those that were quiet for longest first.

    Args:
        connections_max: beyond it a new connection replaces one that is quiet.
        bytes_max: the bound of the bytes of what is incomplete, of all together.
        slow_s: the time in which what has begun has `SLOW_BYTES` or ends.
    """

    def __init__(
        self,
        connections_max: int = CONNECTIONS_MAX,
        bytes_max: int = BYTES_MAX,
        slow_s: float = SLOW_S,
    ) -> None:
        self._connections_max = connections_max
        self._bytes_max = bytes_max
        self._slow_s = slow_s
        self._open: dict[Peer, None] = {}
        self._begun: dict[Peer, _Begun] = {}
        self._bytes = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, peer: Peer) -> bool:
        """Take in a connection; return False if there is no room for it."""
        if len(self._open) >= self._connections_max:
            other = self._one_to_replace()
            if other is None:
                return False
            self._close(other)
        self._open[peer] = None
        return True

    def leave(self, peer: Peer) -> None:
        self._open.pop(peer, None)
        self._end(peer)

    def asked(self, peer: Peer) -> None:
        """A connection has sent something, so it is no longer quiet."""
        if peer in self._open:
            del self._open[peer]
            self._open[peer] = None

    def moved(self, peer: Peer, count: int) -> bool:
        """Bytes have come from a peer, and something is incomplete; False for one refused."""
        if peer not in self._open:
            return False
        now = asyncio.get_running_loop().time()
        begun = self._begun.get(peer)
        if begun is None:
            begun = self._begun[peer] = _Begun(now, now, now)
            self._sweep_later()
        begun.moved += count
        begun.last_at = now
        self._count(peer, begun)
        if self._bytes > self._bytes_max and not begun.waits and self._is_in_the_way(peer):
            begun.waits = True
            peer.receive(False)
        return True

    def completed(self, peer: Peer) -> None:
        """Nothing on a connection is incomplete any more."""
        if peer in self._begun:
            self._end(peer)

    def _count(self, peer: Peer, begun: _Begun) -> int:
        """Count the bytes of what is incomplete; return by how many they have become fewer."""
        held = peer.held
        fewer = begun.held - held
        self._bytes -= fewer
        begun.held = held
        return fewer

    def _one_to_replace(self) -> Peer | None:
        """A connection without a whole request before one that has sent some, and is quiet."""
        for peer in self._open:
            if not peer.has_asked:
                return peer
        return next((peer for peer in self._open if peer not in self._begun), None)

    def _is_in_the_way(self, peer: Peer) -> bool:
        """True unless it is the first of those that are incomplete, which goes on at any rate."""
        return next(iter(self._begun)) is not peer

    def _end(self, peer: Peer) -> None:
        begun = self._begun.pop(peer, None)
        if begun is None:
            return
        self._bytes -= begun.held
        if begun.waits:
            peer.receive(True)
        self._go_on()
        if not self._begun and self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _go_on(self) -> None:
        """Let connections go on that wait for bytes, if there is room, or for the first of them."""
        for peer, begun in self._begun.items():
            if begun.waits and (self._bytes <= self._bytes_max or not self._is_in_the_way(peer)):
                begun.waits = False
                now = asyncio.get_running_loop().time()
                begun.since = begun.window_since = begun.last_at = now
                peer.receive(True)
                return

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            pause_s = min(SWEEP_S, self._slow_s / 4)
            self._sweeping = asyncio.get_running_loop().call_later(pause_s, self._sweep)

    def _sweep(self) -> None:
        """Close what is slow, and what has stalled where bytes are short."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        is_short = any(begun.waits for begun in self._begun.values())
        for peer, begun in list(self._begun.items()):
            fewer = self._count(peer, begun)
            if fewer > 0:  # The peer has taken a part of its answer.
                begun.moved += fewer
                begun.last_at = now
            if not begun.held:
                self._end(peer)
                if peer.is_over:
                    self._close(peer)
                continue
            if begun.waits or peer.is_at_work:
                continue
            if begun.moved - begun.window_moved >= SLOW_BYTES:
                begun.window_since, begun.window_moved = now, begun.moved
            is_slow = now - begun.window_since > self._slow_s or now - begun.since > LONGEST_S
            if is_slow or (is_short and now - begun.last_at > STALLED_S):
                self._close(peer)
        self._go_on()
        if self._begun:
            self._sweep_later()

    def _close(self, peer: Peer) -> None:
        self.leave(peer)
        peer.close()
