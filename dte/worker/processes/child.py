"""What happens in a child process of a worker: one plain call at a time, or async ones together."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from dte.wire.codec import Decoder, Malformed, encode
from dte.worker.processes.channel import Begin, Listener, News, Outcome, Stop, message
from dte.worker.processes.tasks import Tasks

ERROR_CHARS_MAX = 2000
THREADS_MAX = 64
"""As many calls as there may be slots wait in threads at a time, by `asyncio.to_thread`."""
DEPTH_MAX = 500
"""Arguments that nest deeper could be read, but hardly worked with: Python's stack has its end."""
PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Makes the system end a child rather than the worker when memory runs out."""

_args: Decoder[Any] = Decoder(Any)
_no_brackets = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^][{}"]+', re.DOTALL)
_alike = bytes.maketrans(b"{}", b"[]")


class _Child:
    """This process, as a child of a worker."""

    def __init__(
        self,
        line: Connection,
        place: MutableSequence[int],
        memory_mb: int | None,
        result_bytes_max: int,
    ) -> None:
        self.line = line
        self.place = place
        self.memory_mb = memory_mb
        self.result_bytes_max = result_bytes_max
        self.runner = asyncio.Runner()
        threads = ThreadPoolExecutor(THREADS_MAX, "dte-to-thread")
        self.runner.get_loop().set_default_executor(threads)
        self._speaking = threading.Lock()

    def say(self, said: Sequence[Outcome | News]) -> None:
        """Tell the worker, which reads whatever comes; from any thread."""
        with self._speaking:
            rest = memoryview(message(said))
            while rest:
                rest = rest[os.write(self.line.fileno(), rest) :]


_child: _Child


def prepare(
    modules: list[str],
    memory_mb: int | None,
    result_bytes_max: int,
    line: Connection,
    place: MutableSequence[int],
) -> None:
    """Make this process ready for calls.

    Args:
        modules: where handlers are, besides the built-in ones.
        memory_mb: how many megabytes of address space this process may take from now on.
        result_bytes_max: the longest result, in bytes of JSON.
        line: to the worker; that it is closed tells the worker of this process's end.
        place: see `dte.worker.processes.tasks`.
    """
    global _child
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A group of its own, so that what a handler starts can be ended with it.
    os.setpgid(0, 0)
    _die_with_the_worker()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    sys.set_int_max_str_digits(0)
    registry.load(modules)
    gc.freeze()  # What is loaded stays: it need not be looked through for garbage.
    if memory_mb is not None:
        limit = _address_space_bytes() + memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _child = _Child(line, place, memory_mb, result_bytes_max)


def serve() -> None:
    """Do what the worker says, until it says nothing any more."""
    listener: Listener[Begin | Stop] = Listener(_child.line.fileno(), Begin | Stop)  # type: ignore[arg-type]
    tasks = Tasks(listener, _child.line.fileno(), _child.say, _child.place, run_async)
    _child.say([])
    while (orders := listener.hear()) is not None:
        begin = [order for order in orders if isinstance(order, Begin)]
        if begin and is_async(begin[0].handler):
            _child.runner.run(tasks.run(orders))
        else:
            for order in begin:
                _child.say([run(order)])


def is_async(name: str) -> bool:
    """Whether calls of a handler run beside others."""
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
        if isinstance(result, Coroutine):  # A plain function may give one too.
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
    """A call with its arguments; an outcome if it cannot be called with these."""
    lease, name = order.lease, order.handler
    found = registry.find(name)
    if found is None:
        return Outcome(lease, error=f"this worker has no handler {name}", retry=False)
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
    """Arguments.

    Raises:
        Malformed: they are no JSON, or nest too deep, or have a number that is not finite.
    """
    args = _args.decode(raw)
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX:
        brackets = _no_brackets.sub(b"", raw).translate(_alike)
        for _ in range(DEPTH_MAX):  # Each time, what is innermost goes.
            brackets = brackets.replace(b"[]", b"")
        if brackets:
            raise Malformed(f"they nest more than {DEPTH_MAX} deep")
    return args


async def _alone(call: Coroutine[Any, Any, Any]) -> Any:
    """Await a call that has the event loop for itself, and end the tasks that it leaves behind."""
    try:
        return await call
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _progress(lease: int, fraction: float, text: str) -> None:
    with suppress(OSError, UnicodeEncodeError):
        _child.say([News(lease, fraction, text)])


def _result(order: Begin, result: Any) -> Outcome:
    """What a handler gave, as JSON."""
    lease, most = order.lease, _child.result_bytes_max
    if isinstance(result, int) and result.bit_length() * log10(2) > most:
        # Writing it down might take minutes.
        reason = f"it is an integer of more than {most} digits; the limit is {most} bytes"
        return _no_result(lease, reason)
    try:
        raw = encode(result)
        if b"null" in raw and result is not None:  # What infinities become as well.
            json.dumps(msgspec.to_builtins(result), allow_nan=False)
    except MemoryError:
        return Outcome(lease, error=_out_of_memory())
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return _no_result(lease, f"it is no JSON: {error}")
    if len(raw) > most:
        reason = f"it has {len(raw)} bytes; the limit is {most}: ask for less"
        return _no_result(lease, f"{reason}, as by a smaller argument")
    return Outcome(lease, raw)


def _no_result(lease: int, reason: str) -> Outcome:
    return Outcome(lease, error=f"the result cannot be sent: {reason}", retry=False)


def _failure(order: Begin, error: BaseException) -> Outcome:
    """What a handler raised; to be called while that is handled."""
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
    """A text without halves of surrogate pairs, which cannot be sent."""
    return text.encode(errors="replace").decode()


def _address_space_bytes() -> int:
    """What this process has already, which differs by the libraries that are loaded."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _die_with_the_worker() -> None:
    """Have this process end when the worker has ended, in whatever way."""
    parent = parent_process()
    assert parent is not None
    if sys.platform == "linux":
        # By the system, so that not even code that never lets Python's lock go outlives it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    # For other systems; and the worker may have ended before.
    threading.Thread(target=watch, daemon=True, name="watches the worker").start()
