"""Descriptions of the exceptions that keep a child process from starting."""

from __future__ import annotations

import os
import sysconfig
import traceback
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType

import dte
from dte.handlers.modules import CannotLoad
from dte.worker.processes.channel import NotReady
from dte.worker.processes.traces import cut, real, text_of, trace_of

CHARS_MAX = 400
FOREIGN = tuple(
    os.path.join(folder, "")
    for folder in (
        str(Path(dte.__file__).parent),
        *map(sysconfig.get_paths().__getitem__, ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)
"""The folders of code that is not the user's: of dte, of Python, and of installed packages."""


def not_ready(error: BaseException) -> NotReady:
    """Return the message of a child that an exception keeps from starting."""
    text, cause = describe(error), _cause(error)
    BaseException.with_traceback(cause, _users_part(cause))
    return NotReady(text, trace_of(cause))


def describe(error: BaseException) -> str:
    """Return an exception as one line, with the file and the line of the user's code."""
    error = _cause(error)
    text = cut(" ".join(text_of(error).split()), CHARS_MAX)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if isinstance(error, CannotLoad):
        return text.removeprefix("CannotLoad: ")
    place = None if isinstance(error, SyntaxError) else _place(error)  # Its text has the place.
    return text if place is None else f"{text} ({place})"


def _cause(error: BaseException) -> BaseException:
    """Return the exception that another one was raised for, if that says nothing itself."""
    while isinstance(error, (CannotLoad, BrokenProcessPool)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _users_part(error: BaseException) -> TracebackType | None:
    """Return the trace from the user's first frame on, without the imports that lead to it."""
    trace = first = real(error, "__traceback__")
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(("<", *FOREIGN)):
            return trace  # type: ignore[no-any-return]
        trace = trace.tb_next
    return None if isinstance(error, SyntaxError) else first


def _place(error: BaseException) -> str | None:
    """Return the file and the line of the last frame in the user's code."""
    for frame, number in reversed([*traceback.walk_tb(real(error, "__traceback__"))]):
        file = frame.f_code.co_filename
        if not file.startswith(("<", *FOREIGN)):
            return f"{Path(file).name}, line {number}"
    return None
