"""Orders on their way to a child process, which may be slow to read them."""

from __future__ import annotations

import asyncio
import os

from dte.worker.processes.channel import Begin, Stop, packet


class Orders:
    """Sends orders without ever waiting for their reader, on the running loop.

    Args:
        fileno: the channel, which does not block.
    """

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Begin | Stop] = []
        self._unsent = bytearray()
        self._is_over = False

    def add(self, order: Begin | Stop) -> None:
        """Send an order, in one packet with others of this iteration of the loop."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(order)

    def stop(self) -> None:
        """Send nothing more that is not under way."""
        self._is_over = True

    def close(self) -> None:
        """Forget what is not sent, before the channel is closed."""
        self.stop()
        self._loop.remove_writer(self._fileno)

    def _send(self) -> None:
        orders, self._waiting = self._waiting, []
        if self._is_over:
            return
        waits = bool(self._unsent)
        if waits:
            self._unsent += packet(orders)
        else:
            self._unsent = packet(orders)  # Arguments may be long: they are copied once.
            self._send_unsent()
            if self._unsent:
                self._loop.add_writer(self._fileno, self._send_unsent)

    def _send_unsent(self) -> None:
        try:
            del self._unsent[: os.write(self._fileno, self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # The process has ended, which the channel reports in a moment.
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self._fileno)
