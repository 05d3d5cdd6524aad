"""The master's machine, where the real `Master` is started, killed, frozen, ended, started again.

What the routes of `dte.master.api` do around it is done here without HTTP; a job is shown by the
routes' own `job_reply`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torture.simulation import call_routes
from torture.simulation.disk import Disk, Killed
from torture.simulation.network import Call
from torture.simulation.world import Process, World

from dte.core.errors import DteError
from dte.core.jobs.job import Job
from dte.core.workers.worker import Announcement
from dte.master.api.job_handler import JobReply, job_reply
from dte.master.journal.schema import JournalRefused
from dte.master.loop import TURN_S
from dte.master.master import Master
from dte.master.messages import policies
from dte.master.settings import Settings
from dte.wire.codec import Decoder, encode
from dte.wire.messages.batches import Announce

if TYPE_CHECKING:
    from torture.simulation.invariants import Watch

JOBS_LISTED = 20
REPLY_S = 0.05
"""How long the last replies get to leave, as in `dte.master.server`."""
START_AGAIN_S = 1.0
CLOCK_S = 1_000_000.0

_announce: Decoder[Announce] = Decoder(Announce)


class MasterHost:
    """A machine with a disk, on which a master is started again and again.

    Args:
        on_end: called when a master's process has ended, with it.

    Attributes:
        process: the master's process; None while there is none.
        master: the master in it.
        starts: how many times one was started.
        restart_s: how long one stays away after its end, at most.
    """

    def __init__(
        self,
        world: World,
        disk: Disk,
        settings: Settings,
        watch: Watch,
        on_end: Callable[[Process], None],
    ) -> None:
        self._world = world
        self._disk = disk
        self._settings = settings
        self._watch = watch
        self._on_end = on_end
        self._calls: dict[Call, None] = {}
        self._listening = False
        self.process: Process | None = None
        self.master: Master | None = None
        self.starts = 0
        self.restart_s = 1.0
        disk.on_kill = self._killed_by_disk

    # Accidents

    def start(self) -> None:
        """Start a master, unless one runs; one that cannot use its journal is tried again."""
        if self.process is not None:
            return
        self.starts += 1
        # Each machine counts its time from its own beginning, which a restart may change.
        clock_s = self._world.random.random() * CLOCK_S
        process = Process(self._world, f"master {self.starts}", clock_s, TURN_S)
        self._disk.serve(process)
        try:
            with process.running():
                master = Master(self._settings)
        except (JournalRefused, Killed) as error:
            process.note(repr(error))
            self._world.saw(process.name, "a master cannot start")
            process.kill()
            self._disk.detach()
            self._world.after(START_AGAIN_S, self.start)
            return
        if self._world.tracing:
            process.note(f"starts, with {master.core.jobs.waiting} jobs that go on")
        self.process, self.master = process, master
        self._listening = True
        self._watch.begin(master)

    def crash(self, why: str) -> None:
        """Kill the master; it is started again some time later."""
        if self.process is not None:
            self._ended(why)
            self._world.after(self._world.random.random() * self.restart_s, self.start)

    def stop(self, grace_s: float) -> None:
        """Let the master end in good order, and start it again later."""
        if self.process is not None and self._listening:
            self._listening = False
            self.process.note("is told to end")
            self.process.create_task(self._end(self.process, grace_s))

    def freeze(self, frozen_s: float) -> None:
        """Let the process exist and do nothing for some time."""
        if self.process is not None:
            self.process.freeze(frozen_s)

    def heal(self) -> None:
        """See to it that a master runs, if perhaps not before a pause is over."""
        if self.process is None:
            self.start()

    def pause(self, pauses_s: Sequence[float], between_s: float) -> None:
        """Let the process do nothing several times, with little time in between."""
        self.freeze(pauses_s[0])
        if pauses_s[1:]:
            self._world.after(pauses_s[0] + between_s, self.pause, pauses_s[1:], between_s)

    async def _end(self, process: Process, grace_s: float) -> None:
        assert self.master is not None
        await self.master.end(grace_s)
        await asyncio.sleep(REPLY_S)
        await self.master.close()
        process.call_soon(self.crash, "it has ended as it was told")

    def _killed_by_disk(self) -> None:
        self._world.seen["the master is killed while it writes"] += 1
        self.crash("killed while it wrote")

    def _ended(self, why: str) -> None:
        process, self.process, self.master = self.process, None, None
        assert process is not None
        process.note(f"ends: {why}")
        self._listening = False
        process.kill()
        self._disk.detach()
        self._watch.end()
        self._on_end(process)
        calls, self._calls = self._calls, {}
        for call in calls:
            call.refuse("the connection was reset")

    # What the network brings

    def receive(self, call: Call) -> None:
        """A request has come."""
        if self.process is None or not self._listening:
            call.refuse("connection refused")
            return
        self._calls[call] = None
        self.process.call_soon(self._begin, self.process, call)

    def _begin(self, process: Process, call: Call) -> None:
        process.create_task(self._serve(call))

    async def _serve(self, call: Call) -> None:
        master = self.master
        assert master is not None
        call.gone = asyncio.get_running_loop().create_future()
        if call.hung_up:
            call.gone.set_result(None)
        key = call.arguments[2] if call.route in ("submit", "plan") else ""
        known = self._watch.knows(key)
        try:
            status, reply = 200, await self._reply(master, call)
        except DteError as error:
            if known and self._listening:
                self._watch.refused(key, error)
            status, reply = error.status, {"code": error.code, "error": str(error)}
        self._calls.pop(call, None)
        call.answer(status, encode(reply))

    async def _reply(self, master: Master, call: Call) -> Any:
        arguments = call.arguments
        match call.route:
            case "submit":
                return await self._submit(master, call, *arguments)
            case "jobs":
                numbers, wait_s = arguments
                jobs = await master.archive.find(numbers)
                await master.waiters.wait(jobs, wait_s, call.gone)
                return [self._shown(master, job) for job in jobs]
            case "list":
                newest = list(master.core.jobs.newest(JOBS_LISTED))
                return [self._shown(master, job) for job in newest]
            case "plan":
                return await self._submit_plan(master, call, *arguments)
            case "worker":
                return await self._announce(master, *arguments)
            case _:
                return await call_routes.reply(master, self._watch.calls, call)

    async def _submit(
        self,
        master: Master,
        call: Call,
        texts: Sequence[str],
        alone: bool,
        key: str,
        wait_s: float,
    ) -> Any:
        digest = repr(texts) if key else ""
        if alone:
            jobs: Sequence[Job] = [await master.jobs.submit(texts[0], key, digest)]
        else:
            jobs = await master.jobs.submit_all(texts, key, digest)
        self._watch.acknowledged([job.number for job in jobs], texts)
        await master.waiters.wait(jobs, wait_s, call.gone)
        reply: dict[str, Any] = {"job_ids": [job.number for job in jobs]}
        if wait_s or alone:
            reply["jobs"] = [self._shown(master, job) for job in jobs]
        return reply

    async def _submit_plan(
        self, master: Master, call: Call, body: bytes, name: str, key: str, wait_s: float
    ) -> Any:
        job = await call_routes.submit(master, body, key)
        self._watch.acknowledged([job.number], [name])
        await master.waiters.wait([job], wait_s, call.gone)
        return {"job_ids": [job.number], "jobs": [self._shown(master, job)]}

    def _shown(self, master: Master, job: Job) -> JobReply:
        """How a job is shown to clients; what is shown is watched."""
        reply = job_reply(job, master.clock.wall_time)
        self._watch.shown(reply, job)
        return reply

    async def _announce(self, master: Master, ip: str, body: bytes, shown: str) -> dict[str, str]:
        said = _announce.decode(body)
        announcement = Announcement(
            said.worker_name,
            f"{ip}:{said.port}",
            said.slots,
            said.batch_max,
            said.incarnation,
            said.draining,
            policies(said.handlers),
            (said.handler_slots or said.slots) if said.handlers else 0,
            said.arithmetic,
            failing=said.failing,
            secret=said.secret,
        )
        reply = {"status": "Worker registered"}
        if said.secret:
            announcement, reply["session"] = master.workers.open_session(announcement, shown)
        await master.workers.announce(announcement, begins=not shown)
        return reply
