"""The state of Python that handlers can change: of the interpreter and of its own modules."""

from __future__ import annotations

import asyncio
import builtins
import faulthandler
import gc
import locale
import logging
import socket
import sys
import tempfile
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

from dte.worker.processes.parts import Part, attributes, contents

STREAMS = ("stdin", "stdout", "stderr")
HOOKS = ("excepthook", "unraisablehook", "displayhook")
LEVELS_KNOWN = "dte: the levels are known"
"""A key in the cache of the root logger, which is emptied when any logger gets a level."""


def python_parts(loop: asyncio.AbstractEventLoop) -> list[Part]:
    """Return the parts of Python's state, in the order in which they are set back.

    Args:
        loop: the event loop of calls.
    """
    return [*_of_streams(), *_of_interpreter(), *_of_imports(), *_of_logging(), *_of_modules(loop)]


def _of_streams() -> list[Part]:
    streams = [each for each in (sys.stdin, sys.stdout, sys.stderr) if each is not None]
    is_closed = attrgetter("closed")
    return [
        attributes("replaced a standard stream", sys, *STREAMS),
        Part("closed a standard stream", lambda: list(map(is_closed, streams)), None),
    ]


def _of_interpreter() -> list[Part]:
    return [
        Part("changed the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        Part(
            "changed the limit of digits",
            sys.get_int_max_str_digits,
            sys.set_int_max_str_digits,
        ),
        Part("changed the switch interval", sys.getswitchinterval, sys.setswitchinterval),
        attributes("replaced a hook of Python", sys, *HOOKS),
        contents("changed sys.argv", sys, "argv"),
        attributes("replaced a function of Python", builtins, "__import__", "print", "open"),
        attributes("replaced the hook of threads", threading, "excepthook"),
        Part("left a trace function", sys.gettrace, sys.settrace),
        Part("left a profiler", sys.getprofile, sys.setprofile),
        Part("left a trace function of threads", threading.gettrace, threading.settrace),
        Part("left a profiler of threads", threading.getprofile, threading.setprofile),
        Part("left memory traced", tracemalloc.is_tracing, _set_tracing),
        Part("turned garbage collection off", gc.isenabled, lambda _: gc.enable()),
        Part("changed garbage collection", gc.get_threshold, lambda old: gc.set_threshold(*old)),
        Part("changed garbage collection", gc.get_debug, gc.set_debug),
        contents("changed garbage collection", gc, "callbacks"),
        Part(
            "changed the handler of faults",
            faulthandler.is_enabled,
            lambda was: None if was else faulthandler.disable(),
        ),
    ]


def _set_tracing(was: bool) -> None:
    if not was:
        tracemalloc.stop()


# Imports


def _of_imports() -> list[Part]:
    known = set(sys.modules)
    return [
        contents("changed sys.path", sys, "path"),
        _finders("meta_path", known),
        _finders("path_hooks", known),
    ]


def _finders(name: str, known: Collection[str]) -> Part:
    """Return the part of finders of modules, where those of modules that calls import stay."""
    original = getattr(sys, name)

    def restore(before: list[Any]) -> None:
        current = getattr(sys, name)
        lost = [each for each in before if each not in current]
        original[:] = [*lost, *(each for each in current if each in before or is_of_new(each))]
        setattr(sys, name, original)

    def is_of_new(finder: Any) -> bool:
        module = getattr(finder, "__module__", None) or type(finder).__module__
        return module in sys.modules and module not in known

    change = f"changed sys.{name}"
    return Part(change, partial(attrgetter(name), sys), restore, keeps_some=True)


# Logging


def _of_logging() -> list[Part]:
    loggers = _Loggers()
    return [
        attributes("configured logging", logging.root, "disabled", "propagate"),
        contents("changed the log's filters", logging.root, "filters"),
        Part("changed the log's level", partial(attrgetter("level"), logging.root), _set_level),
        attributes("disabled logging", logging.root.manager, "disable"),
        contents("changed the log's handlers", logging.root, "handlers"),
        Part("changed a logger", loggers.are_as_before, loggers.restore),
    ]


def _set_level(level: int) -> None:
    logging.root.setLevel(level)  # This also makes loggers forget what they have found.


_Logged = tuple[int, bool, bool, list[Any], list[Any]]


class _Loggers:
    """The loggers with names, of which there may be many.

    So their levels are looked at only after one has changed, and their handlers only when there are
    more or fewer.
    """

    def __init__(self) -> None:
        self._before = {each.name: _logged(each) for each in _loggers()}
        self._note()

    def _note(self) -> None:
        self._cache: dict[Any, Any] = getattr(logging.root, "_cache", {})
        self._cache[LEVELS_KNOWN] = True
        self._references = getattr(logging, "_handlerList", [])
        self._count = len(self._references)

    def are_as_before(self) -> bool:
        return LEVELS_KNOWN in self._cache and len(self._references) == self._count

    def restore(self, _: object) -> None:
        """Set back all loggers but those of modules that calls have imported."""
        for each in _loggers():
            before = self._before.get(each.name)
            if before is None:
                if each.name.partition(".")[0] in sys.modules:
                    continue
                before = logging.NOTSET, True, False, [], []
            if _logged(each) != before:
                level, each.propagate, each.disabled, handlers, filters = before
                each.handlers, each.filters = handlers.copy(), filters.copy()
                each.setLevel(level)
        self._note()


def _loggers() -> list[logging.Logger]:
    found = list(logging.root.manager.loggerDict.values())
    return [each for each in found if isinstance(each, logging.Logger)]


def _logged(logger: logging.Logger) -> _Logged:
    lists = logger.handlers.copy(), logger.filters.copy()
    return logger.level, logger.propagate, logger.disabled, *lists


# Other modules of Python


def _of_modules(loop: asyncio.AbstractEventLoop) -> list[Part]:
    return [
        contents("changed warnings", warnings, "filters", _forget_warnings),
        Part("changed warnings", partial(attrgetter("showwarning"), warnings), _set_showwarning),
        Part(
            "changed the locale",
            partial(locale._setlocale, locale.LC_ALL),  # type: ignore[attr-defined]
            partial(locale.setlocale, locale.LC_ALL),
            False,
        ),
        Part(
            "changed the default timeout of sockets",
            socket.getdefaulttimeout,
            socket.setdefaulttimeout,
        ),
        _folder_of_temporary_files(),
        # The functions for it are deprecated.
        attributes("changed the policy of event loops", asyncio.events, "_event_loop_policy"),
        Part("changed the event loop", loop.get_task_factory, loop.set_task_factory),
        Part("changed the event loop", loop.get_exception_handler, loop.set_exception_handler),
        Part("changed the event loop", loop.get_debug, loop.set_debug),
        *_threads_of(loop),
    ]


def _forget_warnings() -> None:
    """Make warnings forget what it has found by other filters."""
    with warnings.catch_warnings():
        pass


def _set_showwarning(before: Callable[..., None]) -> None:
    logging.captureWarnings(False)
    warnings.showwarning = before


def _threads_of(loop: asyncio.AbstractEventLoop) -> list[Part]:
    """Return the part for the default executor, which loops of other libraries do not show."""
    if not isinstance(loop, asyncio.BaseEventLoop):
        return []
    read = partial(attrgetter("_default_executor", "_executor_shutdown_called"), loop)
    return [
        Part(
            "changed the event loop's threads",
            read,
            lambda before: loop.set_default_executor(before[0]),
        )
    ]


def _folder_of_temporary_files() -> Part:
    """Return the part for the default folder of temporary files, which the first one looks for."""
    before = usual = tempfile.tempdir
    with suppress(OSError):
        usual = tempfile.gettempdir()
    tempfile.tempdir = before

    def is_usual() -> bool:
        return tempfile.tempdir is None or tempfile.tempdir in (before, usual)

    def restore(_: object) -> None:
        tempfile.tempdir = before

    return Part("changed the folder of temporary files", is_usual, restore)
