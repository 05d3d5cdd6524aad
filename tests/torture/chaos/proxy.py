"""A TCP proxy that disturbs what passes through it, as networks do.

    client ──▶ Link ──▶ target
               fault

A link listens at a port of 127.0.0.1 and connects to another one. While nobody listens at the
target, nobody listens at the link, so that who asks there is refused as without it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from enum import Enum
from random import Random

from harness.machine import HOST
from torture.chaos.tap import Listener, Tap

PROBE_S = 0.01
"""How often a target where nobody listened is tried again."""
CHUNK_BYTES = 65_536
LATENCY_S = (0.01, 0.2)
SLOW_BYTES = (8, 64)
SLOW_S = 0.005
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: the other side gets RST instead of FIN."""


class Fault(Enum):
    """A link's harm to what passes through it."""

    NONE = "none"
    LATENCY = "latency"
    """Each piece comes later, some sooner than others."""
    SLOW = "slow"
    """A few bytes at a time."""
    RESET = "reset"
    """Every connection is reset, also each new one."""
    CUT = "cut"
    """Nothing passes until it is over, and new connections are refused."""
    HALF_OPEN = "half-open"
    """Everything is taken and nothing comes of it; its connections stay open, and dead."""
    MUTE = "mute"
    """Requests pass; what is replied does not, and the connection stays open."""
    REPLY_LOST = "reply lost"
    """Requests pass; when the reply comes, the connection is reset."""
    REPLY_TORN = "reply torn"
    """Requests pass; half of the reply passes, then the connection is closed."""


BOTH_WAYS = (Fault.LATENCY, Fault.SLOW, Fault.HALF_OPEN)
REPLIES = (Fault.MUTE, Fault.REPLY_LOST, Fault.REPLY_TORN)


class Link:
    """A path from whoever connects to a target, with a fault that can be switched.

    Args:
        name: for logs.
        port: where it listens.
        target_port: where it connects to.
        randoms: decides about lengths and pauses.

    Attributes:
        fault: what it does now.
        suffered: how many connections were hurt, by fault.
        listener: is told of what the two sides send, whatever becomes of it; None for nobody.
    """

    def __init__(self, name: str, port: int, target_port: int, randoms: Random) -> None:
        self.name = name
        self.port = port
        self.target_port = target_port
        self.randoms = randoms
        self.listener: Listener | None = None
        self.fault = Fault.NONE
        self.suffered: Counter[Fault] = Counter()
        self._target_listens = True
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.passable = asyncio.Event()
        self.passable.set()

    async def open(self) -> None:
        """Listen, if the target does, and from then on whenever it does."""
        self._target_listens = await self._probe()
        await self._listen_or_not()
        self._start(self._keep_listening())

    @property
    def listens(self) -> bool:
        """It accepts connections."""
        return self._server is not None

    @property
    def connections(self) -> int:
        """The number of connections that pass through it."""
        return len(self._connections)

    async def close(self) -> None:
        """End all connections and listen no more."""
        self._refuse()
        for connection in list(self._connections):
            connection.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_fault(self, fault: Fault) -> None:
        """Switch to a fault, or with `Fault.NONE` to none.

        Of the connections that died in the last one, about half are then reset, as by a router
        that does not know them any more; the others stay dead until somebody gives them up.
        """
        self.fault = fault
        if fault is Fault.CUT:
            self.passable.clear()
            self._refuse()
        else:
            self.passable.set()
        for connection in list(self._connections):
            if fault is Fault.RESET:
                connection.suffer(fault)
                connection.reset()
            elif connection.dead and self.randoms.random() < 0.5:
                connection.reset()
        self._changed.set()

    def heal(self) -> None:
        """End the fault, and reset every connection that died in one."""
        self.set_fault(Fault.NONE)
        for connection in [each for each in self._connections if each.dead]:
            connection.reset()

    def target_gone(self) -> None:
        """Refuse connections until somebody listens at the target again."""
        self._target_listens = False
        self._refuse()
        self._changed.set()

    async def _keep_listening(self) -> None:
        while True:
            if not self._target_listens:
                await asyncio.sleep(PROBE_S)
                self._target_listens = await self._probe()
            else:
                await self._changed.wait()
                self._changed.clear()
            await self._listen_or_not()

    async def _listen_or_not(self) -> None:
        if self._may_listen() and self._server is None:
            self._server = await asyncio.start_server(self._accepted, HOST, self.port)
            if not self._may_listen():  # That has changed meanwhile.
                self._refuse()

    def _may_listen(self) -> bool:
        return self._target_listens and self.fault is not Fault.CUT

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _probe(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            return False
        writer.close()
        return True

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        self._start(self._serve(connection))

    async def _serve(self, connection: _Connection) -> None:
        try:
            await connection.run()
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection:
    """One connection through a link.

    Attributes:
        dead: nothing passes any more, in at least one direction.
    """

    def __init__(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._link = link
        self._reader = reader
        self._writers = [writer]
        self._hurt_by: set[Fault] = set()
        self._swallows = {"request": False, "reply": False}
        self._over = False
        self._tap = None if link.listener is None else Tap(link.name, link.listener)

    @property
    def dead(self) -> bool:
        return any(self._swallows.values())

    def suffer(self, fault: Fault) -> None:
        """Count that a fault has hurt this connection."""
        if fault not in self._hurt_by:
            self._hurt_by.add(fault)
            self._link.suffered[fault] += 1

    def reset(self) -> None:
        """End it with a reset for both sides, unless they have closed it before."""
        self._over = True
        for writer in self._writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
                )
            writer.transport.abort()

    async def run(self) -> None:
        """Carry bytes until both sides have closed the connection.

        Raises:
            OSError: one of them, or a fault, has reset it.
        """
        link = self._link
        if link.fault is Fault.RESET:
            self.suffer(Fault.RESET)
            raise ConnectionResetError
        try:
            target, to_target = await asyncio.open_connection(HOST, link.target_port)
        except OSError:
            link.target_gone()
            raise
        (client,) = self._writers
        self._writers.append(to_target)
        if self._over:  # It was reset meanwhile.
            raise ConnectionResetError
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry("request", self._reader, to_target))
                both.create_task(self._carry("reply", target, client))
        except* OSError as errors:
            raise errors.exceptions[0] from None
        for writer in self._writers:
            writer.close()

    async def _carry(
        self, what: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._tap is not None:
                read = self._tap.request if what == "request" else self._tap.reply
                read(data, time.monotonic())
            await self._pass(what, data, writer)
        await self._link.passable.wait()
        if not self.dead:
            writer.write_eof()
        elif what == "request":
            raise ConnectionResetError  # The client has given it up.

    async def _pass(self, what: str, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Let a piece pass, as the link's fault will have it.

        Raises:
            ConnectionResetError: the fault ends the connection.
        """
        link = self._link
        if not link.passable.is_set():
            self.suffer(Fault.CUT)
            await link.passable.wait()
        if self._swallows[what]:
            return
        fault = link.fault
        if fault in BOTH_WAYS or (fault in REPLIES and what == "reply"):
            self.suffer(fault)
        else:
            fault = Fault.NONE
        if fault is Fault.HALF_OPEN:
            self._swallows = dict.fromkeys(self._swallows, True)
        elif fault is Fault.MUTE:
            self._swallows[what] = True
        elif fault is Fault.REPLY_LOST:
            raise ConnectionResetError
        elif fault is Fault.REPLY_TORN:
            writer.write(data[: len(data) // 2])
            writer.close()
            self._writers.remove(writer)  # It ends properly, only too soon.
            raise ConnectionResetError
        else:
            if fault is Fault.LATENCY:
                await asyncio.sleep(link.randoms.uniform(*LATENCY_S))
            for piece in self._pieces(data):
                writer.write(piece)
                await writer.drain()
                if link.fault is Fault.SLOW:
                    await asyncio.sleep(SLOW_S)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """A few bytes, and again, as long as the link is slow; then what is left."""
        start = 0
        while start < len(data):
            size = len(data)
            if self._link.fault is Fault.SLOW:
                size = self._link.randoms.randint(*SLOW_BYTES)
            yield data[start : start + size]
            start += size
