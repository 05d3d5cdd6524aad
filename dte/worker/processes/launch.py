"""Starts child processes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from pebble import ProcessPool

from dte.worker.processes import child, signals
from dte.worker.processes.environment import without_folder


class _FreeLock:
    """A lock that is always free, because only one process uses what it protects."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self) -> None:
        pass


class _Context(SpawnContext):
    """Starts processes without named semaphores.

    A pool makes two locks for the processes that share its channel. As named semaphores they would
    stay on the machine after a SIGKILL to the worker and all its processes, and a process that is
    stopped while it starts would fail because they are gone.
    """

    def RLock(self) -> Any:  # noqa: N802 - as multiprocessing has it
        return _FreeLock()


CONTEXT = _Context()

_starting = threading.Lock()


def start(pool: ProcessPool) -> tuple[Future[None], BaseProcess | None]:
    """Start the process of a pool; return the process and a future that ends when it has served."""
    with _starting, _no_main_module(), without_folder(), signals.blocked():
        before = set(multiprocessing.active_children())
        served = pool.schedule(child.serve)
        started = set(multiprocessing.active_children()) - before
    return served, started.pop() if len(started) == 1 else None


def finish(process: BaseProcess | None) -> int | None:
    """Return the exit code of a process that has ended, and close the pipes that watch its end.

    Python keeps them until it collects the pool, whose parts refer to each other.
    """
    if process is None or process.exitcode is None:
        return None
    code = process.exitcode
    process.close()
    return code


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep processes that are started meanwhile from importing the program's main module.

    They only need the modules of handlers, which have names.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
