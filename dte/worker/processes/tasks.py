"""Async calls in a child process: tasks of one event loop, each of which can be cancelled alone.

The worker cannot ask a process that hangs or has ended which call is to blame. So the child notes
in shared memory whose task is running, and a counter that grows as long as the loop iterates.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Coroutine, MutableSequence, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, Protocol

from dte.worker.processes.channel import Begin, Outcome, Receiver, Stop
from dte.worker.processes.state import ProcessState

RUNNING = 0
"""The index in shared memory of the lease that runs: 0 if no task of an async call does.

After a plain call it stays until the next one begins.
"""
BEAT = 1
"""The index in shared memory of the counter that grows as long as the event loop iterates."""
STAGE = 2
"""The index in shared memory of the stage in which the worker is, or has put this process."""
SHARED_NUMBERS = 3
SERVING, LEAVING, ENDING = range(3)
"""The stages: the worker serves; it leaves, while calls may end; it ends this process."""
BEAT_S = 1.0
OWN_TASKS = 1
"""The tasks on the event loop that are not of calls: the one of `Tasks.run`."""
LEFT_S = 3.0
"""The longest time that a call waits for tasks that it started and left behind."""


_is_copy = False
"""True in a copy of this process that a handler made by `os.fork`."""


def _note_copy() -> None:
    global _is_copy
    _is_copy = True


def leave_copy(error: BaseException | None) -> NoReturn:
    """End a copy of this process whose handler has returned, raised or awaited.

    It must not go on as this process, whose channel and event loop it shares.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None and not isinstance(error, StopIteration):
        code = 1
        with suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code)


os.register_at_fork(after_in_child=_note_copy)


class _Call:
    """A call under way, with its task once created, and the unfinished tasks that it started."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.task: Task[Any] | None = None
        self.others: set[Task[Any]] = set()


class _Noted(Coroutine[Any, Any, Any]):
    """A coroutine that notes in shared memory while it runs."""

    def __init__(
        self, inner: Coroutine[Any, Any, Any], lease: int, shared: MutableSequence[int]
    ) -> None:
        self._inner = inner
        self._lease = lease
        self._shared = shared

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        self._shared[RUNNING] = self._lease
        try:
            awaited = step(*arguments)
            if _is_copy:
                leave_copy(None)
        except (SystemExit, KeyboardInterrupt):
            raise  # It ends the process, and the note stays for the worker.
        except BaseException as error:
            if _is_copy:
                leave_copy(error)
            self._shared[RUNNING] = 0
            raise
        self._shared[RUNNING] = 0
        return awaited

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


class Sender(Protocol):
    """Sends messages to the worker."""

    def send_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Send the outcomes of calls that have ended."""

    def send_worn(self, reason: str, running: Sequence[int]) -> None:
        """Begin no more calls, and say which run."""


_call: ContextVar[_Call | None] = ContextVar("dte_call", default=None)


class Tasks:
    """Runs the async calls that arrive over a channel, and sends their outcomes.

    Args:
        fileno: the descriptor that the receiver reads.
        shared: memory that is shared with the worker, with `SHARED_NUMBERS` numbers.
        run: calls a handler, and raises nothing.
        state: the state of this process, which calls leave as it was.
    """

    def __init__(
        self,
        receiver: Receiver[Begin | Stop],
        fileno: int,
        sender: Sender,
        shared: MutableSequence[int],
        run: Callable[[Begin], Awaitable[Outcome]],
        state: ProcessState,
    ) -> None:
        self._receiver = receiver
        self._fileno = fileno
        self._sender = sender
        self._shared = shared
        self._run = run
        self._state = state
        self._calls: dict[int, _Call] = {}
        self._ended: list[Outcome] = []

    async def run(self, orders: Sequence[Begin | Stop]) -> None:
        """Run these calls and those that arrive meanwhile; return when none is left."""
        loop = asyncio.get_running_loop()
        self._none_left: Future[None] = loop.create_future()
        loop.add_reader(self._fileno, self._receive)
        self._beat()
        try:
            self._handle(orders)
            await self._none_left
        finally:
            self._timer.cancel()

    def _beat(self) -> None:
        self._shared[BEAT] += 1
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _receive(self) -> None:
        orders = self._receiver.receive()
        if orders is None:  # The worker has gone, and this process ends with it.
            asyncio.get_running_loop().remove_reader(self._fileno)
        else:
            self._handle(orders)

    def _handle(self, orders: Sequence[Begin | Stop]) -> None:
        for order in orders:
            if isinstance(order, Begin):
                if self._state.is_worn:
                    continue  # The worker gives it to another process.
                call = self._calls[order.lease] = _Call(order.lease)
                context = self._state.context()
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
            for task in call.others:  # Tasks that a call leaves behind end with it.
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait(call.others, timeout=left_s)
        return outcome

    def _done(self, lease: int, task: Task[Outcome]) -> None:
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._send_ended)
        was_cancelled = task.cancelled()  # Before its first step, or by itself in its last.
        self._ended.append(Outcome(lease, error="cancelled") if was_cancelled else task.result())

    def _send_ended(self) -> None:
        """Send the outcomes of one iteration of the loop together."""
        ended, self._ended = self._ended, []
        for outcome in ended:
            del self._calls[outcome.lease]
        self._sender.send_outcomes(ended)
        worn = self._state.changed() if self._calls else self._state.renew(OWN_TASKS)
        worn = next((each.worn for each in ended if each.worn), worn)
        if worn and not self._state.is_worn:
            self._sender.send_worn(worn, [*self._calls])
        if not self._calls:
            # The next order may be a plain call, which is read outside of the loop.
            asyncio.get_running_loop().remove_reader(self._fileno)
            self._none_left.set_result(None)

    def make_task(self, loop: AbstractEventLoop, coroutine: Any, **more: Any) -> Task[Any]:
        """Create a task, as the event loop's task factory."""
        self._state.tasks_made += 1
        call = _call.get()
        if call is None:
            return Task(coroutine, loop=loop, **more)
        task: Task[Any] = Task(_Noted(coroutine, call.lease, self._shared), loop=loop, **more)
        if call.task is None:
            call.task = task
        else:
            call.others.add(task)
            task.add_done_callback(call.others.discard)
        return task
