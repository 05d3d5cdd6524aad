"""Connections from the master to workers: what `KeptAliveConnection` is in the simulated world.

A request is on its way, is done by the worker or not, and its reply comes, comes late, comes not,
or the connection breaks: before it was done, or after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torture.simulation.network import Network
from torture.simulation.world import Process, World

from dte.wire.http.client import (
    CONNECT_TIMEOUT_S,
    ConnectionFailed,
    Greeting,
    NotGreeted,
    OnReply,
    Reply,
)

if TYPE_CHECKING:
    from torture.simulation.workers import WorkerHost

SILENT_S = 20.0
"""After so long the system breaks a connection at whose other end nobody is."""
HANG_UP_S = 0.001
"""How long it takes until the other side notices that a connection was closed."""

SOON_S = (0.001, 0.01, 0.3)

Replay = Callable[[bytes], None]


class Lines:
    """All connections between masters and workers.

    Args:
        replay: what is done with a batch's reply that comes a second time.

    Attributes:
        hosts: the workers' machines, by address.
    """

    def __init__(self, world: World, network: Network, replay: Replay) -> None:
        self.world = world
        self.network = network
        self.replay = replay
        self.hosts: dict[str, WorkerHost] = {}
        self._lines: dict[Line, None] = {}
        self._sent = 0
        self._due: dict[int, list[Callable[[], None]]] = {}
        self._hung_up: set[str] = set()

    def dial(
        self,
        host: str,
        port: int,
        bounds: object,
        secure: object = None,
        headers: Mapping[str, str] | None = None,
        greet: Callable[[], Greeting] | None = None,
    ) -> Line:
        """What the dispatcher calls a `KeptAliveConnection`; replies come whole, within bounds."""
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        line = Line(self, process, self.hosts[f"{host}:{port}"], f"{host}:{port}")
        line.greet = greet
        line.authorization = (headers or {}).get("Authorization", "")
        return line

    def after_request(self, number: int, callback: Callable[[], None]) -> None:
        """Have something happen soon after so many requests have been sent."""
        self._due.setdefault(number, []).append(callback)

    def sent(self) -> None:
        """A request has been sent."""
        self._sent += 1
        for callback in self._due.pop(self._sent, ()):
            random = self.world.random
            self.world.after(random.random() * random.choice(SOON_S), callback)

    def opened(self, line: Line) -> None:
        self._lines[line] = None

    def closed(self, line: Line) -> None:
        self._lines.pop(line, None)

    def worker_ended(self, process: Process, heard: bool) -> None:
        """A worker's process is no more; whether the other side hears that."""
        for line in [line for line in self._lines if line.peer is process]:
            if heard:
                line.break_off("the connection was reset")
            else:
                line.give_up()

    def master_ended(self, process: Process) -> None:
        """A master's process is no more."""
        for line in [line for line in self._lines if line.process is process]:
            self.closed(line)
            self.hung_up(line.host)

    def hung_up(self, host: WorkerHost) -> None:
        """The master has closed a connection to a worker, which notices that.

        When several are closed at once, their order is the addresses': the dispatcher's may follow
        from where objects are in memory.
        """
        if not self._hung_up:
            self.world.after(HANG_UP_S, self._notice)
        self._hung_up.add(host.address)

    def _notice(self) -> None:
        addresses, self._hung_up = sorted(self._hung_up), set()
        for address in addresses:
            self.hosts[address].hung_up_on()

    def reset(self, host: WorkerHost) -> None:
        """Break all connections to a worker, as a box between does that forgets them."""
        self.world.note(host.name, "its connections are reset")
        for line in [line for line in self._lines if line.host is host]:
            line.break_off("the connection was reset")


class Line:
    """One connection, for one request at a time, as `KeptAliveConnection` is.

    Attributes:
        process: the master's.
        host: the worker's machine.
        peer: the worker's process that it leads to; None while it is closed.
        on_close: called when the worker closes it while it is idle.
        unsent: none of a request, as all of it is sent at once.
        greet: makes the greeting of the worker; None for none.
        authorization: the header by which the worker knows the master.
    """

    unsent = 0

    def __init__(self, lines: Lines, process: Process, host: WorkerHost, address: str) -> None:
        self._lines = lines
        self._address = address
        self._reply: asyncio.Future[Reply] | None = None
        self._sending: asyncio.Task[None] | None = None
        self.process = process
        self.host = host
        self.peer: Process | None = None
        self.on_close: Callable[[], None] | None = None
        self.greet: Callable[[], Greeting] | None = None
        self.authorization = ""

    @property
    def is_open(self) -> bool:
        return self.peer is not None

    def when_sent(self, callback: Callable[[], None]) -> None:
        callback()

    async def open(self) -> None:
        """Connect before there is a request.

        Raises:
            ConnectionFailed: the connection was not accepted.
        """
        await self._connect()

    async def request(
        self, method: str, path: str, body: bytes, more: None = None, reply_bytes_max: int = 0
    ) -> Reply:
        """Send a request and give its reply.

        Raises:
            ConnectionFailed: no whole reply came.
        """
        try:
            if self.peer is None:
                await self._connect()
            reply = self._reply = self.process.create_future()
            self._send(path, body, reply)
            answer: Reply = await reply
            return answer
        except BaseException:
            self.close()
            raise
        finally:
            self._reply = None

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        told: OnReply,
        more: None = None,
        reply_bytes_max: int = 0,
    ) -> None:
        """Send a request; what comes of it is told later."""

        async def request() -> None:
            what: Reply | ConnectionFailed
            try:
                what = await self.request(method, path, body)
            except ConnectionFailed as error:
                what = error
            self._sending = None
            told(what)

        self._sending = self.process.create_task(request())

    def abandon(self) -> None:
        """Close the connection; nobody is told what comes of a request under way."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        else:
            self.close()

    def close(self) -> None:
        """Close the connection; a request under way fails."""
        if self.peer is not None and self.process.alive:
            self._lines.closed(self)
            self.peer = None
            self._lines.hung_up(self.host)

    def break_off(self, reason: str) -> None:
        """Let the master know, a bit later, that the connection is gone."""
        self._lines.closed(self)
        network = self._lines.network
        if self.host.name not in network.weather.cut:
            self._lines.world.after(self._latency_s(), self._broken, self._reply, reason)

    def give_up(self, reply: asyncio.Future[Reply] | None = None) -> None:
        """Break the connection when the other side has said nothing for long."""
        world, reply = self._lines.world, reply or self._reply
        world.after(SILENT_S, self._broken, reply, "the connection timed out")

    def _broken(self, reply: asyncio.Future[Reply] | None, reason: str) -> None:
        if not self.process.alive:
            return
        if reply is not None:
            if not reply.done():
                reply.set_exception(ConnectionFailed(reason))
        elif self.peer is not None and self._reply is None:
            self.peer = None
            if self.on_close is not None:
                self.process.call_soon(self.on_close)

    def _latency_s(self) -> float:
        return self._lines.network.latency_s(self.host.name)

    async def _connect(self) -> None:
        network, host = self._lines.network, self.host
        await asyncio.sleep(self._latency_s())
        if host.silent or network.loses(host.name):
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise ConnectionFailed("no connection in time", sent=False)
        if host.shut and host.rejects:
            raise ConnectionFailed("no route to host", sent=False)
        if host.shut:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise ConnectionFailed("no connection in time", sent=False)
        if host.process is None or host.address != self._address:
            raise ConnectionFailed("connection refused", refused=True, sent=False)
        if self.greet is not None:
            self._greet(self.greet())
        self.peer = host.process
        self._lines.opened(self)

    def _greet(self, greeting: Greeting) -> None:
        """Have the worker prove who it is; that takes no time here."""
        status, body = self.host.greeted(greeting.path, greeting.body)
        if not greeting.is_right(Reply(status, {}, body)):
            raise NotGreeted(greeting.wrong)

    def _send(self, path: str, body: bytes, reply: asyncio.Future[Reply]) -> None:
        network = self._lines.network
        self._lines.sent()
        if not network.loses(self.host.name):
            self._lines.world.after(self._latency_s(), self._arrive, self.peer, path, body, reply)
        else:
            self.give_up(reply)

    def _arrive(
        self, peer: Process | None, path: str, body: bytes, reply: asyncio.Future[Reply]
    ) -> None:
        if peer is None or self.host.silent:
            self.give_up(reply)
            return
        if self.host.process is not peer:
            self.break_off("the connection was reset")
        else:
            self.host.serve(
                path,
                body,
                self.authorization,
                lambda status, answer: self._answer(status, answer, reply),
            )

    def _answer(self, status: int, body: bytes, reply: asyncio.Future[Reply]) -> None:
        """The worker's reply begins its way."""
        lines = self._lines
        network = lines.network
        if network.breaks(self.host.name):
            self._broken_later(reply)
        elif not network.loses(self.host.name):
            lines.world.after(self._latency_s(), self._take, reply, Reply(status, {}, body))
        else:
            self.give_up(reply)

    def _broken_later(self, reply: asyncio.Future[Reply]) -> None:
        self._lines.world.after(self._latency_s(), self._broken, reply, "the connection broke")

    def _take(self, reply: asyncio.Future[Reply], answer: Reply) -> None:
        lines = self._lines
        if lines.network.doubles(self.host.name):
            lines.world.after(self._latency_s(), lines.replay, answer.body)
        if self.process.alive and not reply.done():
            reply.set_result(answer)
