"""Finds the rows of a journal, also those whose place in the file is lost.

The catalogue of a file gives the root of each table, and pages of a tree give the pages below. A
damaged page hides all below it, so the other pages are looked at one by one. A free page has old
rows, so it is left out, if the list of free pages is whole; otherwise rows from pages to which
nothing leads are uncertain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from dte.master.salvage.pages import Pages
from dte.master.salvage.records import INNER, OF_TABLES, TABLE_INNER, Damaged, Page, Row
from dte.master.salvage.tables import CATALOGUE, NUMBERS, Table, table_of_all, tables

TABLE_ROOTS = {("table", name): name for name in tables()}
INDEX_OF_ENDED = "sqlite_autoindex_ended_1"


@dataclass
class Found:
    """The pages of a table.

    Attributes:
        pages: those with rows.
        uncertain: those of them that may be free.
        damaged: pages of the table that cannot be read.
        rows_damaged: rows that cannot be read, on the pages that can.
        rooted: the root of the table is known.
        strays: nothing leads to some of the pages, so an inner page is lost.
    """

    table: Table
    pages: list[int] = field(default_factory=list)
    uncertain: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    rows_damaged: int = 0
    rooted: bool = False
    strays: bool = False

    @property
    def is_whole(self) -> bool:
        return self.rooted and not self.damaged and not self.rows_damaged


class Survey:
    """The tables of a journal, each with its pages.

    Attributes:
        found: the tables by name, the catalogue and the index of ended jobs among them.
        free_damaged: the list of free pages is damaged.
        catalogue: type, name, table and SQL of everything that the catalogue has.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._seen: set[int] = set()
        self.found = {each.name: Found(each) for each in (CATALOGUE, NUMBERS, *tables().values())}
        self.catalogue: list[tuple[str, str, str, str | None]] = []
        self._walk(1, self.found[CATALOGUE.name])
        free = self._free()
        self.free_damaged = len(free) != pages.header_number(36) or pages.header is None
        if self.free_damaged:
            free |= self._free_by_looks(free)
        self._free_pages = free
        # The catalogue first: its lost pages have roots of others.
        self._look_at_the_others(only=CATALOGUE)
        for name, root in self._roots():
            self._walk(root, self.found[name])
        if any(not each.is_whole for each in self.found.values()):
            self._look_at_the_others()

    @property
    def damaged(self) -> list[int]:
        """The pages that cannot be read."""
        return sorted({number for each in self.found.values() for number in each.damaged})

    def rows(self, name: str, *, uncertain: bool = False) -> Iterator[Row]:
        """The rows of a table that can be read, from the pages that are in use, or may be free."""
        found = self.found[name]
        for number in found.uncertain if uncertain else found.pages:
            with suppress(Damaged):
                for row in Page(self._pages, number).rows():
                    if row is not None and found.table.values(row) is not None:
                        yield row
                    elif not uncertain:
                        found.rows_damaged += 1

    def _roots(self) -> Iterator[tuple[str, int]]:
        """The roots of the tables that the catalogue has."""
        self.found[CATALOGUE.name].rows_damaged = 0
        for row in self.rows(CATALOGUE.name):
            kind, name, of, root, sql = row.fields
            assert isinstance(root, int)
            self.catalogue.append((str(kind), str(name), str(of), sql if sql is None else str(sql)))
            known = TABLE_ROOTS.get((str(kind), str(name)))
            if name == INDEX_OF_ENDED and kind == "index":
                known = NUMBERS.name
            if known is not None and 2 <= root <= self._pages.count:
                yield known, root

    def _walk(self, root: int, found: Found) -> None:
        """Find the pages of a table from its root."""
        found.rooted = True
        waiting = [(root, root)]
        while waiting:
            number, above = waiting.pop()
            if number in self._seen or not 1 <= number <= self._pages.count:
                is_cut_off = self._pages.count < number <= self._pages.count_once
                found.damaged.append(number if is_cut_off else above)
                continue
            self._seen.add(number)
            try:
                page = Page(self._pages, number)
            except Damaged:
                found.damaged.append(number)
                continue
            if page.kind in OF_TABLES if found.table.is_index else page.kind not in OF_TABLES:
                found.damaged.append(number)
                continue
            if number in self._pages.log_damaged:
                found.damaged.append(number)  # This is an older version of it.
            if page.kind in INNER:
                waiting += ((below, number) for below in reversed(page.children()))
            self._take(number, page, found)

    def _take(self, number: int, page: Page, found: Found, *, uncertain: bool = False) -> None:
        """Note a page of a table, and the pages in which its rows go on."""
        if page.kind == TABLE_INNER:
            return
        rows = list(page.rows())
        self._seen |= page.chained
        if uncertain:
            found.uncertain.append(number)
            return
        found.pages.append(number)
        found.rows_damaged += sum(
            1 for row in rows if row is None or found.table.values(row) is None
        )

    # What no tree leads to

    def _look_at_the_others(self, only: Table | None = None) -> None:
        """Find tables' pages to which nothing leads, by what is on them."""
        for number in range(2, self._pages.count + 1):
            if number in self._seen or number in self._free_pages:
                continue
            with suppress(Damaged):
                page = Page(self._pages, number)
                rows = [row for row in page.rows() if row is not None]
                table = table_of_all(rows) if rows else None
                if table is None or (only is not None and table is not only):
                    continue
                self._seen.add(number)
                self.found[table.name].strays = True
                uncertain = self.free_damaged and table is not CATALOGUE
                self._take(number, page, self.found[table.name], uncertain=uncertain)

    def _free(self) -> set[int]:
        """The free pages, as far as their list can be followed."""
        free: set[int] = set()
        number = self._pages.header_number(32)
        while number and number not in free:
            leaves = self._trunk(number)
            if leaves is None:
                return free
            number, *others = leaves
            free |= {*others}
        return free

    def _trunk(self, number: int) -> list[int] | None:
        """A page of the list of free pages: the number of the next, then all that it has."""
        content = self._pages.read(number) if 2 <= number <= self._pages.count else None
        if content is None:
            return None
        count = int.from_bytes(content[4:8], "big")
        if not 0 <= count <= self._pages.usable // 4 - 2:
            return None
        numbers = [int.from_bytes(content[at : at + 4], "big") for at in range(8, 8 + 4 * count, 4)]
        after = int.from_bytes(content[:4], "big")
        all_of_them = [*numbers, number, *([after] if after else [])]
        if len({*all_of_them}) < len(all_of_them):
            return None
        if not all(2 <= each <= self._pages.count for each in all_of_them):
            return None
        return [after, number, *numbers]

    def _free_by_looks(self, known: set[int]) -> set[int]:
        """Free pages in parts of their list to which nothing leads."""
        free: set[int] = set()
        for number in range(2, self._pages.count + 1):
            if number not in known and number not in self._seen:
                leaves = self._trunk(number)
                if leaves is not None and len(leaves) > 2:
                    free |= {*leaves[1:]}
        return free
