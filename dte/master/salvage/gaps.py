"""Finds the jobs of whose calls records may be lost.

In the tree of calls, one row of an inner page stands between each two leaves. Where that is not
so, something is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from math import inf

from dte.master.salvage.pages import Pages
from dte.master.salvage.records import INNER, Damaged, Page
from dte.master.salvage.survey import Found

Gap = tuple[float, float]
"""The first and the last job that may have had a call there."""
Place = tuple[tuple[int, str], int, int, bool]
"""A leaf, or a row between two leaves: its first key, its first and last job; True for a leaf."""


def gaps_of_calls(pages: Pages, found: Found) -> list[Gap]:
    """The ranges of jobs of whose calls records may be lost."""
    if found.is_whole:
        return []
    places: list[Place] = []
    gaps: list[Gap] = []
    for number in found.pages:
        if number in found.outdated:
            continue
        with suppress(Damaged):
            for place, is_whole in _places(Page(pages, number), found):
                places.append(place)
                if not is_whole:
                    gaps.append(place[1:3])
    if not places:
        return [(-inf, inf)]
    places.sort()
    for one, other in pairwise(places):
        if one[3] == other[3]:
            gaps.append((one[2], other[1]))
    # Where an inner page is lost, so may be the first leaf or the last one.
    is_lost = found.strays or not found.rooted
    if is_lost or not places[0][3]:
        gaps.append((-inf, places[0][2]))
    if is_lost or not places[-1][3]:
        gaps.append((places[-1][1], inf))
    return gaps


def _places(page: Page, found: Found) -> Iterator[tuple[Place, bool]]:
    """The places of a page, each with True if nothing on it is damaged."""
    keys: list[tuple[int, str]] = []
    is_whole = True
    for row in page.rows():
        values = None if row is None else found.table.values(row)
        if values is None:
            is_whole = False
        else:
            keys.append((int(values[0] or 0), str(values[1])))
    if page.kind in INNER:
        yield from (((key, key[0], key[0], False), True) for key in keys)
    elif keys:
        yield (keys[0], keys[0][0], keys[-1][0], True), is_whole
