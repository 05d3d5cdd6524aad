"""Reads rows from the pages of a SQLite file, by https://www.sqlite.org/fileformat2.html#b_tree_pages.

A page of a table has its rows in any order, and in its head the places of all. Each row can be read
by itself, so damage costs the rows that it hits. A row that is too long for its page goes on in a
chain of other pages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dte.master.salvage.pages import Pages

TABLE_LEAF, TABLE_INNER = 0x0D, 0x05
INDEX_LEAF, INDEX_INNER = 0x0A, 0x02
INNER, OF_TABLES = (TABLE_INNER, INDEX_INNER), (TABLE_INNER, TABLE_LEAF)
KINDS = (TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER)
FILE_HEADER = 100
FIELDS_MAX = 100
"""A row with more fields is none of a journal."""
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
REAL = struct.Struct(">d")

Field = int | float | str | bytes | None


class Damaged(Exception):
    """These bytes are not what they should be."""


class Row(NamedTuple):
    """A row of a table, or of an index, which has no row ids."""

    id: int | None
    fields: list[Field]


class Page:
    """A page of a b-tree.

    Attributes:
        kind: the type of the page.
        chained: the pages that its rows go on in, as far as these were read.

    Raises:
        Damaged: it is no such page.
    """

    def __init__(self, pages: Pages, number: int) -> None:
        content = pages.read(number)
        if content is None:
            raise Damaged
        self._pages, self._content = pages, content
        self._usable = pages.usable
        start = FILE_HEADER if number == 1 else 0
        self.kind, _, count, _, _ = struct.unpack_from(">BHHHB", content, start)
        if self.kind not in KINDS:
            raise Damaged
        first = start + (12 if self.kind in INNER else 8)
        if first + 2 * count > self._usable:
            raise Damaged
        self._places = struct.unpack_from(f">{count}H", content, first)
        if any(place < first + 2 * count or place > self._usable - 3 for place in self._places):
            raise Damaged
        self._right = int.from_bytes(content[start + 8 : start + 12], "big")
        self.chained: set[int] = set()

    def children(self) -> list[int]:
        """The pages below an inner page, in the order of their rows."""
        below = [int.from_bytes(self._content[at : at + 4], "big") for at in self._places]
        return [*below, self._right]

    def keys(self) -> list[int]:
        """The ids that an inner page of a table has between the pages below."""
        try:
            return [varint(self._content, at + 4)[0] for at in self._places]
        except IndexError:
            return []

    def rows(self) -> Iterator[Row | None]:
        """The rows; None for each that is damaged. Inner pages of tables have none."""
        if self.kind == TABLE_INNER:
            return
        for place in self._places:
            try:
                yield self._row(place)
            except (Damaged, struct.error, IndexError, UnicodeDecodeError):
                yield None

    def _row(self, at: int) -> Row:
        row_id = None
        if self.kind == INDEX_INNER:
            at += 4
        size, at = varint(self._content, at)
        if self.kind == TABLE_LEAF:
            row_id, at = varint(self._content, at)
            row_id -= (row_id >> 63) << 64
        return Row(row_id, fields_of(self._payload(size, at)))

    def _payload(self, size: int, at: int) -> bytes:
        """The bytes of a row, those in further pages too."""
        usable = self._usable
        most = usable - 35 if self.kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size <= most:
            if at + size > usable:
                raise Damaged
            return self._content[at : at + size]
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
        if at + here + 4 > usable or size > self._pages.count * usable:
            raise Damaged
        parts = [self._content[at : at + here]]
        self._follow(self._content[at + here : at + here + 4], size - here, parts)
        return b"".join(parts)

    def _follow(self, link: bytes, left: int, parts: list[bytes]) -> None:
        """Collect the rest of a row from its chain of pages."""
        while left > 0:
            number = int.from_bytes(link, "big")
            if not 2 <= number <= self._pages.count or number in self.chained:
                raise Damaged
            content = self._pages.read(number)
            if content is None:
                raise Damaged
            self.chained.add(number)
            link = content[:4]
            parts.append(content[4 : min(self._usable, 4 + left)])
            left -= self._usable - 4
        if link != bytes(4):
            raise Damaged


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the place after it."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1


def fields_of(payload: bytes) -> list[Field]:
    """The fields of a record.

    Raises:
        Damaged: the record's lengths do not fit.
        UnicodeDecodeError: a text is not UTF-8, in which journals have all texts.
    """
    end, at = varint(payload, 0)
    if end > len(payload):
        raise Damaged
    fields: list[Field] = []
    place = end
    while at < end:
        kind, at = varint(payload, at)
        field, place = _field(kind, payload, place)
        fields.append(field)
    if at != end or place != len(payload) or len(fields) > FIELDS_MAX:
        raise Damaged
    return fields


def _field(kind: int, payload: bytes, at: int) -> tuple[Field, int]:
    """A field, by its type in the head of its record, and the place after it."""
    if kind >= 12:
        end = at + (kind - 12) // 2
        if end > len(payload):
            raise Damaged
        return (payload[at:end].decode() if kind & 1 else payload[at:end]), end
    if kind <= 6:
        size = INTEGER_BYTES[kind]
        number = int.from_bytes(payload[at : at + size], "big", signed=True) if kind else None
        return number, at + size
    if kind == 7:
        return REAL.unpack_from(payload, at)[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    raise Damaged
