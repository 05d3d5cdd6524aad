"""Says of a page by itself of which table it is.

A disk may write a page at the place of another one. So what leads to a page is a claim, and the
number and the types of the fields in its rows are the evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dte.master.salvage.pages import Pages
from dte.master.salvage.records import INNER, OF_TABLES, TABLE_INNER, Damaged, Page, Row
from dte.master.salvage.tables import Table, table_of_all

LEVELS_MAX = 30
"""A tree has fewer."""
Key = Any
"""The id of a row, or the first fields of a row of an index. Keys of one table can be compared."""


@dataclass(frozen=True, slots=True)
class Content:
    """A page.

    Attributes:
        table: the one of most of the rows, or of most of the pages below; None if nobody knows.
        lowest, middle, highest: three of the keys; None if there are none.
        rows: how many there are.
        rows_damaged: those of them that are not of that table.
        chained: the pages in which rows go on.
        below: the pages below an inner page.
        limits: the keys between these, if they rise.
    """

    kind: int
    table: Table | None
    lowest: Key = None
    middle: Key = None
    highest: Key = None
    rows: int = 0
    rows_damaged: int = 0
    chained: frozenset[int] = frozenset()
    below: Sequence[int] = ()
    limits: Sequence[Key] = ()

    @property
    def is_inner(self) -> bool:
        return self.kind in INNER

    def can_be_of(self, table: Table) -> bool:
        """False if it is surely of another table."""
        return (self.kind in OF_TABLES) != table.is_index and self.table in (None, table)

    def is_between(self, low: Key, high: Key) -> bool:
        """False if most of the rows have keys that are out of a range; None is no limit."""
        if self.middle is None:
            return True
        return (low is None or self.middle >= low) and (high is None or self.middle <= high)


def key_of(row: Row) -> Key:
    """The key of a row: its id, or its first fields in an index."""
    if row.id is not None:
        return row.id
    return tuple(
        each.decode(errors="replace") if isinstance(each, bytes) else each
        for each in row.fields[:2]
    )


@dataclass
class Contents:
    """The contents of pages, each of which is read once."""

    pages: Pages
    _known: dict[int, Content | None] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)

    def of(self, number: int, expected: Table | None = None) -> Content | None:
        """The content of a page; None if that is no page of a table or of an index.

        Args:
            expected: the table of which it probably is.
        """
        if number not in self._known:
            try:
                page = Page(self.pages, number)
            except Damaged:
                self._known[number] = None
            else:
                self._known[number] = self._read(number, page, expected)
        return self._known[number]

    def _read(self, number: int, page: Page, expected: Table | None) -> Content:
        if page.kind == TABLE_INNER:
            below, limits = page.children(), page.keys()
            table = self._of_most(number, below, expected)
            middle = sorted(limits)[len(limits) // 2] if limits else None
            return Content(page.kind, table, middle=middle, below=below, limits=_rising(limits))
        rows = list(page.rows())
        whole = [row for row in rows if row is not None]
        table = expected
        if expected is None or 2 * sum(expected.values(row) is not None for row in whole) <= len(
            rows
        ):
            table = table_of_all(whole)
        below = page.children() if page.kind in INNER else []
        chained = frozenset(page.chained)
        if table is None:
            return Content(page.kind, None, rows=len(rows), chained=chained, below=below)
        fitting = [row for row in whole if table.values(row) is not None]
        keys = [key_of(row) for row in fitting]
        rising = _rising(keys)
        limits = rising if page.kind in INNER and len(keys) == len(rows) else []
        damaged = len(rows) - len(fitting) + (rising != keys)
        keys.sort()
        return Content(
            page.kind,
            table,
            keys[0],
            keys[len(keys) // 2],
            keys[-1],
            len(rows),
            damaged,
            chained,
            below,
            limits,
        )

    def _of_most(self, number: int, below: Sequence[int], expected: Table | None) -> Table | None:
        """The table of most of the pages below an inner page."""
        if number in self._open or len(self._open) >= LEVELS_MAX:
            return None
        self._open.add(number)
        found = Counter[str]()
        tables: dict[str, Table] = {}
        for each in {*below}:
            content = self.of(each, expected) if 2 <= each <= self.pages.count else None
            if content is not None and content.table is not None:
                tables[content.table.name] = content.table
                found[content.table.name] += 1
        self._open.discard(number)
        return tables[found.most_common(1)[0][0]] if found else None


def _rising(keys: list[Key]) -> list[Key]:
    """Keys of an inner page, or none if some of them are damaged."""
    return keys if all(one < other for one, other in pairwise(keys)) else []
