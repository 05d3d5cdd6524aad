"""A look at packets that do not go on: a handler may have written the length of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dte.worker.processes.channel import Receiver

PAUSE_S = 10.0
"""A packet that has begun and does not go on for this time is none."""


class PacketWatch:
    """Checks that the packets of a child process go on.

    Args:
        read: reads once from the channel.
        on_stalled: called when a packet has not gone on.
    """

    def __init__(
        self, receiver: Receiver[Any], read: Callable[[], object], on_stalled: Callable[[], None]
    ) -> None:
        self._receiver = receiver
        self._read = read
        self._on_stalled = on_stalled
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Begin to check if a packet has begun."""
        if self._receiver.is_amid and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PAUSE_S, self._check, self._receiver.received)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, received: int) -> None:
        self._timer = None
        self._read()  # Perhaps more has come, and this process was away itself.
        if self._receiver.received != received:
            self.look()
        else:
            self._on_stalled()
