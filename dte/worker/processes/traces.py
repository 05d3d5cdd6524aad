"""The texts of exceptions, cut before they are made: each is short, whatever a handler raises.

An exception is a handler's object. Its texts may have any size, its attributes may lie, and its
methods may raise anything. So what Python itself knows of it is read past its class, and each of
its methods is called where everything is caught.
"""

from __future__ import annotations

import importlib
import os
import stat
import traceback
from collections import deque
from collections.abc import Collection, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any

from dte.worker.processes.channel import ERROR_CHARS_MAX, TRACE_CHARS_MAX

PASSING_ON = (
    os.path.join(os.path.dirname(__file__), ""),
    "<frozen importlib",
    os.path.join(os.path.dirname(importlib.__file__), ""),
)
"""The code that stands between functions of the user in a stack."""
NAME_CHARS_MAX = 200
LINE_CHARS_MAX = 400
FIRST_FRAMES = 5
LAST_FRAMES = 20
CHAIN_MAX = 5
MEMBERS_MAX = 5
GROUPS_MAX = 3
"""Groups within groups are shown up to this depth."""
NOTES_MAX = 5
SOURCE_BYTES_MAX = 10_000_000
"""Of longer files no lines are shown."""

FRAMES = "Traceback (most recent call last):\n"
CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"


def cut(text: str, chars_max: int) -> str:
    """Return the beginning of a text as a plain string that can be encoded."""
    begin = str.__getitem__(text, slice(chars_max))
    if str.__len__(text) > chars_max:
        begin = f"{begin[:-1]}…"
    return begin.encode(errors="replace").decode()


def name_of(kind: type) -> str:
    """Return the name of a class, which its metaclass cannot change."""
    return cut(type.__dict__["__name__"].__get__(kind), NAME_CHARS_MAX)


def real(error: BaseException, name: str, kind: type = BaseException) -> Any:
    """Return an attribute of an exception that a built-in class defines, whatever others say."""
    return vars(kind)[name].__get__(error)


def text_of(error: BaseException) -> str:
    """Return the type and the text of an exception, shortened."""
    kind = name_of(type(error))
    try:
        text = cut(_str(error), ERROR_CHARS_MAX)
    except BaseException as other:
        return f"{kind} (its text cannot be read: str() raised {name_of(type(other))})"
    return cut(f"{kind}: {text}" if text else kind, ERROR_CHARS_MAX)


def line_of(error: BaseException) -> str:
    """Return the type and the text of an exception on one line."""
    return " ".join(text_of(error).splitlines())


def _str(error: BaseException) -> str:
    """Return the text of an exception; of a text or bytes in it only as much as is shown."""
    made_by = type(error).__str__
    if made_by is not BaseException.__str__ and made_by is not KeyError.__str__:
        return str(error)
    args = tuple(_shortened(each) for each in real(error, "args"))
    if len(args) != 1:
        return repr(args) if args else ""
    return repr(args[0]) if made_by is KeyError.__str__ else str(args[0])


def _shortened(value: Any) -> Any:
    """Return the beginning of a text or bytes; other values as they are."""
    if type(value) in (str, bytes, bytearray) and len(value) > ERROR_CHARS_MAX:
        return value[: ERROR_CHARS_MAX + 1]
    return value


def trace_of(error: BaseException, own: Collection[CodeType] = ()) -> str:
    """Return the stack trace of an exception as Python prints it, shortened.

    It is empty if it would say nothing but the exception's text.

    Args:
        own: the functions that call handlers; the trace begins below the last of them.
    """
    try:
        text = "".join(reversed([*_blocks(error, own)]))
        return (
            cut(_without_middle(text, TRACE_CHARS_MAX), TRACE_CHARS_MAX) if FRAMES in text else ""
        )
    except BaseException as other:
        return f"{text_of(error)}\n(its trace cannot be read: {name_of(type(other))})\n"


def chain_of(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield an exception and those that led to it, each with the words that lead on from there."""
    seen: set[int] = set()
    each: BaseException | None = error
    words = ""
    while each is not None and id(each) not in seen:
        yield each, words
        seen.add(id(each))
        words, cause = CAUSE, real(each, "__cause__")
        if cause is None and not real(each, "__suppress_context__"):
            words, cause = CONTEXT, real(each, "__context__")
        each = cause


def _blocks(error: BaseException, own: Collection[CodeType]) -> Iterator[str]:
    """Yield the trace of an exception, that of what led to it, and so on as long as they fit."""
    room = TRACE_CHARS_MAX
    for number, (each, words) in enumerate(chain_of(error)):
        block = _without_middle("".join(_pieces(each, own, GROUPS_MAX)), TRACE_CHARS_MAX)
        if words:
            block = f"{block}\n{words}\n\n"
        if len(block) > room or number == CHAIN_MAX:
            yield "(Exceptions before these are left out.)\n\n"
            return
        room -= len(block)
        yield block


def _without_middle(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    left_out = "\n  … cut …\n"
    head = chars_max // 3
    return f"{text[:head]}{left_out}{text[head + len(left_out) - chars_max :]}"


def _pieces(error: BaseException, own: Collection[CodeType], depth: int) -> Iterator[str]:
    """Yield the pieces of the trace of one exception, or of a group with its members."""
    yield from _frames(real(error, "__traceback__"), own)
    yield f"{text_of(error)}\n"
    yield from _notes(error)
    if issubclass(type(error), BaseExceptionGroup):
        yield from _members(error, own, depth)


def _frames(last: TracebackType | None, own: Collection[CodeType]) -> Iterator[str]:
    """Yield the lines of a stack, without the middle of a deep one."""
    first: list[tuple[FrameType, int]] = []
    rest: deque[tuple[FrameType, int]] = deque(maxlen=LAST_FRAMES)
    count = 0
    for frame, number in traceback.walk_tb(last):
        if frame.f_code in own:
            count = 0
            first.clear()
            rest.clear()
            continue
        if frame.f_code.co_filename.startswith(PASSING_ON):
            continue  # It passes a step on to a task that a handler started, or imports a module.
        count += 1
        (first if count <= FIRST_FRAMES else rest).append((frame, number))
    if not count:
        return
    yield FRAMES
    yield from _formatted(first)
    if count > len(first) + len(rest):
        yield f"  … {count - len(first) - len(rest)} frames are left out …\n"
    yield from _formatted(rest)


def _formatted(frames: Collection[tuple[FrameType, int]]) -> Iterator[str]:
    for frame in traceback.StackSummary.extract(iter(frames), lookup_lines=False):
        name, file = cut(frame.name, NAME_CHARS_MAX), cut(frame.filename, NAME_CHARS_MAX)
        yield f'  File "{file}", line {frame.lineno}, in {name}\n'
        if _can_be_read(frame.filename) and frame.line:
            yield f"    {cut(frame.line, LINE_CHARS_MAX)}\n"


def _can_be_read(file: str) -> bool:
    """Return False for what is no source, as a device, a pipe or a huge file: reading may not end.

    Code may have any file name. What is in no file, a loader may know.
    """
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size <= SOURCE_BYTES_MAX


def _notes(error: BaseException) -> Iterator[str]:
    try:
        for note in getattr(error, "__notes__", ())[:NOTES_MAX]:
            yield f"{cut(_shortened(note), ERROR_CHARS_MAX)}\n"
    except BaseException as other:
        yield f"(The other notes cannot be read: {name_of(type(other))}.)\n"


def _members(group: Any, own: Collection[CodeType], depth: int) -> Iterator[str]:
    """Yield the traces of the first exceptions in a group, indented, as far as there is room."""
    members = real(group, "exceptions", BaseExceptionGroup)
    shown = MEMBERS_MAX if depth else 0
    room = TRACE_CHARS_MAX // 2
    for number, each in enumerate(members[:shown], 1):
        text = "".join(_pieces(each, own, depth - 1))
        room -= len(text)
        if room < 0:
            shown = number - 1
            break
        yield f"  exception {number} of {len(members)}:\n"
        yield from (f"    {line}\n" for line in text.splitlines())
    if len(members) > shown:
        yield f"  (Exceptions shown: {shown} of {len(members)}.)\n"
