"""A child process of a worker: it runs one plain call at a time, or async calls together."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import log10
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import msgspec

from dte.handlers import registry
from dte.handlers.arguments import BadArguments
from dte.handlers.progress import send_by
from dte.wire.codec import Decoder, Malformed, encode, nests_deeper
from dte.worker.processes.channel import Begin, Outcome, ProgressUpdate, Receiver, Stop, packet
from dte.worker.processes.tasks import Tasks

ERROR_CHARS_MAX = 2000
THREADS_MAX = 64
"""The default executor's threads, one for each possible slot: calls may use `asyncio.to_thread`."""
DEPTH_MAX = 500
"""The deepest nesting of arguments. Code that handles deeper ones would exhaust Python's stack."""
PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Makes the system kill a child rather than the worker when memory runs out."""

_args: Decoder[Any] = Decoder(Any)


@dataclass
class _Child:
    """The state of this process."""

    channel: Connection
    shared: MutableSequence[int]
    memory_mb: int | None
    result_bytes_max: int

    def __post_init__(self) -> None:
        self.runner = asyncio.Runner()
        threads = ThreadPoolExecutor(THREADS_MAX, "dte-to-thread")
        self.runner.get_loop().set_default_executor(threads)
        self._sending = threading.Lock()

    def send(self, messages: Sequence[Outcome | ProgressUpdate]) -> None:
        """Send messages to the worker, from any thread. The worker always reads, so this ends."""
        with self._sending:
            rest = memoryview(packet(messages))
            while rest:
                rest = rest[os.write(self.channel.fileno(), rest) :]


_child: _Child


def prepare(
    modules: list[str],
    memory_mb: int | None,
    result_bytes_max: int,
    channel: Connection,
    shared: MutableSequence[int],
) -> None:
    """Prepare this process for calls.

    Args:
        modules: modules with handlers, besides the built-in ones.
        memory_mb: the address space that this process may take from now on, in megabytes.
        result_bytes_max: the longest result, in bytes of JSON.
        channel: the connection to the worker, which notices the end of this process by its end.
        shared: memory that is shared with the worker, see `dte.worker.processes.tasks`.
    """
    global _child
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A process group of its own, so that processes that a handler starts can be ended with it.
    os.setpgid(0, 0)
    _die_with_the_worker()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    sys.set_int_max_str_digits(0)
    registry.load(modules)
    gc.freeze()  # Loaded modules stay, so the collector need not scan them.
    if memory_mb is not None:
        limit = _address_space_bytes() + memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _child = _Child(channel, shared, memory_mb, result_bytes_max)


def serve() -> None:
    """Serve the worker's orders until the worker closes the channel."""
    fileno = _child.channel.fileno()
    receiver: Receiver[Begin | Stop] = Receiver(fileno, Begin | Stop)  # type: ignore[arg-type]
    tasks = Tasks(receiver, fileno, _child.send, _child.shared, run_async)
    _child.send([])
    while (orders := receiver.receive()) is not None:
        begin = [order for order in orders if isinstance(order, Begin)]
        if begin and is_async(begin[0].handler):
            _child.runner.run(tasks.run(orders))
        else:
            for order in begin:
                _child.send([run(order)])


def is_async(name: str) -> bool:
    """Return True if calls of the handler run concurrently in one process."""
    found = registry.find(name)
    return found is not None and found.is_async


def run(order: Begin) -> Outcome:
    """Call a handler."""
    bound = _bind(order)
    if isinstance(bound, Outcome):
        return bound
    send_by(partial(_progress, order.lease))
    try:
        result = bound()
        if isinstance(result, Coroutine):  # A plain function may return one too.
            result = _child.runner.run(_alone(result))
    except BaseException as error:
        return _failure(order, error)
    finally:
        send_by(None)
    return _result(order, result)


async def run_async(order: Begin) -> Outcome:
    """Call an async handler."""
    bound = _bind(order)
    if isinstance(bound, Outcome):
        return bound
    send_by(partial(_progress, order.lease), here=True)
    try:
        result = await bound()
    except BaseException as error:
        return _failure(order, error)
    return _result(order, result)


def _bind(order: Begin) -> Callable[[], Any] | Outcome:
    """Bind a call to its arguments; return a failed outcome if they do not fit."""
    lease, name = order.lease, order.handler
    found = registry.find(name)
    if found is None:
        return Outcome(lease, error=f"this worker has no handler {name!r}", retry=False)
    try:
        positional, named = found.signature.bind(_read(order.args))
    except Malformed as error:
        return Outcome(lease, error=f"the arguments cannot be read: {error}", retry=False)
    except BadArguments as error:
        return Outcome(lease, error=str(error), retry=False)
    except MemoryError:
        return Outcome(lease, error=_out_of_memory())
    return partial(found.function, *positional, **named)


def _read(raw: bytes) -> Any:
    """Decode arguments, unless they nest too deep."""
    if nests_deeper(raw, DEPTH_MAX):
        raise Malformed(f"they nest more than {DEPTH_MAX} levels deep")
    return _args.decode(raw)


async def _alone(call: Coroutine[Any, Any, Any]) -> Any:
    """Await a call that is alone on the event loop, and cancel the tasks that it leaves behind."""
    try:
        return await call
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _progress(lease: int, fraction: float, text: str) -> None:
    with suppress(OSError, UnicodeEncodeError):
        _child.send([ProgressUpdate(lease, fraction, text)])


def _result(order: Begin, result: Any) -> Outcome:
    """Convert a handler's result to JSON."""
    lease, most = order.lease, _child.result_bytes_max
    if isinstance(result, int) and result.bit_length() * log10(2) > most:
        # The conversion to decimal digits might take minutes.
        reason = f"an integer of more than {most} digits, the limit is {most} bytes"
        return _no_result(lease, f"is too large: {reason}; return less")
    try:
        raw = encode(result)
        if b"null" in raw and result is not None:  # Infinities and NaN become null as well.
            json.dumps(msgspec.to_builtins(result), allow_nan=False)
    except MemoryError:
        return Outcome(lease, error=_out_of_memory())
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return _no_result(lease, f"cannot be converted to JSON: {error}")
    if len(raw) > most:
        reason = f"{len(raw)} bytes, the limit is {most}"
        return _no_result(lease, f"is too large: {reason}; return less")
    return Outcome(lease, raw)


def _no_result(lease: int, reason: str) -> Outcome:
    return Outcome(lease, error=f"the result {reason}", retry=False)


def _failure(order: Begin, error: BaseException) -> Outcome:
    """Describe the exception of a handler; call this in its ``except`` clause."""
    text = _out_of_memory() if isinstance(error, MemoryError) else _text(error)
    return Outcome(order.lease, error=text, trace=_sendable(traceback.format_exc()))


def _out_of_memory() -> str:
    limit = _child.memory_mb
    return "MemoryError" if limit is None else f"out of memory: the limit is {limit} MB"


def _text(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = ""
    return _sendable((f"{kind}: {text}" if text else kind)[:ERROR_CHARS_MAX])


def _sendable(text: str) -> str:
    """Replace halves of surrogate pairs, which cannot be encoded."""
    return text.encode(errors="replace").decode()


def _address_space_bytes() -> int:
    """Return the address space of this process, which depends on the loaded libraries."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


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
