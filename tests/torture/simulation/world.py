"""The simulated world: one clock, one source of chance, and events in the order of their times.

A `Process` is an event loop to the coroutines in it, so that the real master runs in one
unchanged; its time is the world's, and nothing ever waits. A process may be killed or frozen
between any two of its callbacks.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _set_running_loop
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from heapq import heappop, heappush
from math import ulp
from random import Random
from typing import Any, TypeVar, cast

T = TypeVar("T")

WALL_AT_FIRST_S = 1_800_000_000.0
CALLBACKS_AT_ONCE = 20_000
"""So many callbacks without any time passing are a loop that will not end."""

ROUNDING_S = 1e-6

AWAITED = ("ConnectionPool.post",)
"""Coroutines that dte makes tasks of, and whose exceptions it expects."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class Handle:
    """A callback that is to be called at a moment, by a process."""

    __slots__ = ("_when", "arguments", "callback", "context", "over", "process")

    def __init__(
        self,
        process: Process,
        when: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.process = process
        self.over = False
        self._when = when
        self.callback = callback
        self.arguments = arguments
        self.context = context

    def cancel(self) -> None:
        self.over = True

    def cancelled(self) -> bool:
        return self.over

    def when(self) -> float:
        """The moment on the clock of the process; 0 of what is no timer."""
        return self._when


class World:
    """Time, chance, and what is to happen.

    Args:
        seed: decides everything that chance decides.
        tracing: whether `note` keeps a history.

    Attributes:
        now: seconds since the beginning.
        random: the only source of chance.
        seen: how often what happened, by name: for figures.
        history: what `note` was told.
        nature: a process that never ends, in which the network and accidents are.
        after_step: called whenever everything that was due has been done.
    """

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.now = 0.0
        self.seed = seed
        self.random = Random(seed)
        self.tracing = tracing
        self.history: list[str] = []
        self.seen: Counter[str] = Counter()
        self.wall_offset_s = self._wall_offset_last_s = WALL_AT_FIRST_S
        self._clock_stands = False
        self.after_step: Callable[[], None] = lambda: None
        self._events: list[tuple[float, int, Handle]] = []
        self._ready: deque[Handle] = deque()
        self._count = 0
        self._steps_at_once = 0
        self._processes: list[Process] = []
        self.nature = Process(self, "nature")

    @property
    def wall_s(self) -> float:
        """What the clock on the wall shows, in seconds since 1970."""
        return self.now + self.wall_offset_s

    def step_the_clock(self, step_s: float) -> None:
        """Set the clock on the wall."""
        self.note("the clock", f"steps by {step_s:.0f} s")
        self.wall_offset_s += step_s
        self._wall_offset_last_s = max(self._wall_offset_last_s, self.wall_offset_s)

    def put_the_clock_right(self) -> None:
        if not self._clock_stands:
            self.step_the_clock(WALL_AT_FIRST_S - self.wall_offset_s)

    def step_the_clock_to_the_last(self) -> None:
        """Set the clock to the last time that it ever showed, so that nobody waits for that."""
        self.step_the_clock(self._wall_offset_last_s - self.wall_offset_s)
        self._clock_stands = True

    def note(self, who: str, what: str) -> None:
        """Write a line of the history; ask `tracing` before making one up."""
        if self.tracing:
            self.history.append(f"{self.now:11.6f}  {who:<9}  {what}")

    def saw(self, who: str, what: str) -> None:
        """Count something that happened, and write it into the history."""
        self.seen[what] += 1
        self.note(who, what)

    def chance(self, probability: float) -> bool:
        """Whether something happens that happens so often."""
        return probability > 0 and self.random.random() < probability

    def after(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> None:
        """Have nature do something later."""
        when = self.now + delay_s
        self._push(when, Handle(self.nature, when, callback, arguments, None))

    def run(self, until: float, done: Callable[[], bool]) -> bool:
        """Let things happen until `done`, or a moment; whether it is done."""
        try:
            while not done():
                if not self._events or self._events[0][0] > until:
                    self.now = until
                    return False
                self._step()
            return True
        finally:
            _set_running_loop(None)

    def end(self) -> None:
        """Kill every process."""
        for process in self._processes:
            process.kill()

    def _step(self) -> None:
        when, _, handle = heappop(self._events)
        if handle.over or not handle.process.alive:
            return
        if when > self.now:
            self.now, self._steps_at_once = when, 0
        self._steps_at_once += 1
        if self._steps_at_once > CALLBACKS_AT_ONCE:
            raise Violation("the loop is kept busy for ever")
        self._ready.append(handle)
        callbacks = 0
        while self._ready:
            self._run(self._ready.popleft())
            callbacks += 1
            if callbacks > CALLBACKS_AT_ONCE:
                raise Violation("the loop is kept busy for ever")
        self.after_step()

    def _run(self, handle: Handle) -> None:
        process = handle.process
        if handle.over or not process.alive:
            return
        if process.frozen:
            process.held.append(handle)
            return
        if handle.when() > process.time() + ROUNDING_S:
            process.put_off(handle)
            return
        process.ran = True
        _set_running_loop(process.loop)
        if handle.context is None:
            handle.callback(*handle.arguments)
        else:
            handle.context.run(handle.callback, *handle.arguments)

    def _push(self, when: float, handle: Handle) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, handle))


class Process:
    """A process of the world, which has what asyncio wants of an event loop.

    Args:
        name: for the history.
        clock_s: what its monotonic clock shows at the world's beginning.

    Attributes:
        alive: False once it was killed; then nothing of it happens any more.
        frozen: it exists and does nothing, as after SIGSTOP.
        ran: it has done something since this was last set to False.
        held: what would have happened while it was frozen.
        turn_s: how much of a pause passes in the process's own time; None for all of it.
        loop: the process, for those who want an event loop.
        disk: does what it gives to a thread, at a time of its own; None if it has none.
    """

    def __init__(
        self, world: World, name: str, clock_s: float = 0.0, turn_s: float | None = None
    ) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.ran = False
        self.held: list[Handle] = []
        self.disk: Callable[[asyncio.Future[Any], Callable[[], Any]], None] | None = None
        self.loop = cast(asyncio.AbstractEventLoop, self)
        self.turn_s = turn_s
        self.clock_s = clock_s
        self._still_s = 0.0
        self._frozen_at = 0.0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        world._processes.append(self)

    def note(self, what: str) -> None:
        self.world.note(self.name, what)

    def kill(self) -> None:
        """End at once, without doing anything more."""
        if not self.alive:
            return
        self.alive = False
        self.held.clear()
        with self.running():
            for task in list(self._tasks):
                if not task.done():
                    # Else Python would complain about coroutines that were never begun.
                    with suppress(ValueError, RuntimeError):
                        cast(Coroutine[Any, Any, Any], task.get_coro()).close()

    def freeze(self, frozen_s: float) -> None:
        """Stop for some time."""
        if self.alive and not self.frozen:
            self.note(f"is frozen for {frozen_s:.2f} s")
            self.frozen, self._frozen_at = True, self.world.now
            self.world.after(frozen_s, self.thaw)

    def thaw(self) -> None:
        """Go on; what should have happened meanwhile happens now.

        As in a kernel: the process finds its timers due before it looks at its sockets.
        """
        if not self.frozen:
            return
        self.frozen = False
        if self.turn_s is not None:
            self._still_s += max(0.0, self.world.now - self._frozen_at - self.turn_s)
        held, self.held = self.held, []
        timers = [handle for handle in held if handle.when()]
        self.world._ready.extend(sorted(timers, key=Handle.when))
        for handle in held:
            if not handle.when():
                self.world._push(self.world.now, handle)

    @contextmanager
    def running(self) -> Iterator[None]:
        """For what is to be done in the process, and not by a callback of its own."""
        before = asyncio._get_running_loop()
        _set_running_loop(self.loop)
        try:
            yield
        finally:
            _set_running_loop(before)

    # What an event loop does, as far as dte and asyncio's own tasks, sleeps and timeouts need it

    def time(self) -> float:
        return self.world.now + self.clock_s - self._still_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing: it comes from the garbage collector, and tasks are looked after below."""

    def call_soon(
        self, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(self, 0.0, callback, arguments, context)
        self.world._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *arguments: Any,
        context: Context | None = None,
    ) -> Handle:
        handle = Handle(self, when, callback, arguments, context)
        self.put_off(handle)
        return handle

    def put_off(self, handle: Handle) -> None:
        """Have a timer come at its moment, which is later than it was if the process paused."""
        when = handle.when()
        moment = when - self.clock_s + self._still_s
        if moment <= self.world.now and when > self.time():
            # The difference is lost in rounding, but time must pass, or nothing is ever due.
            moment = self.world.now + ulp(when)
        self.world._push(moment, handle)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *arguments: Any,
        context: Context | None = None,
    ) -> Handle:
        return self.call_at(self.time() + delay, callback, *arguments, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.loop)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self.loop, name=name or "a task", context=context)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Nothing in the world may end by an exception that nobody expects."""
        del self._tasks[task]
        if not task.cancelled() and _name_of(task) not in AWAITED:
            error = task.exception()
            if error is not None:
                raise error

    def run_in_executor(
        self, executor: Any, func: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        assert self.disk is not None, f"{self.name} has no threads"
        future = self.create_future()
        self.disk(future, lambda: func(*arguments))
        return future


def _name_of(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))
