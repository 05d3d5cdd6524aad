"""Clients of the worst kind, on one loop: they never rest, never read, never come to the point."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle

from harness.http import HOST, content_length

MB = 1_000_000
FORMULA = b'{"task": "1+(2*3)/4-5"}'
STEP = 65_536
"""Bytes that are sent or read at once."""


class Asker(asyncio.Protocol):
    """Sends the next request as soon as the last was answered, and connects again when hung up on.

    Args:
        requests: what it sends, one after another.
        counts: takes the numbers of replies by status, and of ``closed`` connections.
    """

    def __init__(self, port: int, requests: Iterable[bytes], counts: Counter[str]) -> None:
        self._port = port
        self._requests: Iterator[bytes] = iter(requests)
        self._counts = counts
        self._reply = bytearray()
        self._left = 0
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._closed.clear()
            self._reply.clear()
            self._left = 0
            try:
                transport, _ = await loop.create_connection(lambda: self, HOST, self._port)
            except OSError as error:
                self._counts[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            try:
                await self._closed.wait()
            finally:
                transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._reply += data
            end = self._reply.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._reply[:end])
            self._status = head[9:12].decode()
            self._left = content_length(head) - (len(self._reply) - end - 4)
            self._reply.clear()
        if not self._left:
            self._counts[self._status] += 1
            self._transport.write(next(self._requests))

    def connection_lost(self, error: Exception | None) -> None:
        self._counts["closed"] += 1
        self._closed.set()


async def ask_on(
    port: int, clients: int, seconds: float, requests: Callable[[int], Iterable[bytes]]
) -> Counter[str]:
    """Let a number of `Asker` go on for some seconds; `requests` gives the requests of each."""
    counts: Counter[str] = Counter()
    tasks = [asyncio.create_task(Asker(port, requests(n), counts).run()) for n in range(clients)]
    await asyncio.sleep(seconds)
    counted = Counter(counts)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counted


def always(request: bytes) -> Callable[[int], Iterable[bytes]]:
    """The same request from everybody, again and again."""
    return lambda _: cycle([request])


@contextmanager
def connections(port: int, count: int, receive_bytes: int = 0) -> Iterator[list[socket.socket]]:
    """Connections that do nothing yet; `receive_bytes` is how little each can take in unread."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.settimeout(20)
            connection.connect((HOST, port))
            connection.setblocking(False)
            opened.append(connection)
        yield opened
        for connection in opened:
            # Resets: thousands of connections that wait for their end would be left in the system.
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def drip(
    lines: list[socket.socket], seconds: float, act: Callable[[socket.socket], object]
) -> None:
    """Do the same with each connection, once a second, until it breaks."""
    left = list(lines)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        next_time = time.monotonic() + 1
        for line in list(left):
            try:
                act(line)
            except BlockingIOError:
                pass
            except OSError:
                left.remove(line)
        await asyncio.sleep(max(0.0, min(next_time, end) - time.monotonic()))


def states_of(lines: list[socket.socket]) -> Counter[str]:
    """The state of each connection, counted: the status of its reply, ``open`` or ``closed``.

    Replies that have been read do not count.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        try:
            start = line.recv(12, socket.MSG_PEEK)
            counts[start[9:12].decode() or "closed"] += 1
        except BlockingIOError:
            counts["open"] += 1
        except OSError:
            counts["closed"] += 1
    return counts
