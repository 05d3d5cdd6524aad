"""The environment in which a child process starts, and the one that its handlers find.

A process imports modules of Python before the worker can tell it where to look for them. Until then
it must not look into the current folder, where a queue.py could take the place of Python's own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("dte.worker")

SAFE_PATH = "PYTHONSAFEPATH"
PATH = "PYTHONPATH"
SAVED = "DTE_SAVED_"
"""The prefix under which a child finds the worker's value of a variable."""


@contextmanager
def without_folder() -> Iterator[None]:
    """Keep processes that are started meanwhile from looking into the current folder.

    No process can be started in a folder that has been deleted, so the worker leaves it first.
    """
    _leave_deleted_folder()
    before = {name: os.environ.get(name) for name in (SAFE_PATH, PATH)}
    folders = [path for path in (before[PATH] or "").split(os.pathsep) if not _is_here(path)]
    during = {SAFE_PATH: "1", PATH: os.pathsep.join(folders)}
    saved = {f"{SAVED}{name}": value or "" for name, value in before.items()}
    os.environ.update(during | saved)
    try:
        yield
    finally:
        for name in saved:
            del os.environ[name]
        for name, value in before.items():
            _set(name, value)


def _leave_deleted_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        log.warning("the current folder has been deleted; continuing in /")
        os.chdir("/")


def restore() -> None:
    """Give this process the worker's environment, which programs that handlers start inherit."""
    for name in (SAFE_PATH, PATH):
        saved = os.environ.pop(f"{SAVED}{name}", None)
        if saved is not None:
            _set(name, saved)


def _set(name: str, value: str | None) -> None:
    """Set a variable. An empty one means to Python what a missing one means."""
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


def _is_here(path: str) -> bool:
    return not path or os.path.realpath(path) == os.getcwd()
