"""Finds the jobs of whose calls records may be lost.

In the tree of calls, one row of an inner page stands between each two leaves. Where that is not
so, something is missing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from math import inf
from typing import NamedTuple

from dte.master.salvage.content import Key
from dte.master.salvage.pages import Pages
from dte.master.salvage.records import INNER, Damaged, Page
from dte.master.salvage.survey import Found

Gap = tuple[float, float]
"""The first and the last job that may have had a call there."""


class Place(NamedTuple):
    """A leaf, or a row between two leaves.

    Attributes:
        key: the first one.
        first, last: the jobs of its first and of its last call.
        is_whole: no row of a leaf is damaged.
    """

    key: tuple[int, str]
    first: int
    last: int
    is_leaf: bool
    is_whole: bool


def gaps_of_calls(pages: Pages, found: Found) -> list[Gap]:
    """The ranges of jobs of whose calls records may be lost."""
    if found.is_whole:
        return []
    places: list[Place] = []
    for number in found.pages:
        if number in found.outdated:
            continue
        with suppress(Damaged):
            places += _places(Page(pages, number), found)
    if not places:
        return [(-inf, inf)]
    places = sorted({*places})
    gaps: list[Gap] = []
    for one, other in pairwise(places):
        if one.is_leaf == other.is_leaf:
            gaps.append((one.last, other.first))
    befores = [-inf, *(each.last for each in places)]
    afters = [*(each.first for each in places[1:]), inf]
    for place, before, after in zip(places, befores, afters, strict=False):
        if not place.is_whole:  # Its first and its last rows may be lost, too.
            gaps.append((before, after))
    holes = {*found.holes} | (set() if found.rooted else {(None, None)})
    keys = [place.key for place in places]
    for low, high in holes:
        gaps += _around(places, keys, low, high, found.all_known)
    return gaps


def _around(
    places: Sequence[Place], keys: Sequence[Key], low: Key, high: Key, all_known: bool
) -> Iterator[Gap]:
    """The gaps in a range of keys where a page is damaged, and what was below it.

    If that was an inner page, leaves of it may stand. Those at its edges are lost if they are
    not beside the keys that limit it. That cannot be seen unless all pages are known.
    """
    first = 0 if low is None else bisect_right(keys, low)
    end = len(keys) if high is None else bisect_left(keys, high)
    begin_at, end_at = -inf if low is None else low[0], inf if high is None else high[0]
    if first >= end:
        yield begin_at, end_at
        return
    if not (all_known and places[first].is_leaf):
        yield begin_at, places[first].first
    if not (all_known and places[end - 1].is_leaf):
        yield places[end - 1].last, end_at


def _places(page: Page, found: Found) -> Iterator[Place]:
    keys: list[tuple[int, str]] = []
    is_whole = True
    for row in page.rows():
        values = None if row is None else found.table.values(row)
        if values is None:
            is_whole = False
        else:
            keys.append((int(values[0] or 0), str(values[1])))
    is_whole = is_whole and all(one < other for one, other in pairwise(keys))
    keys.sort()
    if page.kind in INNER:
        yield from (Place(key, key[0], key[0], is_leaf=False, is_whole=True) for key in keys)
    elif keys:
        yield Place(keys[0], keys[0][0], keys[-1][0], is_leaf=True, is_whole=is_whole)
