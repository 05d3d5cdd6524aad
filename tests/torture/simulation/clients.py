"""Clients: they submit formulas, alone and in batches, with keys and without, and ask for answers.

One that gets no reply submits again if it has given the submission a key; else it cannot know, and
gives up. All tell the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.workloads import Formula
from torture.simulation.callers import Caller
from torture.simulation.executions import Executions
from torture.simulation.formulas import Formulas
from torture.simulation.ledger import Ledger, Submitted
from torture.simulation.master import MasterHost
from torture.simulation.network import Call, Network, NoReply
from torture.simulation.plans import PlanMaker
from torture.simulation.world import Process, Violation, World

from dte.wire.codec import Decoder

TRY_AGAIN = (429, 503, 507)
TIMEOUT_S = 3.0
REPEATED = 0.15
"""How many of the submissions with a key are sent once more although they were answered."""
OTHER_BODY = 0.05
"""How many keys are used for something else, too."""
ENOUGH = 0.1
"""How many clients do not care for an answer any more."""
LISTS = 0.2
"""How many also ask for the newest jobs."""

_reply: Decoder[Any] = Decoder(dict[str, Any] | list[Any])


@dataclass(frozen=True, slots=True)
class Habits:
    """What clients do.

    Attributes:
        submissions: how many each makes.
        batch_max: how many formulas they submit together, at most.
        keyed: how many submissions have a key.
        pause_s: how long they pause between two submissions, at most.
        forgiving: the master forgets jobs and keys soon, so that they may be unknown.
        calling: how many submissions are jobs with calls.
    """

    submissions: int
    batch_max: int
    keyed: float
    pause_s: float
    forgiving: bool
    calling: float


class Client:
    """One client, which is done when it has submitted all and has asked for its answers.

    Attributes:
        random: decides what it does.
    """

    def __init__(
        self,
        world: World,
        number: int,
        network: Network,
        master: MasterHost,
        formulas: Formulas,
        ledger: Ledger,
        habits: Habits,
        plans: PlanMaker,
        executions: Executions,
    ) -> None:
        self._world = world
        self.random = world.random
        self._name = f"client {number}"
        self._network = network
        self._master = master
        self._formulas = formulas
        self._ledger = ledger
        self._habits = habits
        self._caller = Caller(self, plans, executions, ledger, habits.forgiving)
        self.process = Process(world, self._name)
        self._keys = 0
        self._left = 1

    @property
    def done(self) -> bool:
        return not self._left

    def start(self) -> None:
        self.process.create_task(self._live())

    async def _live(self) -> None:
        for _ in range(self._habits.submissions):
            await asyncio.sleep(self.random.random() * self._habits.pause_s)
            self._left += 1
            self.process.create_task(self._submit_and_ask())
        self._left -= 1

    async def _submit_and_ask(self) -> None:
        random = self.random
        if self._world.chance(self._habits.calling):
            key = self._next_key() if random.random() < self._habits.keyed else ""
            await self._caller.submit_and_ask(key)
            self._left -= 1
            return
        alone = random.random() < 0.6
        formulas = self._formulas.some(1 if alone else random.randint(1, self._habits.batch_max))
        key = self._next_key() if random.random() < self._habits.keyed else ""
        submitted = self._ledger.submits(formulas, key)
        if await self._submit(submitted, alone):
            if key and random.random() < REPEATED:
                await self._submit(submitted, alone)
            if key and random.random() < OTHER_BODY:
                await self._use_key_again(submitted)
            if random.random() >= ENOUGH:
                await self._ask(submitted)
            if random.random() < LISTS:
                await self._list()
        self._left -= 1

    def _next_key(self) -> str:
        self._keys += 1
        return f"{self._name} key {self._keys}"

    async def _submit(self, submitted: Submitted, alone: bool) -> bool:
        """Submit until it is known what became of it; whether it was accepted."""
        formulas, key = submitted.formulas, submitted.key
        wait_s = self.random.choice((0.0, 0.0, 0.5, 5.0))
        while True:
            try:
                status, reply = await self.call(
                    "submit", [formula.text for formula in formulas], alone, key, wait_s
                )
            except NoReply as error:
                self._note(f"{error}: {_brief(formulas)} {key}")
                if not key:
                    return False
                self._world.saw(self._name, "a client submits again")
                await self.pause()
                continue
            bad = any(formula.bad for formula in formulas)
            if status in TRY_AGAIN:
                self._world.saw(self._name, f"the master answers {status}")
                await self.pause()
            elif (status == 400 and bad) or (status == 404 and key and self._habits.forgiving):
                return False
            elif status == 413:
                self._world.saw(self._name, "the master answers 413")
                return False
            elif status != 200 or bad:
                raise Violation(f"{_brief(formulas)} was answered by {status} {reply}")
            else:
                self._ledger.acknowledged(submitted, reply["job_ids"])
                self._note(f"knows jobs {reply['job_ids']}")
                return True

    async def _use_key_again(self, submitted: Submitted) -> None:
        """Use a key for something else, which must be refused."""
        other = self._formulas.harmless()
        self._ledger.submits([other], submitted.key)
        try:
            status, reply = await self.call("submit", [other.text], True, submitted.key, 0.0)
        except NoReply:
            return
        if status not in (409, *TRY_AGAIN) and not self._habits.forgiving:
            raise Violation(f"{submitted.key} was used again and answered by {status} {reply}")

    async def _ask(self, submitted: Submitted) -> None:
        """Ask until all jobs have ended."""
        assert submitted.numbers is not None
        while not await self.look(submitted.numbers, self.random.choice((0.0, 1.0, 10.0))):
            await self.pause()

    async def _list(self) -> None:
        """Ask for the newest jobs."""
        with suppress(NoReply):
            await self.call("list", 0.0)

    async def look(self, numbers: Sequence[int], wait_s: float) -> bool:
        """Ask once; whether the reply says that all of them have ended."""
        try:
            status, reply = await self.call("jobs", numbers, wait_s)
        except NoReply:
            return False
        if status == 404 and self._habits.forgiving:
            return True
        if status in TRY_AGAIN:
            return False
        if status != 200 or [job["job_id"] for job in reply] != list(numbers):
            raise Violation(f"jobs {numbers}: {status} {reply}")
        return all(job["finished"] for job in reply)

    async def pause(self) -> None:
        """Wait a bit, before something is tried again."""
        await asyncio.sleep(0.05 + self.random.random())

    async def call(self, route: str, *arguments: Any) -> tuple[int, Any]:
        """Send the master a request, of which the last argument says how long it may be held.

        Raises:
            NoReply: none came.
        """
        twice = route not in ("submit", "plan", "retry") or bool(arguments[2:-1] and arguments[2])
        call = Call(self._network, self.process, self._name, route, arguments, twice)
        wait_s = arguments[-1]
        status, body = await call.send(self._master, TIMEOUT_S + wait_s)
        return status, _reply.decode(body)

    def saw(self, what: str) -> None:
        """Count something that happened."""
        self._world.saw(self._name, what)

    def _note(self, what: str) -> None:
        if self._world.tracing:
            self.process.note(what)


def _brief(formulas: Sequence[Formula]) -> str:
    return ", ".join(formula.text[:60] for formula in formulas)
