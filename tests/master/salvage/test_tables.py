"""Each row of a journal shows by itself of which table it is."""

from __future__ import annotations

import pytest

from dte.master.salvage.records import Row
from dte.master.salvage.tables import CATALOGUE, NUMBERS, Table, table_of, table_of_all, tables

ALL = [*tables().values(), CATALOGUE]
VALUES = {int: 7, str: "text", bytes: b"bytes"}


def row_of(table: Table, length: int, *, empty: bool) -> Row:
    """A row with so many fields; those that may be empty are, if they are to be."""
    values = [
        None if not required and empty else VALUES[kinds[0]]
        for kinds, required in zip(table.kinds, table.required, strict=True)
    ]
    if table.id_at is not None:
        values[table.id_at] = None
    return Row(None if table.is_index else 3, list(values[:length]))


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_a_row_is_of_one_table_only(table: Table) -> None:
    for length in range(table.least, len(table.columns) + 1):
        for empty in (False, True):
            row = row_of(table, length, empty=empty)
            assert table_of(row) is table, row
            assert NUMBERS.values(row) is None


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_a_row_that_lacks_what_each_has_is_of_no_table(table: Table) -> None:
    assert table_of(row_of(table, table.least - 1, empty=False)) is not table


def test_the_id_of_a_row_is_the_value_of_its_column() -> None:
    plan = tables()["plan"]
    assert plan.values(Row(12, [None, "{}"])) == [12, "{}"]
    assert plan.values(Row(12, [12, "{}"])) is None


def test_the_table_of_most_rows_is_that_of_the_page() -> None:
    rows = [Row(1, [None, "{}"]), Row(2, [None, "{}"]), Row(3, [None, 7])]
    assert table_of_all(rows) is tables()["plan"]
    assert table_of_all(rows[1:]) is None
