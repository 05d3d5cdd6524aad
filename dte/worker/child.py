"""What happens in a child process of a worker: one call of a handler at a time."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from math import log10
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dte.handlers import registry
from dte.handlers.arguments import BadArguments
from dte.handlers.progress import send_by
from dte.wire.codec import Decoder, Malformed, encode

ERROR_CHARS_MAX = 2000
DEPTH_MAX = 500
"""Arguments that nest deeper could be read, but hardly worked with: Python's stack has its end."""
PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Makes the system end a child rather than the worker when memory runs out."""

_args: Decoder[Any] = Decoder(Any)
_no_brackets = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^][{}"]+', re.DOTALL)
_alike = bytes.maketrans(b"{}", b"[]")


class Outcome(NamedTuple):
    """What became of a call.

    Attributes:
        result: JSON; None if there is an error.
        error: why there is no result.
        retry: whether trying again can make sense.
        trace: where the error came from, for the log.
    """

    result: bytes | None = None
    error: str | None = None
    retry: bool = True
    trace: str = ""


class _Child:
    """This process, as a child of a worker."""

    def __init__(self, news: Connection, memory_mb: int | None, result_bytes_max: int) -> None:
        self.news = news
        self.memory_mb = memory_mb
        self.result_bytes_max = result_bytes_max
        self.runner = asyncio.Runner()


_child: _Child


def prepare(
    modules: list[str],
    memory_mb: int | None,
    result_bytes_max: int,
    news: Connection,
) -> None:
    """Make this process ready for calls.

    Args:
        modules: where handlers are, besides the built-in ones.
        memory_mb: how many megabytes of address space this process may take from now on.
        result_bytes_max: the longest result, in bytes of JSON.
        news: where progress is written; that it is closed tells the worker of this process's end.
    """
    global _child
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A group of its own, so that what a handler starts can be ended with it.
    os.setpgid(0, 0)
    _die_with_the_worker()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    sys.set_int_max_str_digits(0)
    os.set_blocking(news.fileno(), False)
    registry.load(modules)
    if memory_mb is not None:
        limit = _address_space_bytes() + memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _child = _Child(news, memory_mb, result_bytes_max)


def ready() -> None:
    """Do nothing; that this can be called says that the process is ready."""


def run(lease: int, name: str, args: bytes) -> Outcome:
    """Call a handler.

    Args:
        lease: what progress is reported under.
        name: the handler's.
        args: the JSON of a list of arguments, or of an object of named ones.
    """
    found = registry.handlers().get(name)
    if found is None:
        return Outcome(error=f"this worker has no handler {name}", retry=False)
    try:
        positional, named = found.signature.bind(_read(args))
    except Malformed as error:
        return Outcome(error=f"the arguments cannot be read: {error}", retry=False)
    except BadArguments as error:
        return Outcome(error=str(error), retry=False)
    except MemoryError:
        return Outcome(error=_out_of_memory())
    send_by(lambda fraction, text: _send(lease, fraction, text))
    try:
        result = found.function(*positional, **named)
        if isinstance(result, Coroutine):
            result = _child.runner.run(_alone(result))
    except MemoryError:
        return Outcome(error=_out_of_memory(), trace=traceback.format_exc())
    except BaseException as error:
        return Outcome(error=_text(error), trace=traceback.format_exc())
    finally:
        send_by(None)
    try:
        return _result(result)
    except MemoryError:
        return Outcome(error=_out_of_memory())


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
    """Await a call, and end the tasks that it leaves behind."""
    try:
        return await call
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _send(lease: int, fraction: float, text: str) -> None:
    """Write a line of news; when the worker has too many of them to read, this one is dropped."""
    with suppress(OSError, UnicodeEncodeError):
        os.write(_child.news.fileno(), encode([lease, fraction, text]) + b"\n")


def _result(result: Any) -> Outcome:
    most = _child.result_bytes_max
    if isinstance(result, int) and result.bit_length() * log10(2) > most:
        # Writing it down might take minutes.
        return _no_result(f"it is an integer of more than {most} digits; the limit is {most} bytes")
    try:
        raw = encode(result)
        if b"null" in raw:  # What infinities become as well.
            json.dumps(msgspec.to_builtins(result), allow_nan=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return _no_result(f"it is no JSON: {error}")
    if len(raw) > most:
        return _no_result(
            f"it has {len(raw)} bytes; the limit is {most}: ask for less, as by a smaller argument"
        )
    return Outcome(raw)


def _no_result(reason: str) -> Outcome:
    return Outcome(error=f"the result cannot be sent: {reason}", retry=False)


def _out_of_memory() -> str:
    limit = _child.memory_mb
    return "MemoryError" if limit is None else f"out of memory: the limit is {limit} MB"


def _text(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = ""
    whole = f"{kind}: {text}" if text else kind
    # Half a surrogate pair cannot be sent.
    return whole[:ERROR_CHARS_MAX].encode(errors="replace").decode()


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
