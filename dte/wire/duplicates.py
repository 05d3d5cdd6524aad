"""Finds a name that an object of JSON has twice. JSON readers silently keep one of its values."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from dte.wire.escapes import hiding, shown

TWICE = "is given twice"
PIECE_BYTES = 200_000
"""Longer JSON is checked in pieces, each in a slice of its own."""
NAMES_MAX = 100_000
"""An object that may have more names is read in slices."""
LEVELS_MAX = 100
"""Long values that are nested deeper are read in slices."""
NAME_CHARS_SHOWN = 50
TOKENS_IN_SLICE = 5_000
NAMES_FREED_IN_SLICE = 50_000

_any = msgspec.json.Decoder()
_level = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_escaped_colon = re.compile(rb"\\u003[aA]")
_token = re.compile(rb'"([^"]*+)(?:"(\s*+:)?|\Z)|[][{},]')
"""A text, with a colon if it is a name, or a mark; of JSON with hidden escapes."""


class Duplicate(NamedTuple):
    """A name that an object has twice.

    Attributes:
        path: the names and indexes that lead to the object.
    """

    path: tuple[str | int, ...]
    name: str

    def __str__(self) -> str:
        name = json.dumps(self.name[:NAME_CHARS_SHOWN], ensure_ascii=False)
        place = f" in {_shown(self.path)}" if self.path else ""
        return f"{name} {TWICE}{place}"


def find_duplicate(raw: bytes, depth: int = sys.maxsize) -> Duplicate | None:
    """Return the first name in valid JSON that is given twice in its object, or None.

    Args:
        depth: objects and lists within more than this number of others may have duplicates.
    """
    if len(raw) <= PIECE_BYTES and not _may_have_duplicate(raw):
        return None
    search = search_duplicate(raw, depth)
    while True:
        try:
            next(search)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def search_duplicate(
    raw: bytes, depth: int = sys.maxsize
) -> Generator[None, None, Duplicate | None]:
    """Search like `find_duplicate`, in slices."""
    if (yield from _some_may([raw], 0, depth)):
        return (yield from _read(raw, depth))
    return None


def _some_may(
    values: Iterable[bytes | msgspec.Raw], level: int, depth: int
) -> Generator[None, None, bool]:
    """Return False if no value has a duplicate; `level` is the number of lists around them."""
    small: list[bytes] = []
    size = 0
    for value in values:
        piece = bytes(value)
        if len(piece) <= PIECE_BYTES:
            small.append(piece)
            size += len(piece) + 1
        elif level < depth and piece.count(b":") > 1 and piece.lstrip()[:1] in b"{[":
            yield
            parts = (yield from _parts(piece)) if level < LEVELS_MAX else None
            yield
            if parts is None or (yield from _some_may(parts, level + 1, depth)):
                return True
        if size > PIECE_BYTES:
            if _may_have_duplicate(_list_of(small)):
                return True
            small, size = [], 0
            yield
    return _may_have_duplicate(_list_of(small))


def _list_of(values: Sequence[bytes]) -> bytes:
    return values[0] if len(values) == 1 else b"[%s]" % b",".join(values)


def _may_have_duplicate(raw: bytes) -> bool:
    """Return False if JSON has no duplicate; True if it has one, or cannot be read like this.

    Writing what was read keeps each colon, whether it is after a name or in a text, except the
    colon after a name that was given twice. To look at each name would take ten times as long.
    """
    colons = raw.count(b":")
    if colons < 2:
        return False
    if b"\\u003" in raw and _escaped_colon.search(raw):
        return True
    try:
        return colons != _encode(_any.decode(raw)).count(b":")
    except (ValueError, RecursionError):
        return True


def _parts(raw: bytes) -> Generator[None, None, Collection[msgspec.Raw] | None]:
    """Return the values in an object or a list; None if it may have a duplicate itself."""
    colons = raw.count(b":")
    is_list = raw.lstrip()[:1] == b"["
    if not is_list and (colons > NAMES_MAX or (b"\\u003" in raw and _escaped_colon.search(raw))):
        return None
    yield
    try:
        level = _level.decode(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(level, list):
        return level
    yield
    if colons != _encode(level).count(b":"):
        return None
    return level.values()


@dataclass(slots=True)
class _Opened:
    """An object or a list that has not ended.

    Attributes:
        place: the name or the index that was read last.
    """

    place: str | int
    names: set[str] = field(default_factory=set)


def _read(raw: bytes, depth: int) -> Generator[None, None, Duplicate | None]:
    """Find the first duplicate by a look at each token."""
    opened: list[_Opened] = []
    since = 0
    for count, token in enumerate(_token.finditer((yield from hiding(raw)))):
        if count % TOKENS_IN_SLICE == TOKENS_IN_SLICE - 1 or token.end() > since + PIECE_BYTES:
            since = token.end()
            yield
        mark = token[0]
        if token[2] is not None:
            within = opened[-1]
            within.place = _text(shown(token[1]))
            if within.place in within.names and len(opened) <= depth:
                return Duplicate(tuple(each.place for each in opened[:-1]), within.place)
            within.names.add(within.place)
        elif mark in (b"{", b"["):
            opened.append(_Opened("" if mark == b"{" else 0))
        elif mark in (b"}", b"]"):
            yield from _freed(opened.pop().names)
        elif mark == b"," and isinstance(opened[-1].place, int):
            opened[-1].place += 1
    return None


def _freed(names: set[str]) -> Generator[None, None, None]:
    """Free names, many in slices."""
    while len(names) > NAMES_FREED_IN_SLICE:
        for _ in range(NAMES_FREED_IN_SLICE):
            names.pop()
        yield


def _text(quoted: bytes) -> str:
    """Return the text of a JSON string, given without its quotes."""
    try:
        return str(json.loads(b'"%s"' % quoted)) if b"\\" in quoted else quoted.decode()
    except ValueError:
        return quoted.decode(errors="replace")


def _shown(path: Sequence[str | int]) -> str:
    """Return a path as people write it: ``graph.a.args[0]``."""
    shown = ""
    for step in path:
        if isinstance(step, str) and step.isidentifier():
            shown += f".{step}" if shown else step
        else:
            shown += f"[{json.dumps(step, ensure_ascii=False)}]"
    return shown
