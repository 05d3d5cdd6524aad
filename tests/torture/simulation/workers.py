"""Workers on machines of their own: they compute, crash, freeze, vanish, leave, and come back.

Those of dte run the real `Announcer` and the real `ComputeServer`. Those like the seed's announce
themselves once, take one operation a request, and say nothing of their incarnation. Some have
handlers: they report later, answer when they are done, or fetch their work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torture.simulation.executions import Executions
from torture.simulation.formulas import DEADLY_BYTES, SENSELESS_BYTES
from torture.simulation.network import Call, NoReply
from torture.simulation.plans import HANDLERS
from torture.simulation.runner import Runner
from torture.simulation.world import Process, Violation, World

from dte.wire.codec import Decoder, encode
from dte.wire.http.server import Request
from dte.wire.messages.batches import Announce, Batch, BatchResult
from dte.wire.messages.calls import Call as WireCall
from dte.wire.messages.calls import Claim, Claimed
from dte.wire.messages.handlers import HandlerInfo
from dte.worker.announcer import Announcer
from dte.worker.arithmetic import compute_all
from dte.worker.compute import ComputeServer
from dte.worker.master_client import MasterAway, Refused
from dte.worker.session import Session, without_session

if TYPE_CHECKING:
    from torture.simulation.lines import Lines
    from torture.simulation.master import MasterHost

Answer = Callable[[int, bytes], None]

_call: Decoder[WireCall] = Decoder(WireCall)
_claimed: Decoder[Claimed] = Decoder(Claimed)

CANNOT_START = "ImportError: no module named 'numbers_of_tomorrow'"
DRAIN_S = 0.2
EARLIER = 4
"""Each fourth worker is of an earlier release, without sessions."""
ANNOUNCE_TIMEOUT_S = 2.0
ANNOUNCE_AGAIN_S = 0.5
TIMEOUTS, LONGER_S = 3, 0.25
"""The starts of a worker announce so many timeouts in turns, each so much longer."""
CLAIM_TIMEOUT_S = 1.0
"""How much longer than it said a worker waits for work."""
CLAIM_AGAIN_S = 0.3
HOLDS = 0.7
"""How many of the calls that come alone are answered when they are done."""
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
        reach: ``push``; ``hold``, which may answer a call when it is done; or ``pull``.
        handlers: what it can call.
        extends: whether it keeps its leases; of one that fetches its work.
        calls_take_s: how long a call takes, at most.
        lease_s: how long the master's leases are.
        patient: it waits for work as long as it said.
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
    reach: str = "push"
    handlers: tuple[str, ...] = ()
    handler_slots: int = 0
    extends: bool = True
    calls_take_s: float = 0.05
    lease_s: float = 1.0
    patient: bool = False


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
        said_name: the name that it has since its last start.
        silent: the machine is off: not even a refusal comes from it.
        shut: how many things keep the master from calling it, which it can call itself.
        rejects: these say so; else nothing comes back from there.
        well_since: when it last could be called, and begin calls, after it could not.
        healed: no accident happens to it any more.
    """

    def __init__(
        self,
        world: World,
        number: int,
        kind: WorkerKind,
        lines: Lines,
        master: MasterHost,
        executions: Executions,
    ) -> None:
        self._world = world
        self._kind = kind
        self._lines = lines
        self._master = master
        self._executions = executions
        self._starts = 0
        self._runner: Runner | None = None
        self._leaving = False
        self.said_name = ""
        self._announcer: Announcer | None = None
        self._renew: Callable[[], None] = lambda: None
        self._moves = 0
        self._compute = ComputeServer("")
        self._session = without_session()
        self.name = f"worker {number}"
        self._number = number
        self.address = f"10.0.0.{number}:6000"
        self.process: WorkerProcess | None = None
        self.silent = False
        self.shut = 0
        self.rejects = False
        self.well_since = 0.0
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
        name = self.said_name = f"{self.name}-{self._starts if kind.renames else 1}"
        self.process = WorkerProcess(self._world, self.name, self)
        self._announcer = self._runner = None
        self._leaving = False
        if self._world.tracing:
            self.process.note(f"start {self._starts} as {name} at {self.address}")
        self.well_since = self._world.now
        self._renew = lambda: None
        with self.process.running():
            if kind.handlers:
                extends, takes_s = kind.extends, kind.calls_take_s
                self._runner = Runner(
                    self, self.process, self._executions, extends, takes_s, kind.lease_s
                )
            self._session = Session() if self._takes_session else without_session()
            # It asks a runner for nothing that this one has not.
            self._compute = ComputeServer(name, cast(Any, self._runner), self._session)
            self._announce(self.process, name)

    @property
    def has_session(self) -> bool:
        """Whether the master has replied the session, or that there is none."""
        return self._session.is_known

    @property
    def _takes_session(self) -> bool:
        """Whether it is of a release that knows sessions."""
        return self._kind.modern and self._number % EARLIER != 0

    @property
    def incarnation(self) -> str:
        return f"{self.name} start {self._starts}"

    @property
    def failing(self) -> str | None:
        """Why it can begin no call."""
        return self._runner.failing if self._runner is not None else None

    def _announce(self, process: WorkerProcess, name: str) -> None:
        """Let the master know that the worker has started."""
        kind = self._kind
        if kind.reach == "pull":
            assert self._runner is not None
            args = process, self._runner, self.incarnation
            self._renew = lambda: self._renewed(*args)
            process.create_task(self._claim(*args))
        elif kind.modern:
            said = Announce(name, 6000, kind.slots, kind.batch_max, self.incarnation)
            said.handlers = self._handlers
            said.handler_slots = kind.handler_slots
            self._announced = said
            said.secret = self._session.secret if self._takes_session else ""
            self._announcer = Announcer(
                "http://master", said, kind.heartbeat_s, session=self._session
            )
        else:
            process.create_task(self._announce_once())

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

    def cannot_start(self, failing_s: float) -> None:
        """Let no process for handlers start, and no call begin, for some time."""
        process, runner = self.process, self._runner
        if process is None or runner is None or runner.failing is not None:
            return
        process.note(f"cannot start processes for {failing_s:.2f} s")
        with process.running():
            runner.fail(CANNOT_START)
            self._note_failing()
        self._world.after(failing_s, self._can_start, runner)

    def _can_start(self, runner: Runner) -> None:
        if runner is not self._runner or self.process is None or runner.failing is None:
            return
        self.process.note("can start processes again")
        self.well_since = self._world.now
        with self.process.running():
            runner.failing = None
            self._note_failing()

    def _note_failing(self) -> None:
        """Tell the master, as soon as the process does something."""
        assert self.process is not None
        if self._announcer is not None:
            self._announced.failing = self.failing
            self.process.call_soon(self._announcer.hurry)
        else:
            self.process.call_soon(self._renew)

    def shut_off(self, rejects: bool, shut_s: float) -> None:
        """Let the master's calls not arrive for some time, and the worker's own do."""
        if self._kind.reach == "pull":
            return
        self._world.note(self.name, f"cannot be called for {shut_s:.2f} s")
        self.shut += 1
        self.rejects = rejects
        self._lines.reset(self)
        self._world.after(shut_s, self._open)

    def _open(self) -> None:
        if self.shut:
            self.shut -= 1
            self.well_since = self._world.now

    def move(self) -> None:
        """Start the worker anew at another address, or a while after it has ended here."""
        self._moves += 1
        self._stop("it moves", heard=True)
        self.address = f"10.{self._moves}.0.{self._number}:6000"
        self._lines.hosts[self.address] = self
        self._world.after(self._world.random.random() * self._kind.restart_s, self.start)

    def saw(self, what: str) -> None:
        """Count something that happened, and write it into the history."""
        self._world.saw(self.name, what)

    def drain(self) -> None:
        """Let the worker leave in good order, and come back."""
        process = self.process
        if process is None or process.frozen:
            return
        if self._announcer is not None or self._kind.reach == "pull":
            process.note("leaves")
            process.create_task(self._leave(process, self._announcer))

    def heal(self, forgotten: bool) -> None:
        """Let no more accidents happen, and repair what there is.

        Args:
            forgotten: the master may rightly have forgotten it, so that it must be told again.
        """
        self.healed = True
        self.silent = False
        if self.shut:
            self.shut = 1
            self._open()
        if self._runner is not None:
            self._can_start(self._runner)
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

    async def _leave(self, process: WorkerProcess, announcer: Announcer | None) -> None:
        self._leaving = True
        if announcer is not None:
            await announcer.leave()
        if self._runner is not None:
            self._runner.requeue()
        await asyncio.sleep(DRAIN_S)
        self._compute.draining = True
        process.call_soon(self.crash, "it has left")

    # What the network brings

    def hung_up_on(self) -> None:
        """The master has closed a connection."""
        if self.process is not None and self._announcer is not None:
            self.process.call_soon(self._announcer.hurry)

    def greeted(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Reply to a greeting, at once."""
        answered = self._compute(Request("POST", path, body))
        assert isinstance(answered, tuple)
        return answered

    def serve(self, path: str, body: bytes, authorization: str, answer: Answer) -> None:
        """Do a request, some time later."""
        assert self.process is not None
        is_call = self._runner is not None and (path == "/stop" or b'"handler"' in body)
        takes_s = self.takes_s(0.01 if is_call else self._kind.takes_s)
        self.process.call_later(takes_s, self._finish, path, body, authorization, answer)

    def takes_s(self, most_s: float) -> float:
        """How long something takes that usually takes up to so long."""
        world, kind = self._world, self._kind
        took_s = (0.1 + world.random.random()) * most_s
        if not self.healed and world.chance(kind.slow):
            world.saw(self.name, "a worker is slow")
            took_s = world.random.random() * kind.slow_s
        return took_s

    def chance(self, probability: float) -> bool:
        """Whether something happens that happens so often."""
        return self._world.chance(probability)

    def _finish(self, path: str, body: bytes, authorization: str, answer: Answer) -> None:
        world = self._world
        if DEADLY_BYTES in body:
            world.seen["an operation kills a worker"] += 1
            self.crash("an operation killed it")
        elif SENSELESS_BYTES in body or (not self.healed and world.chance(self._kind.senseless)):
            world.saw(self.name, "a worker answers nonsense")
            # Of a call anything is a result.
            answer(*world.random.choice(SENSELESS[: 5 if b'"handler"' in body else None]))
        elif self._holds and b'"handler"' in body and self.chance(HOLDS):
            assert self.process is not None
            assert self._runner is not None
            self.process.create_task(self._runner.hold(_call.decode(body), answer))
        else:
            method = "GET" if path == "/health" else "POST"
            headers = {"authorization": authorization}
            status, reply = self._compute(Request(method, path, body, headers=headers))
            if status in (400, 401, 409):
                raise Violation(f"the master asked for what makes no sense: {body!r}")
            if world.tracing:
                world.note(self.name, f"answers {_brief(reply)}")
            answer(status, reply)

    @property
    def _holds(self) -> bool:
        return self._kind.reach == "hold" and self.failing is None

    # Announcing

    async def _announce_once(self) -> None:
        process = self.process
        assert process is not None
        status = 0
        while status != 200:
            with suppress(NoReply):
                status, _ = await self.call(process, encode({"worker_name": self.said_name}))
            await asyncio.sleep(ANNOUNCE_AGAIN_S)

    async def call(self, process: WorkerProcess, body: bytes) -> tuple[int, bytes]:
        """Post an announcement to the master; the status and the body of the reply.

        Raises:
            NoReply: none came.
        """
        return await self.post(process, "worker", body, twice=True)

    async def post(
        self,
        process: WorkerProcess,
        route: str,
        body: bytes,
        twice: bool,
        timeout_s: float = ANNOUNCE_TIMEOUT_S,
    ) -> tuple[int, bytes]:
        """Post something to the master; the status and the body of the reply.

        Raises:
            NoReply: none came.
        """
        ip = self.address.partition(":")[0]
        arguments = ip, body, self._session.text
        call = Call(self._lines.network, process, self.name, route, arguments, twice)
        return await call.send(self._master, timeout_s)

    # Fetching work

    @property
    def _handlers(self) -> dict[str, HandlerInfo]:
        """What it says of them: each start has other timeouts, as after an upgrade."""
        known = {handler: HANDLERS[handler] for handler in self._kind.handlers}
        longer_s = self._starts % TIMEOUTS * LONGER_S
        return {
            name: HandlerInfo(info.timeout + longer_s, info.retries, info.pure)
            if info.timeout is not None
            else info
            for name, info in known.items()
        }

    def _renewed(self, process: WorkerProcess, runner: Runner, incarnation: str) -> None:
        """Ask for work anew, as what the worker says of itself has changed."""
        if not self._leaving:
            claim = self._claim_once(process, runner, incarnation, 0.0, CLAIM_TIMEOUT_S)
            process.create_task(claim)

    async def _claim(self, process: WorkerProcess, runner: Runner, incarnation: str) -> None:
        """Ask for work again and again; some do not wait as long as they said."""
        kind, random = self._kind, self._world.random
        while not self._leaving:
            if kind.handler_slots <= len(runner):
                await asyncio.sleep(CLAIM_AGAIN_S)
                continue
            wait_s = random.choice((0.0, 0.5, 3.0))
            waits = 1.0 if kind.patient else random.choice((0.3, 1.0, 1.0))
            patience_s = waits * wait_s + CLAIM_TIMEOUT_S
            status = await self._claim_once(process, runner, incarnation, wait_s, patience_s)
            if status != 200 or not wait_s:
                await asyncio.sleep(CLAIM_AGAIN_S * (0.5 + random.random()))
        with suppress(NoReply):
            claim = Claim(self.said_name, self._handlers, 0, incarnation=incarnation, draining=True)
            claim.sessions = self._takes_session
            await self.post(process, "claim", encode(claim), twice=True)

    async def _claim_once(
        self,
        process: WorkerProcess,
        runner: Runner,
        incarnation: str,
        wait_s: float,
        patience_s: float,
    ) -> int:
        """Ask for work once, and take it; the status of the reply, or 0."""
        kind, slots = self._kind, max(0, self._kind.handler_slots - len(runner))
        claim = Claim(self.said_name, self._handlers, slots, wait_s, kind.batch_max, incarnation)
        claim.failing, claim.sessions = runner.failing, self._takes_session
        try:
            status, reply = await self.post(
                process, "claim", encode(claim), twice=False, timeout_s=patience_s
            )
        except NoReply:
            return 0
        if status == 200:
            claimed = _claimed.decode(reply)
            self._session.replied(claimed.session or None)
            self._take(runner, claimed)
        return status

    def _take(self, runner: Runner, claimed: Claimed) -> None:
        if claimed.calls:
            self._world.seen["calls are claimed"] += 1
        for call in claimed.calls:
            self._executions.check_timeout(call, self._handlers)
        runner.take(claimed.calls)
        for batch in claimed.batches:
            if not self._is_harmed_by(batch):
                runner.report_batch(
                    BatchResult(batch.lease, *compute_all(batch.operations, batch.op1, batch.op2))
                )

    def _is_harmed_by(self, batch: Batch) -> bool:
        """Whether an operation of a batch ends the worker, or keeps it from answering."""
        body = encode(batch)
        if DEADLY_BYTES in body and self.process is not None:
            self._world.seen["an operation kills a worker"] += 1
            self.process.call_soon(self.crash, "an operation killed it")
        return DEADLY_BYTES in body or SENSELESS_BYTES in body


class MasterLine:
    """What an announcer takes for its connection to the master."""

    def __init__(self, master_url: str) -> None:
        pass

    async def post(
        self, path: str, body: bytes, timeout_s: float, headers: Mapping[str, str]
    ) -> bytes:
        """Post an announcement; the body of the reply.

        Raises:
            MasterAway: no reply came.
            Refused: the master refuses it.
        """
        process = asyncio.get_running_loop()
        assert isinstance(process, WorkerProcess)
        try:
            status, reply = await process.host.call(process, body)
        except NoReply as error:
            raise MasterAway(str(error)) from None
        if status != 200:
            raise Refused("it is refused", status)
        return reply

    def close(self) -> None:
        pass


def _brief(reply: bytes) -> str:
    text = reply.decode().rstrip("\n")
    return text if len(text) <= 80 else f"{text[:60]}…{text[-10:]}"
