"""Cuts JSON where it refers to results of calls: ``{"ref": "a"}`` stands for the result of a.

``{"literal": X}`` stands for X, in which nothing is a reference. Neither object has another name.

In valid JSON, a brace before a name in quotes and a colon begins an object even if the brace looks
like a part of a text: a quote within a text is escaped. So a regular expression finds the marked
objects. Where one has more in it than a text or a number, its end is found by its brackets.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator
from dataclasses import dataclass, field

import msgspec

from dte.core.errors import TooLarge
from dte.core.graph.json_template import JsonTemplate

SLICE_BYTES = 200_000
CUTS_IN_SLICE = 2_000
EVENTS_IN_SLICE = 2_000

_SPACE = rb"[ \t\n\r]*+"
_COLON = rb"%b:%b" % (_SPACE, _SPACE)
_TEXT = rb'"(?:[^"\\]++|(?:\\.)++)*+(?:"|\\?\Z)'
"""A text. One that does not end is matched at once: to try at each quote in it takes hours."""
_SCALAR = rb'[^][{}",\s]++'
_REF = rb"(?:r|\\u0072)(?:e|\\u0065)(?:f|\\u0066)"
_LITERAL = (
    rb"(?:l|\\u006[cC])(?:i|\\u0069)(?:t|\\u0074)(?:e|\\u0065)(?:r|\\u0072)(?:a|\\u0061)"
    rb"(?:l|\\u006[cC])"
)
OTHER, REF, LITERAL = 0, 1, 3
"""Kinds of objects; the last two are groups of `_marked`, each before the group of its value."""
_marked = re.compile(
    rb'\{%b"(?:(%b)"%b(?:(%b)%b\})?+' % (_SPACE, _REF, _COLON, _TEXT, _SPACE)
    + rb'|(%b)"%b(?:(%b|%b)%b\})?+)' % (_LITERAL, _COLON, _TEXT, _SCALAR, _SPACE),
    re.DOTALL,
)
"""The beginning of a marked object, or the whole of one that has just a text or a number."""
_OTHER_NAME = rb',%b(?!"(?:%b|%b)"%b:)' % (_SPACE, _REF, _LITERAL, _SPACE)
_FLAT = rb'(?:%b|%b|\[[^][{}"]*+\])%b' % (_TEXT, _SCALAR, _SPACE)
_unmarked = {
    REF: re.compile(rb"%b(?:\}|%b)" % (_FLAT, _OTHER_NAME), re.DOTALL),
    LITERAL: re.compile(_FLAT + _OTHER_NAME, re.DOTALL),
}
"""What shows, where the value begins in what is not the whole of a marked object, that it is none.
"""
NAME, OBJECT, LIST, END = range(1, 5)
_event = re.compile(
    rb'(?:\[[^][{}"]*+\]|\{%b\}|[^][{}"]++|%b(?!%b:)){0,100}+' % (_SPACE, _TEXT, _SPACE)
    + rb"(?:(%b)%b|(\{)|(\[)|([]}]))?+" % (_TEXT, _COLON),
    re.DOTALL,
)
"""Some values without names and brackets of interest, and perhaps one of these."""
_name = re.compile(rb'"(?:(%b)|%b)"' % (_REF, _LITERAL))
_text = re.compile(_TEXT, re.DOTALL)
_last_text = re.compile(rb"%b%b\}" % (_TEXT, _SPACE), re.DOTALL)


def has_marks(raw: bytes) -> bool:
    """Return False if JSON has neither references nor literals."""
    return b'"ref"' in raw or b'"literal"' in raw or b"\\u" in raw


def template_of(raw: bytes, references_max: int) -> Generator[None, None, JsonTemplate | None]:
    """Cut valid JSON at its references, in slices.

    Where an object has a name twice, references in the first of both values may count.

    Returns:
        None if there is nothing to cut.

    Raises:
        TooLarge: there are more references than the bound.
        ValueError: a name in a reference is not UTF-8.
    """
    cuts = _Cuts(raw)
    at = 0
    while at < len(raw):
        end = raw.find(b"{", at + SLICE_BYTES)  # So no beginning of an object is missed there.
        at = yield from _cut_some(cuts, at, end if end >= 0 else len(raw))
        yield
    return (yield from cuts.template(references_max)) if cuts.starts else None


def _offsets() -> array[int]:
    return array("Q")


@dataclass(slots=True)
class _Cuts:
    """The parts that are cut out of JSON, in their order.

    Attributes:
        starts, ends: where each part begins and ends.
        named: where the name begins, in quotes, of the call whose result goes there; 0 for nothing.
    """

    raw: bytes
    starts: array[int] = field(default_factory=_offsets)
    ends: array[int] = field(default_factory=_offsets)
    named: array[int] = field(default_factory=_offsets)

    def add(self, kind: int, start: int, value: int, end: int) -> None:
        """Cut a marked object, given where it begins, where its value begins, where it ends."""
        if kind == REF:
            self._cut(start, end, value)
        else:
            self._cut(start, value, 0)
            self._cut(end - 1, end, 0)

    def _cut(self, start: int, end: int, named: int) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.named.append(named)

    def shorten(self, count: int) -> None:
        """Forget all but the first parts."""
        for each in (self.starts, self.ends, self.named):
            del each[count:]

    def template(self, references_max: int) -> Generator[None, None, JsonTemplate]:
        """The JSON without the parts, with gaps for results."""
        raw, text = self.raw, bytearray()
        gaps, sources = array("I"), array("I")
        indexes: dict[str, int] = {}
        at = 0
        for count, start in enumerate(self.starts):
            if count % CUTS_IN_SLICE == CUTS_IN_SLICE - 1:
                yield
            text += raw[at:start]
            at = self.ends[count]
            if self.named[count]:
                name = _text.match(raw, self.named[count])[0]  # type: ignore[index]
                gaps.append(len(text))
                sources.append(indexes.setdefault(_decoded(name), len(indexes)))
        if len(gaps) > references_max:
            raise TooLarge(f"too many references in a call: {len(gaps)} > {references_max}")
        yield
        text += raw[at:]
        return JsonTemplate(bytes(text), tuple(indexes), gaps, sources)


def _cut_some(cuts: _Cuts, at: int, end: int) -> Generator[None, None, int]:
    """Cut the marked objects that begin in a part of the JSON; return where to go on."""
    raw = cuts.raw
    for count, found in enumerate(_marked.finditer(raw, at, end)):
        if count % CUTS_IN_SLICE == CUTS_IN_SLICE - 1:
            yield
        marked, kind = found, found.lastindex
        if kind in (REF, LITERAL):  # Its value may only seem to be longer as the part ends.
            marked = _marked.match(raw, found.start())  # type: ignore[assignment]
            kind = marked.lastindex
        assert kind is not None
        if kind not in (REF, LITERAL):
            cuts.add(kind - 1, marked.start(), marked.start(kind), marked.end())
            if marked.end() > end:
                return marked.end()
        elif _unmarked[kind].match(raw, marked.end()) is None:
            return (yield from _cut_object(cuts, marked.start()))
    return end


@dataclass(slots=True)
class _Object:
    """An object that has not ended.

    Attributes:
        cuts: how many parts were cut before it.
        kind: what it is by its names so far; None before the first.
        value: where its last value begins.
    """

    start: int
    cuts: int
    kind: int | None = None
    value: int = 0


def _cut_object(cuts: _Cuts, start: int) -> Generator[None, None, int]:
    """Cut the object that begins at a place, and those in it; return where it ends."""
    raw = cuts.raw
    opened: list[_Object | None] = []
    sliced_at = start
    for count, event in enumerate(_event.finditer(raw, start)):
        if count % EVENTS_IN_SLICE == EVENTS_IN_SLICE - 1 or event.end() > sliced_at + SLICE_BYTES:
            sliced_at = event.end()
            yield
        what = event.lastindex
        if what == NAME:
            within = opened[-1]
            assert within is not None, "lists have no names"
            kind = _kind(event[NAME])
            if kind == within.kind != OTHER:  # Given twice: the first value does not count.
                cuts.shorten(within.cuts)
            within.kind = kind if within.kind in (None, kind) else OTHER
            within.value = event.end()
        elif what == OBJECT:
            opened.append(_Object(event.start(OBJECT), len(cuts.starts)))
        elif what == LIST:
            opened.append(None)
        elif what == END:
            ended = opened.pop()
            end = event.end()
            kind = OTHER if ended is None else _kind_of(raw, ended)
            if ended is not None and kind != OTHER:
                cuts.shorten(ended.cuts)
                cuts.add(kind, ended.start, ended.value, end)
            if not opened:
                return end
    return len(raw)


def _kind(name: bytes) -> int:
    """The kind of an object by one of its names, which is given with its quotes."""
    marked = _name.fullmatch(name)
    if marked is None:
        return OTHER
    return REF if marked[1] else LITERAL


def _kind_of(raw: bytes, ended: _Object) -> int:
    """The kind of an object that has ended: a reference's last value is a text."""
    if ended.kind == REF and _last_text.match(raw, ended.value) is None:
        return OTHER
    return ended.kind or OTHER


def _decoded(name: bytes) -> str:
    """The text of a name that is given with its quotes."""
    text: str = msgspec.json.decode(name, type=str) if b"\\" in name else name[1:-1].decode()
    return text
