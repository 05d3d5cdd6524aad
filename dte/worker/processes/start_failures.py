"""Descriptions of the exceptions that keep a child process from starting."""

from __future__ import annotations

import inspect
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from dte.core.printable import printable
from dte.handlers import registry
from dte.handlers.modules import CannotLoad, explained, last_line, load_module
from dte.worker.processes.channel import NotReady
from dte.worker.processes.traces import cut, real, text_of, trace_of

CHARS_MAX = 400
_OWN = frozenset(each.__code__ for each in (registry.load, load_module, inspect.unwrap(explained)))
"""The functions that import modules of handlers."""


def not_ready(error: BaseException) -> NotReady:
    """Return the message of a child that an exception keeps from starting."""
    return NotReady(describe(error), trace_of(_cause(error), _OWN))


def describe(error: BaseException) -> str:
    """Return an exception as one line, with the file and the line of the user's code."""
    error = _cause(error)
    text = printable(cut(" ".join(text_of(error).split()), CHARS_MAX))
    if isinstance(error, CannotLoad):
        return text.removeprefix("CannotLoad: ")
    place = None if isinstance(error, SyntaxError) else _place(error)  # Its text has the place.
    return text if place is None else f"{text} ({place})"


def _cause(error: BaseException) -> BaseException:
    """Return the exception that another one was raised for, if that says nothing itself."""
    while isinstance(error, (CannotLoad, BrokenProcessPool)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _place(error: BaseException) -> str | None:
    """Return the file and the line of the last frame in the user's code."""
    found = last_line(real(error, "__traceback__"), mine=True)
    if found is None:
        return None
    file, line = found
    return f"{Path(file).name}, line {line}"
