"""Rows are read from pages as SQLite reads them."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dte.master.salvage.pages import Pages
from dte.master.salvage.records import Damaged, Page, fields_of, varint
from dte.master.salvage.tables import CATALOGUE

fields = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.integers(30, 40_000).map(lambda size: "x" * size),
    st.integers(30, 40_000).map(bytes),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.dictionaries(st.integers(-(2**63), 2**63 - 1), fields, min_size=1, max_size=5),
    page_bytes=st.sampled_from([512, 4_096, 65_536]),
)
def test_every_field_is_what_was_written(
    tmp_path: Path, rows: dict[int, object], page_bytes: int
) -> None:
    path = tmp_path / "x.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {page_bytes}")
        db.execute("CREATE TABLE x (id INTEGER PRIMARY KEY, field)")
        db.execute("CREATE TABLE y (field, PRIMARY KEY (field)) WITHOUT ROWID")
        db.executemany("INSERT INTO x VALUES (?, ?)", rows.items())
        db.executemany(
            "INSERT OR IGNORE INTO y VALUES (coalesce(?, 0))", ((v,) for v in rows.values())
        )
        db.commit()
        keys = db.execute("SELECT field FROM y").fetchall()
    with closing(Pages(str(path))) as pages:
        found = {}
        indexed = []
        for number in range(2, pages.count + 1):
            with suppress(Damaged):
                for row in Page(pages, number).rows():
                    assert row is not None
                    if row.id is not None:
                        found[row.id] = row.fields[1]
                    else:
                        indexed.append((row.fields[0],))
    assert found == rows
    assert sorted(map(repr, indexed)) == sorted(map(repr, keys))


@given(st.integers(0, 2**64 - 1))
def test_numbers_of_any_length_are_read(number: int) -> None:
    raw, left = b"", number
    if number >= 2**56:
        raw, left = bytes([left & 0xFF]), left >> 8
        raw = bytes(left >> shift & 0x7F | 0x80 for shift in range(49, -1, -7)) + raw
    else:
        while True:
            raw = bytes([left & 0x7F | (0x80 if raw else 0)]) + raw
            left >>= 7
            if not left:
                break
    assert varint(raw + b"\xff", 0) == (number, len(raw))


@given(st.binary())
def test_what_is_no_record_is_damaged(raw: bytes) -> None:
    with suppress(Damaged, UnicodeDecodeError, IndexError):
        assert isinstance(fields_of(raw), list)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.binary(min_size=512, max_size=512), kind=st.sampled_from([2, 5, 10, 13]))
def test_a_page_of_any_bytes_ends(tmp_path: Path, raw: bytes, kind: int) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA page_size = 512")
        db.execute("CREATE TABLE IF NOT EXISTS x (id)")
        db.commit()
    content = path.read_bytes()[:512]
    path.write_bytes(content + bytes([kind]) + raw[1:])
    with closing(Pages(str(path))) as pages, suppress(Damaged):
        page = Page(pages, 2)
        assert all(row is None or row.fields is not None for row in page.rows())
        assert page.kind == kind


def test_a_damaged_row_leaves_the_others_on_its_page(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as db:
        for number in range(20):
            db.execute(f"CREATE TABLE x{number} (id)")
        db.commit()
    raw = bytearray(path.read_bytes())
    # The type of the root's number, which stands before the name's and the text's.
    at = raw.index(b"tablex7x7")
    raw[at - 2] = 0xFF
    path.write_bytes(raw)
    with closing(Pages(str(path))) as pages:
        rows = list(Page(pages, 1).rows())
    names = {row.fields[1] for row in rows if row is not None and CATALOGUE.values(row) is not None}
    assert names == {f"x{number}" for number in range(20)} - {"x7"}
