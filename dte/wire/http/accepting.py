"""Accepts connections on listening sockets, a bounded number in each iteration of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

ACCEPTS_PER_ITERATION = 32
PAUSE_S = 0.5
"""The pause after a failed accept, when the system has no descriptor or memory left."""


class Acceptor:
    """Accepts connections on the running loop.

    Args:
        accepted: called with each connection and the address of its peer.
        failed: called with the error when accepting fails; the acceptor tries again later.
    """

    def __init__(
        self, accepted: Callable[[socket.socket, Any], None], failed: Callable[[OSError], None]
    ) -> None:
        self._accepted = accepted
        self._failed = failed
        self._listening: list[socket.socket] = []

    def add(self, listening: socket.socket) -> None:
        self._listening.append(listening)
        self._accept_on(listening)

    def stop(self) -> None:
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._listening.clear()

    def _accept_on(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_ITERATION):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # The loop would report the socket again at once, and the accept would fail again.
                self._failed(error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(PAUSE_S, self._accept_on, listening)
                return
            self._accepted(connection, address)
