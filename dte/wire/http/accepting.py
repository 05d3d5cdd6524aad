"""Accepts connections on sockets that listen, some in each turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

ACCEPTED_A_TURN = 32
PAUSE_S = 0.5
"""How long nothing is accepted when the system has no descriptor or memory left for it."""


class Acceptor:
    """Accepts connections on the running loop.

    Args:
        accepted: is given each, with the address of the other side.
        failed: is told why none can be accepted for the time being.
    """

    def __init__(
        self, accepted: Callable[[socket.socket, Any], None], failed: Callable[[OSError], None]
    ) -> None:
        self._accepted = accepted
        self._failed = failed
        self._listening: list[socket.socket] = []

    def add(self, listening: socket.socket) -> None:
        """Accept what comes on a socket."""
        self._listening.append(listening)
        self._accept_on(listening)

    def stop(self) -> None:
        """Accept nothing more, and close the sockets that listen."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._listening.clear()

    def _accept_on(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_A_TURN):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # What waits would be reported again at once, and accepted no better.
                self._failed(error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(PAUSE_S, self._accept_on, listening)
                return
            self._accepted(connection, address)
