"""One seed: its world is made, lives until it is healed and all is done, and is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torture.simulation.accidents import Accidents, Machines
from torture.simulation.call_watch import CallWatch
from torture.simulation.clients import Client
from torture.simulation.disk import Disk
from torture.simulation.executions import Executions
from torture.simulation.formulas import Formulas
from torture.simulation.invariants import Watch
from torture.simulation.ledger import Ledger
from torture.simulation.lines import Lines
from torture.simulation.master import MasterHost
from torture.simulation.network import Network
from torture.simulation.plans import PlanMaker
from torture.simulation.profile import Profile
from torture.simulation.seams import standing_in
from torture.simulation.trouble_watch import TroubleWatch
from torture.simulation.workers import WorkerHost
from torture.simulation.world import Violation, World

from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.batches import BatchResult

DONE_WITHIN_S = 600.0
"""So long after all is healed all must be done: some workers are asked only now and then."""
AUDIT_S = 60.0
WORKERS_START_S = 0.5

_batch_result: Decoder[BatchResult] = Decoder(BatchResult)


@dataclass(frozen=True, slots=True)
class Course:
    """What became of a seed.

    Attributes:
        failure: what happened that must not; None if nothing did.
        history: line by line, if it was traced.
        seen: how often what happened.
        simulated_s: how long it was in the simulated world.
    """

    seed: int
    failure: Exception | None
    history: Sequence[str]
    seen: Counter[str]
    simulated_s: float


def simulate(seed: int, tracing: bool = False) -> Course:
    """Live through the history of a seed."""
    world = World(seed, tracing)
    failure: Exception | None = None
    simulation = Simulation(world)
    try:
        simulation.run()
    except Exception as error:
        failure = error
        world.note("", f"FAILURE: {error!r}")
    finally:
        simulation.end()
    return Course(seed, failure, world.history, world.seen, world.now)


class Simulation:
    """The machines of a world, and the order of what they go through."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._profile = profile = Profile(world.random, world.seed)
        self._network = Network(world, profile.weather)
        self._disk = Disk(world)
        self._ledger = Ledger(profile.forgets)
        plans = PlanMaker(world, not profile.forgets)
        executions = Executions(world, plans)
        self._lines = Lines(world, self._network, self._replay)
        troubles = TroubleWatch(world, profile, executions, self._lines.hosts)
        calls = CallWatch(world, self._disk, profile, plans, executions, troubles)
        self._watch = Watch(world, self._disk, self._ledger, profile, calls)
        self._master = MasterHost(
            world, self._disk, profile.settings, self._watch, self._lines.master_ended
        )
        self._workers = [
            WorkerHost(world, number, kind, self._lines, self._master, executions)
            for number, kind in enumerate(profile.workers, 1)
        ]
        formulas = Formulas(world.random, profile.shares)
        everything = (
            *(self._network, self._master, formulas, self._ledger),
            *(profile.habits, plans, executions),
        )
        self._clients = [
            Client(world, number, *everything) for number in range(1, profile.clients + 1)
        ]
        world.after_step = self._step

    def run(self) -> None:
        """Live through it all.

        Raises:
            Violation: something happened that must not.
        """
        world, profile = self._world, self._profile
        for line in str(profile).splitlines():
            world.note("world", line)
        with standing_in(world, self._disk, self._lines, profile.knobs, reaches=profile.troubles):
            self._begin()
            world.run(profile.lasts_s, lambda: False)
            self._in_master(self._watch.explain)
            if not world.run(world.now + DONE_WITHIN_S, self._is_done):
                left = self._in_master(self._watch.what_is_left)
                raise Violation(f"{DONE_WITHIN_S:g} s after all was healed it is not done: {left}")
            self._watch.settled()
            if profile.journaled:
                self._audit()

    def end(self) -> None:
        """Let go of all that there is."""
        self._world.end()
        self._disk.database.close()

    def _begin(self) -> None:
        world, profile = self._world, self._profile
        machines = Machines(
            world,
            self._disk,
            self._network,
            self._lines,
            self._master,
            self._workers,
            len(self._clients),
            profile.lease_s,
            workers_forgotten=profile.workers_forgotten,
        )
        Accidents(machines, profile.accidents, each=3).plan(profile.lasts_s)
        if profile.gentle and world.chance(0.5):
            # One worker may be lost: an operation may have lost another by the company it keeps.
            worker = world.random.choice(self._workers)
            world.after(world.random.random() * profile.lasts_s, worker.crash, "it crashes once")
        self._master.start()
        for worker in self._workers:
            world.after(world.random.random() * WORKERS_START_S, worker.start)
        for client in self._clients:
            client.start()

    def _audit(self) -> None:
        """Have another master say the same of every job."""
        self._master.crash("for the last time")
        auditor, numbers = self._clients[0], self._ledger.numbers
        said: list[bool] = []

        async def ask() -> None:
            while not await auditor.look(numbers, 1.0):
                await auditor.pause()
            said.append(True)

        auditor.process.create_task(ask())
        if not self._world.run(self._world.now + AUDIT_S, lambda: bool(said)):
            raise Violation("after the last start not every job is known and has ended")

    def _in_master(self, ask: Callable[[], str]) -> str:
        """Look into the master as its own routes would."""
        process = self._master.process
        with process.running() if process is not None else nullcontext():
            return ask()

    def _step(self) -> None:
        process = self._master.process
        if process is not None and process.ran:
            process.ran = False
            self._watch.step()

    def _is_done(self) -> bool:
        return all(client.done for client in self._clients) and self._watch.all_is_done()

    def _replay(self, body: bytes) -> None:
        """A batch's reply comes once more, perhaps to the master's next start."""
        process, master = self._master.process, self._master.master
        if process is None or master is None:
            return
        try:
            result = _batch_result.decode(body)
        except Malformed:
            return
        self._world.saw(process.name, "a reply comes once more")
        report = (result.lease, result.results, result.errors, result.took_s)

        def complete() -> None:
            master.core.arithmetic.complete(master.clock.now(), *report)
            master.wake()

        process.call_soon(complete)
