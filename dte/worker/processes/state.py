"""The state of a process that handlers can change, and which is as new before each call.

The table of `_parts` names it all. What can be set back is set back after each call; a change of
anything else makes the process one to be replaced. Context variables need neither, because each
call runs in a context of its own. What no process can know of itself stays: objects in modules, as
caches and clients are, and the state of random number generators.

Async calls share a process, so their state is set back when none is left. What is cheap to see is
looked at whenever one ends, and after a change the process gets no more calls.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import concurrent.futures.thread as pools
import decimal
import gc
import locale
import logging
import operator
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

from dte.worker.processes.traces import text_of

MEMORY_SHARE_MAX = 0.75
"""A process that still has more than this share of its memory after a call is replaced."""
FILES_SHARE_MAX = 0.5
"""A process that has more than this share of its files open after a call is replaced."""
SIGNALS = [
    number
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    if number < 32  # Without those of real time, which nobody uses.
]
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
LIMITS = (
    *(resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE),
    *(resource.RLIMIT_NPROC, resource.RLIMIT_STACK),
)
THREADS_END_S = 0.05
STREAMS = ("stdin", "stdout", "stderr")
HOOKS = ("excepthook", "unraisablehook", "displayhook")
LOGGING = ("level", "disabled", "propagate", "manager.disable")


class _Part(NamedTuple):
    """A part of the state.

    Attributes:
        change: a change of it, for people.
        read: returns its value.
        restore: takes the value from before; None if it cannot be set back.
        is_cheap: it is looked at while other calls run too.
    """

    change: str
    read: Callable[[], Any]
    restore: Callable[[Any], object] | None
    is_cheap: bool = True


def _parts(folder: int | None) -> list[_Part]:
    """Return the parts of the state, in the order in which they are set back."""
    umask = os.umask(0)
    os.umask(umask)
    streams = [each for each in (sys.stdin, sys.stdout, sys.stderr) if each is not None]
    return [
        _Part(
            "left a timer running",
            partial(signal.getitimer, signal.ITIMER_REAL),
            _stop_timers,
            False,
        ),
        _Part("changed a signal handler", _signal_handlers, _set_signal_handlers, False),
        _Part("blocked a signal", _blocked_signals, _block_signals, False),
        _Part("changed the environment", _environment, _set_environment),
        _Part("changed the time zone", partial(attrgetter("tzname"), time), _set_time_zone),
        _Part(
            "changed the working directory",
            _working_directory,
            None if folder is None else lambda _: os.fchdir(folder),
        ),
        # Reading the umask sets it.
        _Part("changed the umask", partial(os.umask, umask), os.umask),
        _Part("replaced a standard stream", partial(attrgetter(*STREAMS), sys), _set_streams),
        _Part("closed a standard stream", lambda: [each.closed for each in streams], None),
        _Part("closed or replaced file 1 or 2", _standard_files, None, False),
        _Part(
            "made a standard stream non-blocking",
            _output_blocks,
            partial(os.set_blocking, 1),
            False,
        ),
        _Part("configured logging", partial(attrgetter(*LOGGING), logging.root), _set_logging),
        _Part(
            "changed the log's handlers",
            partial(attrgetter("handlers"), logging.root),
            _set_log_handlers,
        ),
        _Part("changed sys.path", partial(attrgetter("path"), sys), _set_path),
        _Part("changed warnings", partial(attrgetter("filters"), warnings), _set_filters),
        _Part(
            "changed the locale",
            partial(locale.setlocale, locale.LC_ALL),
            partial(locale.setlocale, locale.LC_ALL),
            False,
        ),
        _Part(
            "changed the default timeout of sockets",
            socket.getdefaulttimeout,
            socket.setdefaulttimeout,
        ),
        _Part("changed the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        _Part(
            "changed the limit of digits",
            sys.get_int_max_str_digits,
            sys.set_int_max_str_digits,
        ),
        _Part("turned garbage collection off", gc.isenabled, lambda _: gc.enable()),
        _Part("changed garbage collection", gc.get_threshold, lambda old: gc.set_threshold(*old)),
        _Part("changed the switch interval", sys.getswitchinterval, sys.setswitchinterval),
        _Part("replaced a hook of Python", partial(attrgetter(*HOOKS), sys), _set_hooks),
        _Part("left a trace function", sys.gettrace, sys.settrace),
        _Part("left a profiler", sys.getprofile, sys.setprofile),
        _Part("changed a resource limit", _limits, _set_limits, False),
        _Part(
            "changed the priority",
            partial(os.getpriority, os.PRIO_PROCESS, 0),
            partial(os.setpriority, os.PRIO_PROCESS, 0),
            False,
        ),
        *_affinity(),
        _Part("changed the user", lambda: (os.geteuid(), os.getegid()), None, False),
        _Part("left a program running", _has_children, None, False),
    ]


def _affinity() -> list[_Part]:
    """Return the part for the CPUs of this process, which only some systems can set."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    read, restore = partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)
    return [_Part("changed the CPUs", read, restore, False)]


def stop_alarm() -> None:
    """Stop the timer of `signal.alarm`, so that it does not go off outside of its call."""
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, 0)


class ProcessState:
    """The state of this process, remembered as it is before the first call.

    Args:
        loop: the event loop of calls.
        memory_end: the address space at which this process counts as full, in bytes; None for no
            limit.

    Attributes:
        is_worn: this process begins no more calls.
        tasks_made: the number of tasks that were made on the event loop since the last look.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, memory_end: float | None) -> None:
        try:
            self._folder: int | None = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self._folder = None
        self._loop = loop
        self._memory_end = memory_end
        self.is_worn = False
        self.tasks_made = 0
        self._files_end = FILES_SHARE_MAX * _files_max()
        self._decimal = decimal.getcontext().copy()
        self._threads = threading.active_count()
        self._parts = _parts(self._folder)
        self._readers = [each.read for each in self._parts]
        self._saved = [_copy(read()) for read in self._readers]
        cheap = [each.is_cheap for each in self._parts]
        self._cheap_readers = [
            r for r, is_cheap in zip(self._readers, cheap, strict=True) if is_cheap
        ]
        self._cheap_saved = [s for s, is_cheap in zip(self._saved, cheap, strict=True) if is_cheap]
        self._known_threads = set(threading.enumerate())

    def context(self) -> Context:
        """Return a context for one call."""
        context = copy_context()
        context.run(decimal.setcontext, self._decimal.copy())
        return context

    def renew(self, tasks: int = 0) -> str:
        """Set the state back after a call.

        Args:
            tasks: the number of tasks on the event loop that are not of calls.

        Returns:
            The reason why the process is to be replaced, as in "a call changed the user"; "" for
            none.
        """
        try:
            if list(map(operator.call, self._readers)) != self._saved:
                self._restore()
            asyncio.set_event_loop(self._loop)
            return self._left(tasks)
        except _Worn as reason:
            return str(reason)
        except BaseException as error:
            return f"the state after a call cannot be restored: {text_of(error)}"

    def changed(self) -> str:
        """Return the reason why the process takes no more calls while others run; "" for none."""
        try:
            if list(map(operator.call, self._cheap_readers)) != self._cheap_saved:
                return "a call changed the state of the process while others ran"
        except BaseException as error:
            return f"the state of the process cannot be read: {text_of(error)}"
        return ""

    def _restore(self) -> None:
        """Set back what differs.

        Raises:
            _Worn: it cannot be set back.
        """
        _stop_timers(None)  # The others of them only go with a change of signal handlers.
        for part, before in zip(self._parts, self._saved, strict=True):
            if part.read() == before:
                continue
            if part.restore is None:
                raise _Worn(f"a call {part.change}")
            with suppress(OSError, ValueError):
                part.restore(before)
            if part.read() != before:
                raise _Worn(f"a call {part.change}")

    def _left(self, tasks: int) -> str:
        """Return what calls left behind that cannot be set back."""
        if threading.active_count() != self._threads and _threads_left(self._known_threads):
            return "a call left a thread running"
        self._threads = threading.active_count()
        if self._loop.is_closed():
            return "a call closed the event loop"
        if self.tasks_made:
            self.tasks_made = 0
            if len(asyncio.all_tasks(self._loop)) > tasks:
                return "a call left a task running"
        if _lowest_free_file() > self._files_end:
            return "it has too many open files"
        if self._memory_end is not None and address_space_bytes() > self._memory_end:
            return "its memory is nearly used up"
        return ""


class _Worn(Exception):
    """The process is to be replaced. The text gives the reason."""


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, dict)) else value


def address_space_bytes() -> int:
    """Return the address space of this process, which depends on the loaded libraries."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            pages = int(file.read().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


# Reading and setting back


def _stop_timers(_: object) -> None:
    for each in TIMERS:
        signal.setitimer(each, 0)


def _signal_handlers() -> list[Any]:
    return list(map(_signal.getsignal, SIGNALS))  # That of `signal` takes ten times as long.


def _set_signal_handlers(before: Sequence[Any]) -> None:
    for number, handler in zip(SIGNALS, before, strict=True):
        if _signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _blocked_signals() -> Collection[int]:
    return _signal.pthread_sigmask(signal.SIG_BLOCK, ())  # type: ignore[no-any-return]


def _block_signals(before: Collection[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[bytes, bytes]:
    # Reading it through its methods takes a hundred times as long.
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def _set_environment(before: dict[bytes, bytes]) -> None:
    for name in list(os.environb):
        if name not in before:
            del os.environb[name]
    for name, value in before.items():
        os.environb[name] = value


def _set_time_zone(_: object) -> None:
    time.tzset()


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # It has been removed.
        return None


def _set_streams(before: Sequence[Any]) -> None:
    sys.stdin, sys.stdout, sys.stderr = before


def _set_hooks(before: Sequence[Any]) -> None:
    sys.excepthook, sys.unraisablehook, sys.displayhook = before


def _set_logging(before: Sequence[Any]) -> None:
    level, logging.root.disabled, logging.root.propagate, logging.root.manager.disable = before
    logging.root.setLevel(level)  # This also makes loggers forget what they have found.


def _set_log_handlers(before: Sequence[logging.Handler]) -> None:
    logging.root.handlers[:] = before


def _lowest_free_file() -> int:
    """Return the lowest number that a file can get; all below it are open."""
    number = os.dup(0)
    os.close(number)
    return number


def _files_max() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft


def _output_blocks() -> bool | None:
    try:
        return os.get_blocking(1)
    except OSError:
        return None


def _standard_files() -> list[tuple[int, int] | None]:
    return [_file(1), _file(2)]


def _file(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_path(before: list[str]) -> None:
    sys.path[:] = before


def _set_filters(before: list[Any]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # This makes warnings forget what it has found by the old filters.


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(each) for each in LIMITS]


def _set_limits(before: Sequence[tuple[int, int]]) -> None:
    for number, limits in zip(LIMITS, before, strict=True):
        resource.setrlimit(number, limits)


def _has_children() -> bool:
    """Return True if there is a child process, even if it has ended."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _threads_left(known: Collection[threading.Thread]) -> bool:
    """Return True if a new thread works; one that is about to end gets a moment for it."""
    until = time.monotonic() + THREADS_END_S
    while any(each not in known and _works(each) for each in threading.enumerate()):
        if time.monotonic() > until:
            return True
        time.sleep(THREADS_END_S / 50)
    return False


def _works(thread: threading.Thread) -> bool:
    """Return True unless it serves a library, as daemon threads do, or waits in a pool for work."""
    frame = sys._current_frames().get(thread.ident or 0)
    waits = frame is not None and frame.f_code is pools._worker.__code__
    return not thread.daemon and not waits
