"""A master and workers as processes, and the links between them that can be disturbed.

clients ──▶ link ──▶ master ──▶ link ──▶ worker
                     master ◀── link ◀── worker, which announces itself
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from harness.http import Malformed, Message, NoReply, exchange
from harness.machine import HOST, free_ports
from harness.processes import TESTS
from harness.until import until
from harness.wall_clock import WallClock
from torture.chaos import handlers
from torture.chaos.effects import handlers as effects
from torture.chaos.nodes import Node
from torture.chaos.proxy import Link
from torture.chaos.tap import Listener
from torture.chaos.times import HEARTBEAT_S, LEASE_S, RETRY_PAUSE_MAX_S, RETRY_PAUSE_S

WORKERS_LOST_MAX = 1000
"""No call is to blame for workers that are killed, even if three had it one after the other."""
SLOTS = 2
JOURNAL = "chaos.db"
MASTER = (sys.executable, "-m", "torture.chaos.master")
POLL_S = 0.05
FALLS_MAX = 5


class Cluster:
    """One master and some workers.

    Args:
        folder: takes the journal and the logs.
        workers: how many workers that the master calls.
        pullers: how many workers that ask it for work.
        seed: of what the links do.

    Attributes:
        clock: the wall clock of master and workers.
        clients: the link for clients.
        links: all, with those between master and workers.
    """

    def __init__(self, folder: Path, workers: int, pullers: int, seed: int) -> None:
        self.journal = folder / JOURNAL
        self.clock = WallClock(folder)
        self._port, *ports = free_ports(2 + 3 * workers + pullers)

        def link(name: str, target_port: int) -> Link:
            return Link(name, ports.pop(), target_port, Random(f"{seed} {name}"))

        settings = dict(self.clock.settings)
        paths = os.pathsep.join((settings["PYTHONPATH"], str(TESTS)))
        settings |= {"PYTHONPATH": paths}
        arguments = self._master_arguments()
        self.master = Node("master", arguments, folder, program=MASTER, **settings)
        self.clients = link("clients to master", self._port)
        self.workers: list[Node] = []
        self.links = [self.clients]
        self._towards: dict[Node, list[Link]] = {self.master: [self.clients]}
        self._worker_of: dict[Link, str] = {}
        for number in range(1, workers + pullers + 1):
            name, pulls = f"worker-{number}", number > workers
            announcing = link(f"{name} to master", self._port)
            arguments = ["worker", "--name", name, "--heartbeat-s", str(HEARTBEAT_S)]
            arguments += ["--master", f"http://{HOST}:{announcing.port}", "--leave-with-stdin"]
            arguments += ["--handlers", f"{handlers.__name__},{effects.__name__}"]
            arguments += ["--slots", str(SLOTS)]
            links = [announcing]
            if pulls:
                arguments.append("--pull")
            else:
                port = ports.pop()
                working = link(f"master to {name}", port)
                arguments += ["--host", HOST, "--port", str(port)]
                arguments += ["--announce-port", str(working.port)]
                links.append(working)
            named = settings | {effects.WORKER: name}
            worker = Node(name, arguments, folder, **named)
            self.workers.append(worker)
            self.links += links
            self._worker_of |= dict.fromkeys(links, name)
            self._towards[self.master].append(announcing)
            self._towards[worker] = links[1:]

    def worker_of(self, link: Link) -> str:
        """The name of the worker at the end of a link; empty for that of clients."""
        return self._worker_of.get(link, "")

    def workers_by_link(self) -> dict[str, str]:
        """The names of links between master and workers, each with that of the worker."""
        return {link.name: name for link, name in self._worker_of.items()}

    def listen(self, listener: Listener) -> None:
        """Tell a listener of what passes between master and workers."""
        for link in self._worker_of:
            link.listener = listener

    @property
    def nodes(self) -> list[Node]:
        """The master and the workers."""
        return [self.master, *self.workers]

    async def start(self) -> None:
        """Start everything, and return when the master knows all workers."""
        for node in self.nodes:
            node.start()
        await asyncio.gather(*(link.open() for link in self.links))
        await self.until_whole()

    async def until_whole(self, timeout_s: float = 30.0) -> None:
        """Return when the master answers and has all workers.

        Raises:
            AssertionError: it did not come to that, or never will.
        """

        async def whole() -> bool:
            for node in self.nodes:
                node.start()  # One that ended by itself is noted, and needed.
                if len(node.fell) > FALLS_MAX:
                    raise AssertionError(f"{node.name} does not stay alive")
            reply = await self.ask("/health")
            return reply is not None and reply.json["workers"] == len(self.workers)

        await until(whole, "a master with all workers", timeout_s, POLL_S)

    async def until_master_answers(self, timeout_s: float = 30.0) -> None:
        """Return when the master answers.

        Raises:
            AssertionError: it does not.
        """

        async def answers() -> bool:
            return await self.ask("/health") is not None

        await until(answers, "a master that answers", timeout_s, POLL_S)

    async def ask(self, path: str, timeout_s: float = 15.0) -> Message | None:
        """The master's reply to a GET that no link disturbs; None if there is none."""
        try:
            return await exchange(self._port, "GET", path, timeout_s=timeout_s)
        except (NoReply, Malformed):
            return None

    def kill(self, node: Node) -> None:
        """Kill a node. From then on it refuses connections."""
        node.die()
        self._refuse(node)

    async def end(self, node: Node, *, whole: bool = True) -> int | None:
        """End a node with SIGTERM, and give its exit code, as `Node.leave` does."""
        code = await node.leave(whole=whole)
        self._refuse(node)
        return code

    def _refuse(self, node: Node) -> None:
        if not node.lives:
            for link in self._towards[node]:
                link.target_gone()

    def heal(self) -> None:
        """End every fault, put the clock right, and start or continue every node."""
        self.clock.set(0.0)
        for link in self.links:
            link.heal()
        for node in self.nodes:
            node.go_on()
            node.start()

    async def close(self) -> None:
        """Leave nothing behind, in whatever state it is."""
        for node in self.nodes:
            node.kill()
        await asyncio.gather(*(link.close() for link in self.links))

    def _master_arguments(self) -> list[str]:
        where = ["--host", HOST, "--port", str(self._port)]
        bounds = ["--lease-s", str(LEASE_S), "--workers-lost-max", str(WORKERS_LOST_MAX)]
        bounds += ["--retry-pause-s", str(RETRY_PAUSE_S)]
        bounds += ["--retry-pause-max-s", str(RETRY_PAUSE_MAX_S)]
        return ["master", *where, "--journal", str(self.journal), *bounds]
