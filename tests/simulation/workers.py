"""Workers on machines of their own: they compute, crash, freeze, vanish, leave, and come back.

Those of dte run the real `Announcer` and the real `ComputeServer`. Those like the seed's announce
themselves once, take one operation a request, and say nothing of their incarnation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tornado.httpclient import HTTPClientError
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from dte.wire.codec import encode
from dte.wire.messages import Announce
from dte.worker.announcer import Announcer
from dte.worker.compute import ComputeServer
from simulation.formulas import DEADLY_BYTES, SENSELESS_BYTES
from simulation.network import Call, NoReply
from simulation.world import Process, Violation, World

if TYPE_CHECKING:
    from simulation.lines import Lines
    from simulation.master import MasterHost

Answer = Callable[[int, bytes], None]

DRAIN_S = 0.2
ANNOUNCE_TIMEOUT_S = 2.0
ANNOUNCE_AGAIN_S = 0.5
SENSELESS: tuple[tuple[int, bytes], ...] = (
    (500, b"Internal Server Error"),
    (503, b'{"status": "draining"}'),
    (404, b'{"detail": "Not Found"}'),
    (200, b""),
    (200, b"{}"),
    (200, b'{"result": null}'),
    (200, b'{"lease": 0, "results": [1]}'),
    (200, b"[1, 2, 3]"),
    (200, b'{"result": 3'),
)
"""Replies that are neither results nor an operation's failure."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """What a worker is like.

    Attributes:
        modern: one of dte; else like the seed's.
        renames: it has another name after each start.
        takes_s: about how long a request takes, at most.
        slow: how many requests take it longer, perhaps than a lease lasts.
        slow_s: how long they take, at most.
        senseless: how many requests it answers with nonsense.
        restart_s: how long it stays away after a crash, at most.
    """

    modern: bool
    slots: int
    batch_max: int
    heartbeat_s: float
    renames: bool
    takes_s: float
    slow: float
    slow_s: float
    senseless: float
    restart_s: float


class WorkerProcess(Process):
    """A start of a worker."""

    def __init__(self, world: World, name: str, host: WorkerHost) -> None:
        super().__init__(world, name)
        self.host = host


class WorkerHost:
    """A worker's machine, on which it is started again and again.

    Attributes:
        address: where it listens.
        process: the worker's process; None while there is none.
        silent: the machine is off: not even a refusal comes from it.
        healed: no accident happens to it any more.
    """

    def __init__(
        self, world: World, number: int, kind: WorkerKind, lines: Lines, master: MasterHost
    ) -> None:
        self._world = world
        self._kind = kind
        self._lines = lines
        self._master = master
        self._starts = 0
        self._said_name = ""
        self._announcer: Announcer | None = None
        self._compute = ComputeServer("")
        self.name = f"worker {number}"
        self.address = f"10.0.0.{number}:6000"
        self.process: WorkerProcess | None = None
        self.silent = False
        self.healed = False
        lines.hosts[self.address] = self

    # Accidents

    def start(self) -> None:
        """Start the worker, unless it runs."""
        if self.process is not None:
            return
        self._starts += 1
        self.silent = False
        kind = self._kind
        name = self._said_name = f"{self.name}-{self._starts if kind.renames else 1}"
        self.process = WorkerProcess(self._world, self.name, self)
        self._compute = ComputeServer(name)
        self._announcer = None
        if self._world.tracing:
            self.process.note(f"start {self._starts} as {name}")
        with self.process.running():
            if kind.modern:
                incarnation = f"{self.name} start {self._starts}"
                said = Announce(name, 6000, kind.slots, kind.batch_max, incarnation)
                self._announcer = Announcer("http://master", said, kind.heartbeat_s)
            else:
                self.process.create_task(self._announce_once())

    def crash(self, why: str) -> None:
        """Kill the worker; it is started again some time later."""
        if self.process is not None:
            self._stop(why, heard=True)
            restart_s = 0.05 + self._world.random.random() * self._kind.restart_s
            self._world.after(restart_s, self.start)

    def vanish(self, away_s: float) -> None:
        """Turn the machine off for some time."""
        self.silent = True
        self._stop("the machine goes off", heard=False)
        self._world.after(away_s, self.start)

    def freeze(self, frozen_s: float) -> None:
        """Let the process exist and do nothing for some time."""
        if self.process is not None:
            self.process.freeze(frozen_s)

    def drain(self) -> None:
        """Let the worker leave in good order, and come back."""
        process = self.process
        if process is not None and self._announcer is not None and not process.frozen:
            process.note("leaves")
            process.create_task(self._leave(process, self._announcer))

    def heal(self, forgotten: bool) -> None:
        """Let no more accidents happen, and repair what there is.

        Args:
            forgotten: the master may rightly have forgotten it, so that it must be told again.
        """
        self.healed = True
        self.silent = False
        if self.process is None:
            self.start()
            return
        if self.process.frozen:
            self.process.thaw()
        if forgotten and not self._kind.modern:
            self.process.create_task(self._announce_once())

    def _stop(self, why: str, heard: bool) -> None:
        """End the process, if there is one; its connections break, if that is `heard`."""
        process, self.process = self.process, None
        if process is not None:
            process.note(f"ends: {why}")
            process.kill()
            self._lines.worker_ended(process, heard)

    async def _leave(self, process: WorkerProcess, announcer: Announcer) -> None:
        await announcer.leave()
        await asyncio.sleep(DRAIN_S)
        self._compute.draining = True
        process.call_soon(self.crash, "it has left")

    # What the network brings

    def hung_up_on(self) -> None:
        """The master has closed a connection."""
        if self.process is not None and self._announcer is not None:
            self.process.call_soon(self._announcer.hurry)

    def serve(self, body: bytes, answer: Answer) -> None:
        """Do a request, some time later."""
        process, world, kind = self.process, self._world, self._kind
        assert process is not None
        took_s = (0.1 + world.random.random()) * kind.takes_s
        if not self.healed and world.chance(kind.slow):
            world.saw(self.name, "a worker is slow")
            took_s = world.random.random() * kind.slow_s
        process.call_later(took_s, self._finish, body, answer)

    def _finish(self, body: bytes, answer: Answer) -> None:
        world = self._world
        if DEADLY_BYTES in body:
            world.seen["an operation kills a worker"] += 1
            self.crash("an operation killed it")
        elif SENSELESS_BYTES in body or (not self.healed and world.chance(self._kind.senseless)):
            world.saw(self.name, "a worker answers nonsense")
            answer(*world.random.choice(SENSELESS))
        else:
            exchange = Exchange(body)
            self._compute(cast(HTTPServerRequest, exchange))
            if exchange.status == 400:
                raise Violation(f"the master asked for what makes no sense: {body!r}")
            if world.tracing:
                world.note(self.name, f"answers {_brief(exchange.reply)}")
            answer(exchange.status, exchange.reply)

    # Announcing

    async def _announce_once(self) -> None:
        process = self.process
        assert process is not None
        status = 0
        while status != 200:
            with suppress(NoReply):
                status = await self.call(process, encode({"worker_name": self._said_name}))
            await asyncio.sleep(ANNOUNCE_AGAIN_S)

    async def call(self, process: WorkerProcess, body: bytes) -> int:
        """Post an announcement to the master, and give the status of the reply.

        Raises:
            NoReply: none came.
        """
        ip = self.address.partition(":")[0]
        call = Call(self._lines.network, process, self.name, "worker", (ip, body), twice=True)
        status, _ = await call.send(self._master, ANNOUNCE_TIMEOUT_S)
        return status


class HttpClient:
    """What an announcer takes for Tornado's client."""

    async def fetch(self, url: str, *, body: bytes, **_: Any) -> None:
        """Post an announcement.

        Raises:
            OSError: no reply came.
            HTTPClientError: the master refuses it.
        """

        process = asyncio.get_running_loop()
        assert isinstance(process, WorkerProcess)
        try:
            status = await process.host.call(process, body)
        except NoReply as error:
            raise OSError(str(error)) from None
        if status != 200:
            raise HTTPClientError(status)


class Exchange:
    """A request and its connection, as far as `ComputeServer` looks at them."""

    method = "POST"
    path = "/compute"

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.connection = self
        self.status = 0
        self.reply = b""

    def write_headers(
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes
    ) -> None:
        self.status, self.reply = start_line.code, chunk

    def finish(self) -> None:
        pass


def _brief(reply: bytes) -> str:
    text = reply.decode()
    return text if len(text) <= 80 else f"{text[:60]}…{text[-10:]}"
