"""Ends of processes that the system gives to the worker, or to `dte run`.

A process whose parent has ended goes to process 1, which these are in a container, or to a
subreaper. It stays a zombie until its new parent asks for its exit code.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PR_GET_CHILD_SUBREAPER = 37
PAUSE_S = 0.1


@contextmanager
def reaped() -> Iterator[None]:
    """Reap such processes meanwhile, on the running loop, if this process gets any."""
    if not gets_orphans() or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    waits: list[asyncio.TimerHandle] = []

    def reap() -> None:
        waits.clear()
        reap_orphans()

    def on_signal() -> None:
        if not waits:  # Many may end at once.
            waits.append(loop.call_later(PAUSE_S, reap))

    loop.add_signal_handler(signal.SIGCHLD, on_signal)
    on_signal()
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
        for timer in waits:
            timer.cancel()


def reap_orphans(own: Collection[int] = ()) -> None:
    """Reap the processes that have ended and that this process did not start.

    Processes of handlers are in groups of their own, so that those which they left behind are told
    from what the worker has started: that is in its own group, or known to multiprocessing.

    Args:
        own: processes in other groups that this process has started.
    """
    started = {process.pid for process in multiprocessing.active_children()}
    for pid in _zombies():
        if pid not in started and pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def gets_orphans() -> bool:
    """True if processes go to this one when their parents have ended."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    is_subreaper = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper), 0, 0, 0)
    return bool(is_subreaper.value)


def _zombies() -> Iterator[int]:
    """Yield the children of this process that have ended and are in other process groups."""
    own, group = str(os.getpid()), str(os.getpgrp())
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if state == "Z" and parent == own and its_group != group:
                yield int(stat.parent.name)
