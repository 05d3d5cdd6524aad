"""A child process of a worker: it runs one plain call at a time, or async calls together."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dte.handlers import registry
from dte.handlers.arguments import BadArguments
from dte.handlers.progress import send_by
from dte.wire.codec import Decoder, Malformed
from dte.wire.current_call import CurrentCall, set_current_call
from dte.wire.faults import plain, syntax_fault
from dte.wire.nesting import ARGUMENT_LEVELS_MAX, nests_deeper
from dte.worker.processes import prints
from dte.worker.processes.channel import (
    ERROR_CHARS_MAX,
    Begin,
    Broken,
    Outcome,
    ProgressUpdate,
    Receiver,
    Stop,
    Worn,
    packet,
    packets,
)
from dte.worker.processes.environment import restore
from dte.worker.processes.outcomes import Outcomes
from dte.worker.processes.signals import leave_to_worker
from dte.worker.processes.start_failures import not_ready
from dte.worker.processes.state import (
    MEMORY_SHARE_MAX,
    ProcessState,
    address_space_bytes,
)
from dte.worker.processes.system_state import forget_resource, stop_alarm
from dte.worker.processes.tasks import RUNNING, Tasks, leave_copy
from dte.worker.processes.traces import cut, text_of

THREADS_MAX = 64
"""The default executor's threads, one for each possible slot: calls may use `asyncio.to_thread`."""
PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Makes the system kill a child rather than the worker when memory runs out."""

_args: Decoder[Any] = Decoder(Any)


@dataclass
class _Child:
    """The state of this process."""

    channel: Connection
    shared: MutableSequence[int]
    outcomes: Outcomes
    memory_end: float | None

    def __post_init__(self) -> None:
        self.pid = os.getpid()
        self.runner = asyncio.Runner()
        threads = ThreadPoolExecutor(THREADS_MAX, "dte-to-thread")
        self.runner.get_loop().set_default_executor(threads)
        self.state = ProcessState(self.runner.get_loop(), self.memory_end)
        self._sending = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Replace the lock in a copy of this process, where its holder may not exist."""
        self._sending = threading.Lock()

    def send(self, data: bytes | bytearray) -> None:
        """Send a packet to the worker, from any thread. The worker always reads, so this ends."""
        with self._sending:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.channel.fileno(), rest) :]

    def send_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Send the outcomes of calls; without their results if memory is too short for these."""
        try:
            data = [*packets(outcomes)]
        except MemoryError as error:
            data = [packet([self.outcomes.of_error(each.lease, error)]) for each in outcomes]
        for each in data:
            self.send(each)

    def send_worn(self, reason: str, running: Sequence[int] = ()) -> None:
        """Begin no more calls, and say so."""
        self.state.is_worn = True
        self.send(packet([Worn(cut(reason, ERROR_CHARS_MAX), list(running))]))


_child: _Child


def prepare(
    modules: list[str],
    memory_mb: int | None,
    result_bytes_max: int,
    log_level: str,
    channel: Connection,
    output: Connection,
    shared: MutableSequence[int],
) -> None:
    """Prepare this process for calls.

    Args:
        modules: modules with handlers, besides the built-in ones.
        memory_mb: the address space that this process may take from now on, in megabytes.
        result_bytes_max: the longest result, in bytes of JSON.
        log_level: the level from which on log records are printed.
        channel: the connection to the worker, which notices the end of this process by its end.
        output: the pipe for what handlers print.
        shared: memory that is shared with the worker, see `dte.worker.processes.tasks`.
    """
    leave_to_worker(shared)
    prints.redirect(os.dup(output.fileno()))
    output.close()
    restore()
    # A process group of its own, so that processes that a handler starts can be ended with it.
    os.setpgid(0, 0)
    _die_with_the_worker()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    sys.set_int_max_str_digits(0)
    try:
        _load(modules, memory_mb, result_bytes_max, log_level, channel, shared)
    except BaseException as error:
        with suppress(OSError, MemoryError):
            os.write(channel.fileno(), packet([not_ready(error)]))
        os._exit(1)


def _load(
    modules: list[str],
    memory_mb: int | None,
    result_bytes_max: int,
    log_level: str,
    channel: Connection,
    shared: MutableSequence[int],
) -> None:
    global _child
    forget_resource()
    registry.load(modules, folder_stays=True)
    prints.log(log_level)
    gc.freeze()  # Loaded modules stay, so the collector need not scan them.
    memory_end = None
    if memory_mb is not None:
        before, room = address_space_bytes(), memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (before + room, before + room))
        memory_end = before + MEMORY_SHARE_MAX * room
    _child = _Child(channel, shared, Outcomes(result_bytes_max, memory_mb, _OWN), memory_end)


def serve() -> None:
    """Serve the worker's orders until the worker closes the channel."""
    fileno = _child.channel.fileno()
    receiver: Receiver[Begin | Stop] = Receiver(fileno, Begin | Stop)  # type: ignore[arg-type]
    tasks = Tasks(receiver, fileno, _child, _child.shared, run_async, _child.state)
    _child.runner.get_loop().set_task_factory(tasks.make_task)
    _child.state.remember()
    _child.send(packet([]))
    while (orders := receiver.receive()) is not None:
        begin = [order for order in orders if isinstance(order, Begin)]
        if _child.state.is_worn:
            continue
        if begin and is_async(begin[0].handler):
            try:
                _child.runner.run(tasks.run(orders))
            except Exception as error:  # A call has stopped the loop, or spoiled it.
                how = f"cannot use its event loop any more: {text_of(error)}"
                _child.send(packet([Broken(cut(how, ERROR_CHARS_MAX))]))
                raise
        else:
            for order in begin:
                run(order)


def is_async(name: str) -> bool:
    """Return True if calls of the handler run concurrently in one process."""
    found = registry.find(name)
    return found is not None and found.is_async


def run(order: Begin) -> None:
    """Call a handler, send the outcome, and set the state of this process back.

    The worker has work with the outcome meanwhile, and the next order waits. Built-in handlers
    change nothing.
    """
    _child.shared[RUNNING] = order.lease
    outcome = _run(order)
    found = registry.find(order.handler)
    if found is not None and found.is_built_in:
        _child.send_outcomes([outcome])
        return
    prints.call_ends()
    _child.send_outcomes([outcome])
    if worn := outcome.worn or _child.state.renew():
        _child.send_worn(worn)


def _run(order: Begin) -> Outcome:
    send_by(partial(_progress, order.lease))
    set_current_call(CurrentCall(order.lease, order.job_id, order.node))
    try:
        result = _call(order, _child.state.context())
    except BaseException as error:
        return _failure(order.lease, error)
    finally:
        send_by(None)
        set_current_call(None)
    return _child.outcomes.of_result(order.lease, result)


def _call(order: Begin, context: Context) -> Any:
    """Call a handler in a context."""
    try:
        result = context.run(_invoke, order)
        if issubclass(type(result), Coroutine):  # A plain function may return one too.
            result, error = _child.runner.run(_alone(result), context=context)
            if error is not None:
                raise error
        if os.getpid() != _child.pid:
            leave_copy(None)
    except BaseException as error:
        if os.getpid() != _child.pid:
            leave_copy(error)
        raise
    finally:
        stop_alarm()
    return result


def _invoke(order: Begin) -> Any:
    return _bound(order)()


async def run_async(order: Begin) -> Outcome:
    """Call an async handler."""
    send_by(partial(_progress, order.lease), here=True)
    set_current_call(CurrentCall(order.lease, order.job_id, order.node), here=True)
    try:
        result = await _bound(order)()
    except BaseException as error:
        return _failure(order.lease, error)
    finally:
        prints.call_ends(order.lease)
    return _child.outcomes.of_result(order.lease, result)


class _CannotBegin(Exception):
    """The handler cannot be called, now or later. The text gives the reason."""


def _bound(order: Begin) -> Callable[[], Any]:
    """Bind a call to its arguments, the conversion of which may run code of the handler's types.

    Raises:
        _CannotBegin: there is no such handler, or the arguments do not fit.
    """
    found = registry.find(order.handler)
    if found is None:
        raise _CannotBegin(f"this worker has no handler {order.handler!r}")
    try:
        positional, named = found.signature.bind(
            _read(order.args), _read(order.kwargs) if order.kwargs else None
        )
    except Malformed as error:
        raise _CannotBegin(f"the arguments cannot be read: {error}") from None
    except BadArguments as error:
        raise _CannotBegin(str(error)) from None
    return partial(found.function, *positional, **named)


def _read(raw: bytes) -> Any:
    """Decode arguments, unless they nest too deep."""
    if nests_deeper(raw, ARGUMENT_LEVELS_MAX):
        raise Malformed(f"they nest more than {ARGUMENT_LEVELS_MAX} levels deep")
    try:
        return _args.decode(raw)
    except Malformed as error:
        raise Malformed(syntax_fault(raw) or plain(error)) from None


async def _alone(call: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Await a call that is alone on the event loop, and cancel the tasks that it leaves behind.

    Returns:
        its result and its exception. The event loop would run code of an exception that leaves it.
    """
    try:
        return await call, None
    except BaseException as error:
        return None, error
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


_OWN = frozenset(each.__code__ for each in (_call, _invoke, run_async, _bound, _alone))
"""The functions through which handlers are called."""


def _failure(lease: int, error: BaseException) -> Outcome:
    if type(error) is _CannotBegin:
        return _child.outcomes.of_refusal(lease, str(error))
    return _child.outcomes.of_error(lease, error)


def _progress(lease: int, fraction: float, text: str) -> None:
    with suppress(OSError):
        _child.send(packet([ProgressUpdate(lease, fraction, text)]))


def _die_with_the_worker() -> None:
    """End this process when the worker has ended, for whatever reason."""
    parent = parent_process()
    assert parent is not None
    if sys.platform == "linux":
        # The kernel ends even code that never releases Python's lock.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    # For other systems, and for a worker that ended before that call.
    threading.Thread(target=watch, daemon=True, name="dte-watch-worker").start()
