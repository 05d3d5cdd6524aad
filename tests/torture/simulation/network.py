"""The network: how long messages take, which are lost or come twice, and which ways are cut.

`Weather` decides; `Call` is a request of a client or a worker to the master. The connections on
which the master asks workers are in `lines.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torture.simulation.world import Process, World

if TYPE_CHECKING:
    from torture.simulation.master import MasterHost


class NoReply(Exception):
    """A call to the master came to nothing; it may have arrived."""


@dataclass(slots=True)
class Weather:
    """How bad the network is.

    Attributes:
        delay_s: how long a message takes, at most.
        delayed: how many messages take much longer: up to `delayed_s`.
        lost: how many messages never arrive.
        broken: how many connections break when the request has been done.
        doubled: how many messages arrive twice.
        cut: the ways that are cut, by the name of who is at their end, and how many cuts each has.
    """

    delay_s: float = 0.002
    delayed: float = 0.0
    delayed_s: float = 1.0
    lost: float = 0.0
    broken: float = 0.0
    doubled: float = 0.0
    cut: dict[str, int] = field(default_factory=dict, repr=False)

    def heal(self) -> None:
        """Nothing is lost, cut or late from now on."""
        self.delayed = self.lost = self.broken = self.doubled = 0.0
        self.cut.clear()


class Network:
    """Carries messages, as the weather is."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self.weather = weather

    def latency_s(self, end: str) -> float:
        """How long the next message to or from there takes."""
        world, weather = self._world, self.weather
        if world.chance(weather.delayed):
            world.saw(end, "a message is late")
            return world.random.random() * weather.delayed_s
        return weather.delay_s * (0.1 + 0.9 * world.random.random())

    def loses(self, end: str) -> bool:
        """Whether the next message to or from there never arrives."""
        if end in self.weather.cut:
            return True
        if self._world.chance(self.weather.lost):
            self._world.saw(end, "a message is lost")
            return True
        return False

    def breaks(self, end: str) -> bool:
        """Whether a connection breaks instead of carrying a reply."""
        if self._world.chance(self.weather.broken):
            self._world.saw(end, "a connection breaks")
            return True
        return False

    def doubles(self, end: str) -> bool:
        """Whether the next message arrives twice."""
        if self._world.chance(self.weather.doubled):
            self._world.saw(end, "a message comes twice")
            return True
        return False

    def cut(self, end: str, cut_s: float) -> None:
        """Let no message to or from there through, for some time."""
        self._world.note(end, f"is cut off for {cut_s:.2f} s")
        cut = self.weather.cut
        cut[end] = cut.get(end, 0) + 1
        self._world.after(cut_s, self._mend, end)

    def _mend(self, end: str) -> None:
        cut = self.weather.cut
        if end in cut:
            cut[end] -= 1
            if not cut[end]:
                del cut[end]


class Call:
    """A request to the master.

    Attributes:
        source: the process that asks.
        end: the name of the way that the messages take.
        route: what is asked for.
        arguments: the rest of the request.
        twice: whether it may be done twice.
        gone: done, in the master's process, when the caller has hung up.
        hung_up: it has, perhaps before the master has read the request.
    """

    def __init__(
        self,
        network: Network,
        source: Process,
        end: str,
        route: str,
        arguments: tuple[Any, ...],
        twice: bool,
    ) -> None:
        self._network = network
        self._reply = source.create_future()
        self.source = source
        self.end = end
        self.route = route
        self.arguments = arguments
        self.twice = twice
        self.gone: asyncio.Future[None] | None = None
        self.hung_up = False

    async def send(self, master: MasterHost, timeout_s: float) -> tuple[int, bytes]:
        """Send it, and give the status and the body of the reply.

        Raises:
            NoReply: none came in that time, or none will.
        """
        network = self._network
        times = 2 if self.twice and network.doubles(self.end) else 1
        for _ in range(times):
            if not network.loses(self.end):
                self.source.world.after(network.latency_s(self.end), master.receive, self)
        try:
            async with asyncio.timeout(timeout_s):
                reply: tuple[int, bytes] = await self._reply
                return reply
        except TimeoutError:
            self.source.world.after(network.latency_s(self.end), self._hang_up)
            raise NoReply(f"no reply for {timeout_s:g} s") from None

    def answer(self, status: int, body: bytes) -> None:
        """Send the reply; to be called in the master's process."""
        network = self._network
        if network.breaks(self.end):
            self.refuse("the connection broke before the reply")
        elif not network.loses(self.end):
            self.source.world.after(network.latency_s(self.end), self._take, (status, body), None)

    def refuse(self, reason: str) -> None:
        """Let the caller know that no reply will come."""
        if self.end not in self._network.weather.cut:
            latency_s = self._network.latency_s(self.end)
            self.source.world.after(latency_s, self._take, None, NoReply(reason))

    def _take(self, reply: tuple[int, bytes] | None, error: NoReply | None) -> None:
        if self._reply.done() or not self.source.alive:
            return
        if error is not None:
            self._reply.set_exception(error)
        else:
            self._reply.set_result(reply)

    def _hang_up(self) -> None:
        self.hung_up = True
        if self.gone is not None and not self.gone.done():
            self.gone.set_result(None)
