"""Starts child processes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType

from pebble import ProcessPool

from dte.worker.processes import child, signals
from dte.worker.processes.environment import without_folder

CONTEXT = multiprocessing.get_context("spawn")

_starting = threading.Lock()


def start(pool: ProcessPool) -> tuple[Future[None], BaseProcess | None]:
    """Start the process of a pool; return the process and a future that ends when it has served."""
    with _starting, _no_main_module(), without_folder(), signals.blocked():
        before = set(multiprocessing.active_children())
        served = pool.schedule(child.serve)
        started = set(multiprocessing.active_children()) - before
    return served, started.pop() if len(started) == 1 else None


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
