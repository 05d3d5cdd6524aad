"""Counts the items of a list or an object of JSON, as far as a bound, before it is decoded."""

from __future__ import annotations

import re
from collections.abc import Generator

from dte.wire.escapes import hiding

ITEMS_IN_SLICE, BYTES_IN_SLICE = 5_000, 200_000
EVENTS_IN_SLICE = 2_000
COUNTED_BYTES = 2_000_000

_space = rb"[ \t\n\r]*+"
_text = rb'"[^"]*+(?:"|\Z)'
"""Of JSON with hidden escapes, as all of these are."""
_flat = rb'(?:%b|\[[^][{}"]*+\]|\{[^][{}"]*+\}|[^][{}",\s]++)' % _text
_item = re.compile(
    rb"%b(?:%b%b:%b)?+(%b%b[],}])?+" % (_space, _text, _space, _space, _flat, _space), re.DOTALL
)
"""An item with the comma or the bracket behind it; of one that has more in it, only its name."""
_brackets = re.compile(
    rb'(?:%b|\[[^][{}"]*+\]|\{[^][{}"]*+\}|[^][{}"]++){0,100}+([\[{]++|[\]}]++)?+' % _text,
    re.DOTALL,
)
"""What matters not where a value ends, and what is behind: some brackets that open or close."""
_begin = re.compile(rb"%b[\[{]" % _space)
_end = re.compile(rb"%b[],}]" % _space)


def search_more(raw: bytes, most: int) -> Generator[None, None, bool]:
    """Return True if a list or an object of valid JSON has more items than a bound, in slices."""
    begun = _begin.match(raw)
    if begun is None or not (yield from _may_have(raw, most)):
        return False
    raw = yield from hiding(raw)
    at = sliced_at = begun.end()
    for count in range(most):
        if count % ITEMS_IN_SLICE == ITEMS_IN_SLICE - 1 or at - sliced_at > BYTES_IN_SLICE:
            sliced_at = at
            yield
        item = _item.match(raw, at)
        assert item is not None, "it matches nothing, too"
        at = item.end()
        if item[1] is None:
            after = _end.match(raw, (yield from _end_of_value(raw, at)))
            if after is None:
                return False
            at = after.end()
        if raw[at - 1] != ord(","):
            return False
    return True


def _may_have(raw: bytes, commas: int) -> Generator[None, None, bool]:
    """False if there are fewer commas, in texts too; to count millions takes 50 ms."""
    for start in range(0, len(raw), COUNTED_BYTES):
        if start:
            yield
        commas -= raw.count(b",", start, start + COUNTED_BYTES)
        if commas <= 0:
            return True
    return False


def _end_of_value(raw: bytes, start: int) -> Generator[None, None, int]:
    """Where the list or the object ends that begins at a place."""
    opened, sliced_at = 1, start
    for count, found in enumerate(_brackets.finditer(raw, start + 1)):
        if (
            count % EVENTS_IN_SLICE == EVENTS_IN_SLICE - 1
            or found.end() - sliced_at > BYTES_IN_SLICE
        ):
            sliced_at = found.end()
            yield
        run = found[1]
        if run is None:
            continue
        if run[:1] in b"[{":
            opened += len(run)
        elif len(run) >= opened:
            return found.start(1) + opened
        else:
            opened -= len(run)
    return len(raw)
