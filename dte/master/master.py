"""The loop around the core: inputs in, `turn`, leases out, and whoever waits is told.

Inputs mark the core as dirty; once in each turn of the loop it is asked what follows. One timer
wakes it when nothing happens until then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from dte.core.availability import Announcement
from dte.core.errors import FormulaError, TooLarge
from dte.core.formula import SLICE_CHARS, Formula, parse, parse_in_slices
from dte.core.job import Job
from dte.core.operations import Number
from dte.core.scheduler import Scheduler
from dte.master.dispatch import Dispatcher
from dte.master.settings import Settings
from dte.master.slices import Slices

log = logging.getLogger("dte.master")

FORMULA_CHARS = 15
"""What a formula costs to parse besides its characters, in characters."""
LONG_CHARS = 1_000_000
LONG_FORMULAS = 2
"""How many formulas longer than `LONG_CHARS` are parsed at a time, as each takes much memory."""


class Master:
    """One core, its dispatcher, its timer and its waiters, on the running loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = time.monotonic()
        self.core = Scheduler(settings.scheduler_limits())
        self._formula_limits = settings.formula_limits()
        self._dispatcher = Dispatcher(self)
        self.slices = Slices()
        self._long_formulas = asyncio.Semaphore(LONG_FORMULAS)
        self._waiters: dict[int, list[_Waiter]] = {}
        self._dirty = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        # Clocks of the wall step; what people are shown is the monotonic clock, set once.
        self._wall_offset_s = time.time() - time.monotonic()

    def close(self) -> None:
        """Stop everything that is under way; nothing is handed over afterwards."""
        self._closed = True
        self._dispatcher.close()
        if self._timer is not None:
            self._timer.cancel()

    def wall_time(self, moment: float | None) -> datetime | None:
        """A moment of the core's clock as people write it."""
        if moment is None:
            return None
        return datetime.fromtimestamp(moment + self._wall_offset_s, UTC)

    # What clients and workers ask for

    async def submit(self, task: str) -> Job:
        """Accept a formula; a long one is parsed in slices.

        Raises:
            FormulaError: it has a syntax error.
            TooLarge: it is too long, or has too many operations.
            Busy: too much work waits.
        """
        self.core.ensure_room(1)
        if len(task) <= SLICE_CHARS:
            formula = parse(task, self._formula_limits)
        else:
            async with self._long_formulas if len(task) > LONG_CHARS else nullcontext():
                formula = await self.slices.run(parse_in_slices(task, self._formula_limits))
        return self._accept([(task, formula)])[0]

    async def submit_all(self, tasks: Sequence[str]) -> list[Job]:
        """Accept formulas, all or none; they are parsed in slices.

        Raises:
            FormulaError: one has a syntax error; its `index` says which.
            TooLarge: one is too long, or has too many operations.
            Busy: too much work waits.
        """
        self.core.ensure_room(len(tasks))
        return self._accept(await self.slices.run(self._parse_all(tasks)))

    def _accept(self, formulas: Sequence[tuple[str, Formula]]) -> list[Job]:
        jobs = self.core.submit(time.monotonic(), formulas)
        self.poke()
        return jobs

    def _parse_all(self, tasks: Sequence[str]) -> Generator[None, None, list[tuple[str, Formula]]]:
        formulas: list[tuple[str, Formula]] = []
        chars = operations = 0
        for index, task in enumerate(tasks):
            try:
                if len(task) <= SLICE_CHARS:
                    formula = parse(task, self._formula_limits)
                else:
                    formula = yield from parse_in_slices(task, self._formula_limits)
            except FormulaError as error:
                raise FormulaError(error.reason, error.column, error.caret, index) from None
            except TooLarge as error:
                raise TooLarge(f"formula {index}: {error}") from None
            formulas.append((task, formula))
            operations += formula.graph.remaining
            self.core.ensure_room(len(tasks), operations)
            chars += len(task) + FORMULA_CHARS
            if chars > SLICE_CHARS:
                chars = 0
                yield
        return formulas

    async def wait(
        self, jobs: Sequence[Job], wait_s: float, gone: asyncio.Future[None] | None = None
    ) -> None:
        """Return when all jobs have ended, or `gone` is done, or after `wait_s` seconds."""
        waiting = [job.number for job in jobs if not job.finished]
        if not waiting or wait_s <= 0:
            return
        waiter = _Waiter(len(waiting))
        for number in waiting:
            self._waiters.setdefault(number, []).append(waiter)
        try:
            ends = (waiter.over, gone) if gone is not None else (waiter.over,)
            await asyncio.wait(ends, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not waiter.over.done():
                for number in waiting:
                    self._forget(number, waiter)

    def _forget(self, number: int, waiter: _Waiter) -> None:
        others = self._waiters.get(number)
        if others is not None:
            others.remove(waiter)
            if not others:
                del self._waiters[number]

    def announce(self, said: Announcement) -> None:
        """Note that a worker is there.

        Raises:
            Busy: too many workers are known.
        """
        now = time.monotonic()
        worker = self.core.announce(now, said)
        if worker.joined_at == now:
            log.info("worker %s joined from %s", said.name, said.address)
        elif said.draining:
            log.info("worker %s at %s leaves", said.name, said.address)
        self.poke()

    # What the dispatcher reports

    def completed(
        self, lease_number: int, results: Sequence[Number], errors: Mapping[int, str]
    ) -> None:
        self.core.complete(time.monotonic(), lease_number, results, errors)
        self.poke()

    def failed(self, lease_number: int, reason: str, answered: bool) -> None:
        self.core.fail(time.monotonic(), lease_number, reason, answered)
        self.poke()

    # The turn

    def poke(self) -> None:
        """Have the core take its turn when the loop has done what is due now."""
        if not self._dirty and not self._closed:
            self._dirty = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._dirty = False
        if self._closed:
            return
        turn = self.core.turn(time.monotonic())
        for lease in turn.lost:
            self._dispatcher.abandon(lease)
            worker = lease.worker
            log.warning(
                "worker %s at %s: %s; operations that go to another: %d%s",
                worker.said.name,
                worker.said.address,
                lease.lost_because,
                lease.count,
                "; it is taken out until it announces itself" if worker.gone else "",
            )
        for lease in turn.leases:
            self._dispatcher.send(lease)
        for job in turn.ended:
            for waiter in self._waiters.pop(job.number, ()):
                waiter.one_ended()
        self._set_timer()

    def _set_timer(self) -> None:
        moment = self.core.next_turn()
        if moment is None or (self._timer is not None and self._timer.when() <= moment):
            return  # A turn too early does no harm.
        if self._timer is not None:
            self._timer.cancel()
        # The loop's clock is time.monotonic too.
        self._timer = asyncio.get_running_loop().call_at(moment, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.poke()


class _Waiter:
    """A request that is held until some jobs have ended."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def one_ended(self) -> None:
        self._left -= 1
        if not self._left and not self.over.done():
            self.over.set_result(None)
