"""Async calls in a child process: tasks of one event loop, each of which may be cancelled alone.

The worker cannot ask a process that hangs or has ended which call did it. So each step of a task is
noted in memory that both share: whose step it is, and that the loop still turns.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Coroutine, MutableSequence, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

from dte.worker.processes.channel import Begin, Listener, Outcome, Stop

STEP = 0
"""Where the lease is noted whose task makes a step; 0 where none does."""
BEAT = 1
"""Where a number grows as long as the event loop turns."""
PLACES = 2
BEAT_S = 1.0
LEFT_S = 3.0
"""How long a call waits for the end of tasks that it has started and left; then it ends anyway."""


class _Call:
    """A call under way.

    Attributes:
        task: its own; None until that is made.
        others: the tasks that it has started and that have not ended.
    """

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.task: Task[Any] | None = None
        self.others: set[Task[Any]] = set()


class _Noted(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are noted as those of a call."""

    def __init__(
        self, inner: Coroutine[Any, Any, Any], lease: int, place: MutableSequence[int]
    ) -> None:
        self._inner = inner
        self._lease = lease
        self._place = place

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        self._place[STEP] = self._lease
        try:
            given = step(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise  # The process ends by that, and it stays noted whose step it was.
        except BaseException:
            self._place[STEP] = 0
            raise
        self._place[STEP] = 0
        return given

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


_call: ContextVar[_Call | None] = ContextVar("dte_call", default=None)


class Tasks:
    """Runs async calls that come over a line, and tells what became of them.

    Args:
        listener: hears further orders.
        fileno: where it does.
        say: tells the worker.
        place: the memory that is shared with it, with `PLACES` numbers.
        run: calls a handler; raises nothing.
    """

    def __init__(
        self,
        listener: Listener[Begin | Stop],
        fileno: int,
        say: Callable[[Sequence[Outcome]], None],
        place: MutableSequence[int],
        run: Callable[[Begin], Awaitable[Outcome]],
    ) -> None:
        self._listener = listener
        self._fileno = fileno
        self._say = say
        self._place = place
        self._run = run
        self._calls: dict[int, _Call] = {}
        self._ended: list[Outcome] = []

    async def run(self, orders: Sequence[Begin | Stop]) -> None:
        """Do calls, and those that come meanwhile; return when none is left."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._make_task)
        self._none_left: Future[None] = loop.create_future()
        loop.add_reader(self._fileno, self._hear)
        self._beat()
        try:
            self._take(orders)
            await self._none_left
        finally:
            self._timer.cancel()

    def _beat(self) -> None:
        self._place[BEAT] += 1
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _hear(self) -> None:
        orders = self._listener.hear()
        if orders is None:  # The worker has gone, and this process goes with it.
            asyncio.get_running_loop().remove_reader(self._fileno)
        else:
            self._take(orders)

    def _take(self, orders: Sequence[Begin | Stop]) -> None:
        for order in orders:
            if isinstance(order, Begin):
                call = self._calls[order.lease] = _Call(order.lease)
                context = copy_context()
                context.run(_call.set, call)
                task = context.run(asyncio.create_task, self._do(call, order))
                task.add_done_callback(partial(self._done, order.lease))
            elif (known := self._calls.get(order.lease)) is not None and known.task is not None:
                known.task.cancel()

    async def _do(self, call: _Call, order: Begin) -> Outcome:
        outcome = await self._run(order)
        loop = asyncio.get_running_loop()
        until = loop.time() + LEFT_S
        while call.others and (left_s := until - loop.time()) > 0:
            for task in call.others:  # What it leaves behind ends with it.
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait(call.others, timeout=left_s)
        return outcome

    def _done(self, lease: int, task: Task[Outcome]) -> None:
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._tell)
        was_cancelled = task.cancelled()  # Before its first step.
        self._ended.append(Outcome(lease, error="cancelled") if was_cancelled else task.result())

    def _tell(self) -> None:
        """Say together what has ended in a turn of the loop."""
        ended, self._ended = self._ended, []
        for outcome in ended:
            del self._calls[outcome.lease]
        self._say(ended)
        if not self._calls:
            # What comes from now on need not be for tasks.
            asyncio.get_running_loop().remove_reader(self._fileno)
            self._none_left.set_result(None)

    def _make_task(self, loop: AbstractEventLoop, coroutine: Any, **more: Any) -> Task[Any]:
        call = _call.get()
        if call is None:
            return Task(coroutine, loop=loop, **more)
        task: Task[Any] = Task(_Noted(coroutine, call.lease, self._place), loop=loop, **more)
        if call.task is None:
            call.task = task
        else:
            call.others.add(task)
            task.add_done_callback(call.others.discard)
        return task
