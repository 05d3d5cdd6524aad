"""The state of a process that handlers can change, and which is as new before each call.

The tables of `python_parts` and `system_parts` name it all. What can be set back is set back after
each call; a change of anything else makes the process one to be replaced. Context variables need
neither, because each call runs in a context of its own. What no process can know of itself stays:
objects in modules, as caches and clients are, and the state of random number generators.

Async calls share a process, so their state is set back when none is left. What is cheap to see is
looked at whenever one ends, and after a change the process gets no more calls.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread as pools
import ctypes
import decimal
import operator
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from dte.worker.processes.python_state import python_parts
from dte.worker.processes.system_state import stop_timers, system_parts
from dte.worker.processes.traces import text_of

MEMORY_SHARE_MAX = 0.75
"""A process that still has more than this share of its memory after a call is replaced."""
THREADS_END_S = 0.05


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
        self._loop = loop
        self._memory_end = memory_end
        self.is_worn = False
        self.tasks_made = 0

    def remember(self) -> None:
        """Remember the state as it is now, before the first call."""
        self._decimal = decimal.getcontext().copy()
        self._threads = threading.active_count()
        self._known_threads = set(threading.enumerate())
        self._parts = [*system_parts(), *python_parts(self._loop)]
        self._readers = [each.read for each in self._parts]
        self._saved = [_copy(read()) for read in self._readers]
        self._cheap = [n for n, each in enumerate(self._parts) if each.is_cheap]
        self._cheap_readers = [self._readers[n] for n in self._cheap]
        self._note_cheap()

    def _note_cheap(self) -> None:
        self._cheap_saved = [self._saved[n] for n in self._cheap]

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
            stop_timers()
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
        for number, part in enumerate(self._parts):
            before = self._saved[number]
            if part.read() == before:
                continue
            if part.restore is None:
                raise _Worn(f"a call {part.change}")
            with suppress(OSError, ValueError):
                part.restore(before)
            if (now := part.read()) != before:
                if not part.keeps_some:
                    raise _Worn(f"a call {part.change}")
                self._saved[number] = _copy(now)
                self._note_cheap()

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
        if _has_children():
            return "a call left a program running"
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


def _ask_for_children() -> Callable[[], bool]:
    """Return a function that says if there is a child process, even if it has ended."""
    if not hasattr(os, "waitid"):
        return bool
    waitid = ctypes.CDLL(None).waitid  # That of `os` raises an exception, which takes longer.
    ask = partial(waitid, os.P_ALL, 0, None, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return lambda: ask() == 0


_has_children = _ask_for_children()


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
