"""What happens to the world of one seed, and when.

Each seed has its own few kinds of accidents, for two kinds alone may meet what ten kinds together
would hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torture.simulation.disk import Disk, Fault
from torture.simulation.lines import Lines
from torture.simulation.master import MasterHost
from torture.simulation.network import Network
from torture.simulation.workers import WorkerHost
from torture.simulation.world import World

DAY_S = 86_400.0
AT_WORK = 0.5
"""How many accidents happen when workers have just been given something."""
REQUESTS = 40
"""They happen after so many requests at most."""
STATEMENTS = 12
"""A master that is killed while it writes is so within so many statements."""


@dataclass(frozen=True, slots=True)
class Machines:
    """All to which something may happen."""

    world: World
    disk: Disk
    network: Network
    lines: Lines
    master: MasterHost
    workers: Sequence[WorkerHost]
    clients: int
    lease_s: float
    workers_forgotten: bool


class Accidents:
    """Makes accidents happen at random moments, until all is healed.

    Args:
        machines: all to which something may happen.
        kinds: the names of the accidents of this seed.
        each: how often each kind happens, at most.
    """

    def __init__(self, machines: Machines, kinds: Sequence[str], each: int) -> None:
        self._machines = machines
        self._world = machines.world
        self._kinds = kinds
        self._each = each
        self._healed = False

    def plan(self, until_s: float) -> None:
        """Decide when what happens, from now up to a moment, at which all is healed."""
        random, lines = self._world.random, self._machines.lines
        for kind in self._kinds:
            for _ in range(random.randint(1, self._each)):
                if random.random() < AT_WORK:
                    happen = partial(self._happen, kind)
                    lines.after_request(random.randint(1, REQUESTS), happen)
                else:
                    self._world.after(random.random() * until_s, self._happen, kind)
        self._world.after(until_s, self._heal)

    def _happen(self, kind: str) -> None:
        if not self._healed:
            self._world.saw("accident", kind)
            ACCIDENTS[kind](self._machines)

    def _heal(self) -> None:
        self._healed = True
        machines = self._machines
        machines.world.note("accident", "none any more, and all is healed")
        machines.network.weather.heal()
        machines.disk.fault = machines.disk.kill_in = None
        machines.disk.slow_s = 0.003
        machines.world.step_the_clock_to_the_last()
        machines.master.heal()
        for worker in machines.workers:
            worker.heal(machines.workers_forgotten)


def _worker(machines: Machines) -> WorkerHost:
    return machines.world.random.choice(machines.workers)


def _a_while_s(machines: Machines) -> float:
    """Mostly shorter than a lease, sometimes much longer."""
    return machines.lease_s * 4.0 * machines.world.random.random() ** 2


def _cut_client(machines: Machines) -> None:
    number = machines.world.random.randint(1, machines.clients)
    machines.network.cut(f"client {number}", _a_while_s(machines))


def _break_disk(machines: Machines, fault: Fault) -> None:
    disk, world = machines.disk, machines.world
    disk.fault, disk.failing = fault, world.random.choice((0.1, 0.5, 1.0))
    world.after(0.1 + world.random.random() * 3, setattr, disk, "fault", None)


def _slow_disk(machines: Machines) -> None:
    disk, world = machines.disk, machines.world
    disk.slow_s = world.random.choice((0.05, 0.3, 2.0))
    world.after(world.random.random() * 5, setattr, disk, "slow_s", 0.003)


def _kill_while_it_writes(machines: Machines) -> None:
    machines.disk.kill_in = machines.world.random.randrange(STATEMENTS)


def _pause_master(machines: Machines) -> None:
    """Pause the master for less than a lease, for much more, or often in a row."""
    random, lease_s = machines.world.random, machines.lease_s
    short = [random.random() * 0.5 * lease_s for _ in range(random.randint(2, 8))]
    pauses_s = random.choice(([random.random() * lease_s], [1.5 * lease_s], [12.0], [60.0], short))
    machines.master.pause(pauses_s, between_s=random.choice((0.01, 0.1)))


def _step_the_clock(machines: Machines) -> None:
    random = machines.world.random
    most_s = random.choice((1.0, 3600.0, DAY_S, 400 * DAY_S))
    machines.world.step_the_clock(random.uniform(-most_s, most_s))
    if random.random() < 0.5:  # Somebody puts it right.
        machines.world.after(2 * random.random(), machines.world.put_the_clock_right)


def _cannot_start(machines: Machines) -> None:
    _worker(machines).cannot_start(_a_while_s(machines))


def _shut_off(machines: Machines) -> None:
    """Let a worker call the master, and not the master the worker, for some time."""
    rejects = machines.world.random.random() < 0.5
    _worker(machines).shut_off(rejects, _a_while_s(machines))


PAUSES = "the master pauses"
TROUBLES: dict[str, Callable[[Machines], None]] = {
    "a worker cannot start processes": _cannot_start,
    "a worker cannot be called": _shut_off,
    "a worker moves": lambda machines: _worker(machines).move(),
}
"""What a worker lives through, and tells the master, or has the master find out."""
ACCIDENTS: dict[str, Callable[[Machines], None]] = {
    "a worker crashes": lambda machines: _worker(machines).crash("it crashes"),
    "a worker's machine vanishes": lambda m: _worker(m).vanish(_a_while_s(m)),
    "a worker freezes": lambda machines: _worker(machines).freeze(_a_while_s(machines)),
    "a worker leaves": lambda machines: _worker(machines).drain(),
    "a worker is cut off": lambda m: m.network.cut(_worker(m).name, _a_while_s(m)),
    "connections are reset": lambda machines: machines.lines.reset(_worker(machines)),
    "a client is cut off": _cut_client,
    "the master crashes": lambda machines: machines.master.crash("it crashes"),
    "the master is killed while it writes": _kill_while_it_writes,
    "the master is ended": lambda m: m.master.stop(m.world.random.choice((0.0, 1.0, 5.0))),
    "the master freezes": lambda machines: machines.master.freeze(_a_while_s(machines)),
    PAUSES: _pause_master,
    "the clock steps": _step_the_clock,
    "the disk is full": lambda machines: _break_disk(machines, Fault.FULL),
    "the disk is broken": lambda machines: _break_disk(machines, Fault.BROKEN),
    "the disk cannot be read": lambda machines: _break_disk(machines, Fault.UNREADABLE),
    "the disk is slow": _slow_disk,
    **TROUBLES,
}
RARE = frozenset({PAUSES, *TROUBLES})
"""These have worlds of their own."""
HARD_ON_WORKERS = frozenset(
    {
        "a worker crashes",
        "a worker's machine vanishes",
        "a worker freezes",
        "a worker leaves",
        "a worker is cut off",
        "connections are reset",
        "the master freezes",
    }
)
"""After these the master may think that an operation has ended a worker."""
OF_DISKS_AND_STARTS = frozenset(
    name
    for name in ACCIDENTS
    if "disk" in name or name in ("the master crashes", "the master is ended")
) | {"the master is killed while it writes"}
"""What a master without a journal does not survive, or does not notice."""
