"""Finds the rows of a journal, also those whose place in the file is lost.

The catalogue of a file gives the root of each table, and pages of a tree give the pages below. A
page counts where its content fits. A damaged page hides all below it, and one that was written at
a wrong place is two damages, so all pages to which nothing leads are found by their contents. A
free page has old rows, so it is left out, if the list of free pages is whole; otherwise rows from
pages to which nothing leads are uncertain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from dte.master.salvage.content import Content, Contents, Key
from dte.master.salvage.free import FreePages
from dte.master.salvage.pages import Pages
from dte.master.salvage.records import TABLE_INNER, Damaged, Page, Row
from dte.master.salvage.tables import CATALOGUE, KEYS, NUMBERS, Table, tables

INDEX_OF_ENDED = "sqlite_autoindex_ended_1"
LOCKED_AT = 0x4000_0000
"""The page with this byte has nothing: SQLite locks bytes in it."""


@dataclass
class Found:
    """The pages of a table.

    Attributes:
        pages: those with rows.
        uncertain: those of them that may be free.
        outdated: those of them that are older versions, as the last ones are damaged.
        damaged: places of the table where a page of it should be and is not.
        holes: the lowest and the highest keys that were at these places; None is no limit.
        rows_damaged: rows that cannot be read, on the pages that can.
        root: the page by which the table was found; 0 if nothing leads to it.
        strays: nothing leads to some of the pages, so an inner page is lost.
        all_known: no page of the file is left that may have been one of them.
    """

    table: Table
    pages: list[int] = field(default_factory=list)
    uncertain: list[int] = field(default_factory=list)
    outdated: set[int] = field(default_factory=set)
    damaged: list[int] = field(default_factory=list)
    holes: set[tuple[Key, Key]] = field(default_factory=set)
    rows_damaged: int = 0
    root: int = 0
    strays: bool = False
    all_known: bool = False

    @property
    def rooted(self) -> bool:
        return self.root > 0

    @property
    def is_whole(self) -> bool:
        return self.rooted and not self.damaged and not self.rows_damaged

    def damage(self, number: int, low: Key = None, high: Key = None) -> None:
        """Note a damaged page, and the range of the keys that were there or below it."""
        if number not in self.damaged:
            self.damaged.append(number)
        self.holes.add((low, high))


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a tree: the page that is there, the one above, and the range of its keys."""

    number: int
    above: int
    low: Key = None
    high: Key = None


class Survey:
    """The tables of a journal, each with its pages.

    Attributes:
        found: the tables by name, the catalogue and the index of ended jobs among them.
        indexes: the other indexes, by the names of their tables.
        free_damaged: the list of free pages is damaged.
        catalogue: type, name, table and SQL of everything that the catalogue has.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._contents = Contents(pages)
        self._seen: set[int] = set()
        self._unfit: list[tuple[_Place, Found]] = []
        self._spans: dict[str, set[tuple[Key, Key]]] = {}
        self.found = {each.name: Found(each) for each in (CATALOGUE, NUMBERS, *tables().values())}
        self.indexes: dict[str, Found] = {}
        self.catalogue: list[tuple[str, str, str, str | None]] = []
        self._walk(1, self.found[CATALOGUE.name])
        self._free = FreePages(pages)
        self.free_damaged = not self._free.is_whole
        if self.free_damaged:
            self._free.find_more(self._seen)
        if (
            self._unfit or not self.found[CATALOGUE.name].is_whole
        ):  # Its lost pages have roots of others.
            self._take_strays(CATALOGUE)
        for found, root in self._roots():
            self._walk(root, found)
        self._blame()
        self._take_strays()

    @property
    def damaged(self) -> list[int]:
        """The pages that cannot be read, or are not what they should be."""
        return sorted({number for each in self.found.values() for number in each.damaged})

    def rows(self, name: str, *, uncertain: bool = False) -> Iterator[Row]:
        """The rows of a table that can be read, from the pages that are in use, or may be free."""
        found = self.found[name]
        for number in found.uncertain if uncertain else found.pages:
            with suppress(Damaged):
                for row in Page(self._pages, number).rows():
                    if row is not None and found.table.values(row) is not None:
                        yield row

    def has_all(self, name: str) -> bool:
        """True if no row of a table is lost, as damaged pages of it only led to others."""
        found = self.found[name]
        if found.is_whole:
            return True
        if found.rows_damaged or found.outdated or not found.all_known:
            return False
        if found.table.is_index and found.damaged:  # Pages that lead to others have rows, too.
            return False
        middles = [one.middle for one in map(self._contents.of, found.pages) if one is not None]
        return all(
            any(
                (low is None or middle > low) and (high is None or middle <= high)
                for middle in middles
                if middle is not None
            )
            for low, high in found.holes
        )

    # Trees

    def _roots(self) -> Iterator[tuple[Found, int]]:
        """The roots of the tables and indexes that the catalogue has."""
        for row in self.rows(CATALOGUE.name):
            kind, name, of, root, sql = row.fields
            assert isinstance(root, int)
            self.catalogue.append((str(kind), str(name), str(of), sql if sql is None else str(sql)))
            if not 2 <= root <= self._pages.count:
                continue
            if kind == "table" and name in tables():
                yield self.found[str(name)], root
            elif kind == "index" and name == INDEX_OF_ENDED:
                yield self.found[NUMBERS.name], root
            elif kind == "index" and of in tables():
                yield self.indexes.setdefault(str(of), Found(KEYS)), root

    def _walk(self, root: int, found: Found) -> None:
        """Find the pages of a table from its root."""
        found.root = root
        waiting = [_Place(root, root)]
        while waiting:
            place = waiting.pop()
            number = place.number
            if number in self._seen or not 1 <= number <= self._pages.count:
                is_cut_off = self._pages.count < number <= self._pages.count_once
                bad = number if is_cut_off else place.above
                found.damage(bad, place.low, place.high)
                continue
            content = self._contents.of(number, found.table)
            if content is None or not content.can_be_of(found.table):
                self._unfit.append((place, found))
                continue
            is_empty = not content.rows and not content.is_inner and number not in (1, root)
            if is_empty or not content.is_between(place.low, place.high):
                self._unfit.append((place, found))
                continue
            self._seen.add(number)
            if number in self._pages.log_damaged:
                found.damage(number, place.low, place.high)
                found.outdated.add(number)
            waiting += reversed(_below(place, content))
            self._take(number, content, found)

    def _take(self, number: int, content: Content, found: Found) -> None:
        """Note a page of a table, and the pages in which its rows go on."""
        self._seen |= content.chained
        if content.kind != TABLE_INNER:
            found.pages.append(number)
            found.rows_damaged += (
                content.rows_damaged if content.table is found.table else content.rows
            )

    def _blame(self) -> None:
        """Note damage where the content of a page did not fit its place."""
        for place, found in self._unfit:
            # A page that has a place of its own is led to by a damaged one.
            bad = place.above if place.number in self._seen else place.number
            found.damage(bad, place.low, place.high)

    # What no tree leads to

    def _take_strays(self, only: Table | None = None) -> None:
        """Find pages to which nothing leads, by what is on them."""
        strays: list[tuple[int, Content]] = []
        others: list[int] = []
        for number in range(2, self._pages.count + 1):
            if number in self._seen or number in self._free.numbers:
                continue
            content = self._contents.of(number, only)
            if content is None or content.table is None:
                others.append(number)
            elif only in (None, content.table) and content.kind != TABLE_INNER:
                strays.append((number, content))
        self._seen |= {number for number, _ in strays}
        for _, content in strays:
            self._seen |= content.chained
        is_certain = only is not None or not self._may_be_free(strays, others)
        all_known = is_certain and not self._may_be_lost(strays, others)
        for number, content in strays:
            assert content.table is not None
            found = self.found.get(content.table.name)
            if found is not None:
                self._take_stray(number, content, found, is_certain=is_certain)
        for found in self.found.values():
            found.all_known = all_known

    def _take_stray(self, number: int, content: Content, found: Found, *, is_certain: bool) -> None:
        was_reached = any(place.number == number and of is found for place, of in self._unfit)
        if is_certain:
            if not was_reached and not self._is_copy(content, found):
                found.strays = True
                if found.is_whole:  # A smaller tree of the same table stands in its place.
                    found.damage(found.root)
            self._take(number, content, found)
            return
        found.strays = True
        found.uncertain.append(number)
        if found.is_whole and len(found.pages) < 2:
            found.damage(found.root)

    def _is_copy(self, content: Content, found: Found) -> bool:
        """True for a page of which another one with the same keys has a place in the tree."""
        if found.table.name not in self._spans:
            each = (self._contents.of(number) for number in found.pages)
            spans = {(one.lowest, one.highest) for one in each if one is not None}
            self._spans[found.table.name] = spans
        return (content.lowest, content.highest) in self._spans[found.table.name]

    def _may_be_free(self, strays: list[tuple[int, Content]], others: list[int]) -> bool:
        """True if pages to which nothing leads may be free.

        Without the header, the list of free pages is whole if no page is left that may have been
        of the list.
        """
        if self._free.missing is not None:
            return self._free.missing != 0
        return self._may_be_lost(strays, others)

    def _may_be_lost(self, strays: list[tuple[int, Content]], others: list[int]) -> bool:
        """True if a page may be lost of which nobody knows what it was."""
        locked = LOCKED_AT // self._pages.page_bytes + 1
        reached = {place.number for place, _ in self._unfit}
        if self._pages.cut is not None or any(
            number not in self._seen and number not in reached and number != locked
            for number in others
        ):
            return True
        return any(
            number not in reached and self._is_copy(content, self.found[content.table.name])
            for number, content in strays
            if content.table is not None and content.table.name in self.found
        )


def _below(place: _Place, content: Content) -> list[_Place]:
    """The places below an inner page."""
    limits = content.limits
    if len(limits) != len(content.below) - 1:
        return [_Place(each, place.number, place.low, place.high) for each in content.below]
    lows, highs = [place.low, *limits], [*limits, place.high]
    return [
        _Place(each, place.number, low, high)
        for each, low, high in zip(content.below, lows, highs, strict=True)
    ]
