"""The state that the operating system has of a process, and that handlers can change."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import faulthandler
import fcntl
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from math import inf
from operator import attrgetter
from typing import Any

from dte.worker.processes.parts import Part

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
FILES_SHARE_MAX = 0.5
"""A process that has more than this share of its files open after a call is replaced."""
SETTERS_OF_LIMITS = ("resource", "psutil")
"""The modules of which one is imported where limits are changed."""
POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)


def system_parts() -> list[Part]:
    """Return the parts of the system's state, in the order in which they are set back."""
    return [*_of_signals(), *_of_surroundings(), *_of_files(), *_of_rights()]


# Signals


def _of_signals() -> list[Part]:
    return [
        Part("changed a signal handler", _signal_handlers, _set_signal_handlers, False),
        # Reading it sets it.
        Part("changed the file of signals", partial(_signal.set_wakeup_fd, -1), _ignore, False),
        Part("blocked a signal", _blocked_signals, _block_signals, False),
    ]


def stop_alarm() -> None:
    """Stop the timer of `signal.alarm`, so that it does not go off outside of its call."""
    if _signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, 0)


def stop_timers() -> None:
    """Stop all timers of this process."""
    for each in TIMERS:
        if _signal.getitimer(each)[0]:
            signal.setitimer(each, 0)
    faulthandler.cancel_dump_traceback_later()


def _ignore(_: object) -> None:
    """Do nothing, because reading has set it back."""


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


# Folder, environment, umask


def _of_surroundings() -> list[Part]:
    umask = os.umask(0)
    os.umask(umask)
    folder: int | None = None
    with suppress(OSError):
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    return [
        Part("changed the environment", _environment, _set_environment),
        *_environment_of_c(),
        Part("changed the time zone", partial(attrgetter("tzname"), time), _set_time_zone),
        Part(
            "changed the working directory",
            _working_directory,
            None if folder is None else lambda _: os.fchdir(folder),
        ),
        # Reading it sets it.
        Part("changed the umask", partial(os.umask, umask), os.umask),
    ]


def _environment() -> dict[bytes, bytes]:
    # Reading it through its methods takes a hundred times as long.
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def _set_environment(before: dict[bytes, bytes]) -> None:
    for name in list(os.environb):
        if name not in before:
            del os.environb[name]
    for name, value in before.items():
        os.environb[name] = value


def _environment_of_c() -> list[Part]:
    """Return the part for the environment as C code and other programs see it.

    `os.putenv` changes this one only, and the other one is written to it.
    """
    try:
        start = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
    except ValueError:  # As on macOS.
        return []
    environment = _EnvironmentOfC(start)
    return [
        Part("changed the environment of C", environment.is_as_before, environment.restore),
    ]


class _EnvironmentOfC:
    """The environment as C code has it: an array of pointers to texts, after the last of them 0.

    A change moves the array or changes a pointer, so the texts need not be read.
    """

    def __init__(self, start: ctypes.c_void_p) -> None:
        self._start = start
        self._before = self._read()
        self._note()

    def is_as_before(self) -> bool:
        return self._start.value == self._known_start and self._pointers.raw == self._known

    def restore(self, _: object) -> None:
        for name in self._read().keys() - self._before.keys():
            os.unsetenv(name)
        for name, value in self._before.items():
            os.putenv(name, value)
        self._note()

    def _note(self) -> None:
        self._known_start = self._start.value
        size = (self._count() + 1) * POINTER_BYTES
        array = ctypes.c_char * (0 if self._known_start is None else size)
        self._pointers = array.from_address(self._known_start or 0)
        self._known = self._pointers.raw

    def _read(self) -> dict[bytes, bytes]:
        texts = ctypes.cast(self._start, ctypes.POINTER(ctypes.c_char_p))
        found = [(texts[number] or b"").partition(b"=") for number in range(self._count())]
        return {name: value for name, _, value in found if name}

    def _count(self) -> int:
        if self._start.value is None:
            return 0
        pointers = ctypes.cast(self._start, ctypes.POINTER(ctypes.c_void_p))
        return next(number for number in count() if not pointers[number])


def _set_time_zone(_: object) -> None:
    time.tzset()


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # It has been removed.
        return None


# Files


def _of_files() -> list[Part]:
    return [
        Part("closed or replaced file 1 or 2", _watch_output(), None, False),
        Part(
            "made a standard stream non-blocking",
            _output_blocks,
            lambda before: os.set_blocking(1, not before),
            False,
        ),
        Part("left too many files open", _look_at_files(), None, False),
    ]


def _watch_output() -> Callable[[], Any]:
    """Return a function whose value changes when file 1 or 2 is closed or replaced."""
    if hasattr(select, "epoll"):
        with suppress(OSError):  # It is no pipe.
            watched = select.epoll()
            watched.register(1, 0)
            watched.register(2, 0)
            return partial(_are_registered, watched)
    return lambda: [_file(1), _file(2)]


def _are_registered(watched: select.epoll) -> bool:
    """Return True if files 1 and 2 are those that were registered.

    The system looks this up by the number and the open file, in a third of the time of `fstat`.
    """
    try:
        watched.modify(1, 0)
        watched.modify(2, 0)
    except OSError:
        return False
    return True


def _file(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _output_blocks() -> int:
    try:
        return fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK
    except OSError:
        return -1


def _look_at_files() -> Callable[[], bool]:
    """Return a function that sets file 0 back, and is False when too many files are open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    end = inf if soft == resource.RLIM_INFINITY else FILES_SHARE_MAX * soft
    try:
        kept = os.dup(0)
    except OSError:
        return lambda: _lowest_free_file(1) <= end

    def look() -> bool:
        lowest = _lowest_free_file(0)
        os.dup2(kept, 0)
        return lowest <= end

    return look


def _lowest_free_file(some: int) -> int:
    """Return the lowest number that a file can get; all below it are open."""
    number = os.dup(some)  # It fails if that file is closed.
    os.close(number)
    return number


# Limits, priority, user


def _of_rights() -> list[Part]:
    parts = [
        _limits(),
        Part(
            "changed the priority",
            partial(os.getpriority, os.PRIO_PROCESS, 0),
            partial(os.setpriority, os.PRIO_PROCESS, 0),
            False,
        ),
    ]
    if hasattr(os, "sched_setaffinity"):
        read, restore = partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)
        parts.append(Part("changed the CPUs", read, restore, False))
    if 0 in _user()[0]:  # Nobody else can change it.
        parts.append(Part("changed the user", _user, None, False))
    return parts


def _user() -> tuple[Sequence[int], ...]:
    if hasattr(os, "getresuid"):
        return os.getresuid(), os.getresgid(), os.getgroups()
    return (os.getuid(), os.geteuid()), (os.getgid(), os.getegid()), os.getgroups()


def forget_resource() -> None:
    """Let it be seen when code of handlers imports what sets limits, which take long to read."""
    sys.modules.pop("resource", None)


def _limits() -> Part:
    before = list(map(resource.getrlimit, LIMITS))

    def are_as_before() -> bool:
        if sys.modules.keys().isdisjoint(SETTERS_OF_LIMITS):
            return True
        return list(map(resource.getrlimit, LIMITS)) == before

    def restore(_: object) -> None:
        for number, limits in zip(LIMITS, before, strict=True):
            resource.setrlimit(number, limits)

    return Part("changed a resource limit", are_as_before, restore, False)
