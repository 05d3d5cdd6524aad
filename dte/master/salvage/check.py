"""Looks into a journal without changing it: what is in it, and what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from dte.master.journal.generation import Cut, find_cut
from dte.master.journal.schema import (
    APPLICATION_ID,
    OLDER_OR_NEWER,
    SCHEMA_VERSION,
    of_other_version,
    strangers_in,
)
from dte.master.journal.wal import log_of
from dte.master.salvage.pages import Pages
from dte.master.salvage.reading import Values, is_readable
from dte.master.salvage.salvage import version_of
from dte.master.salvage.survey import Survey
from dte.master.salvage.tables import CONTENTS, later_tables, tables

FAULTS_MAX = 20
"""Faults that SQLite finds and that are shown."""
WRITE_VERSION_AT = 18
"""The place in the header of two bytes: 1 for a file without a log, 2 for one with a log."""


class NoJournal(Exception):
    """The file is no journal of dte, as far as can be seen; the text says why."""


@dataclass
class Findings:
    """What was found in a journal.

    Attributes:
        faults: what is wrong, each as a text; empty for a journal that is intact.
        remarks: what should be changed, though the journal can be used.
        log_missing: nothing is wrong but that the log is missing.
    """

    schema: int | None = None
    pages: int = 0
    pages_in_log: int = 0
    jobs_waiting: int = 0
    jobs_ended: int = 0
    calls: int = 0
    plans: int = 0
    keys: int = 0
    webhooks: int = 0
    last_job: int = 0
    newest_end: float | None = None
    mode: str = ""
    damaged_pages: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    log_missing: bool = False


def find_log_fault(path: str) -> Cut | None:
    """What is wrong with the log of a journal, as far as its main file says it."""
    as_it_is = f"{Path(path).absolute().as_uri()}?immutable=1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(as_it_is, uri=True)) as db:
        return find_cut(db, path)
    return None


def is_journal(survey: Survey, pages: Pages) -> bool:
    """True for a journal, damaged or not: its header says so, or rows of its tables are there."""
    if pages.header_number(68) == APPLICATION_ID:
        return True
    kept = ("generation",) if pages.header is not None else tables()
    return any(
        row is not None
        for name in kept
        for row in chain(survey.rows(name), survey.rows(name, uncertain=True))
    )


def open_pages(path: str) -> tuple[Pages, Survey, Cut | None]:
    """Read a file's pages, and find the tables of a journal among them.

    Raises:
        NoJournal: there is no such file, or it is something else, or of a newer version.
        InUse: a master has it open.
    """
    if not os.path.exists(path):
        raise NoJournal(f"there is no file {path}")
    if not os.path.isfile(path):
        raise NoJournal(f"{path} is not a regular file")
    cut = find_log_fault(path)
    try:
        pages = Pages(path, with_log=cut is not Cut.FOREIGN)
    except OSError as error:
        raise NoJournal(f"{path} cannot be read: {error.strerror}") from None
    survey = Survey(pages)
    if not is_journal(survey, pages):
        pages.close()
        raise NoJournal(f"{path} is not a journal of dte")
    version = pages.header_number(60)
    if pages.header_number(68) == APPLICATION_ID and version > SCHEMA_VERSION:
        pages.close()
        raise NoJournal(f"{of_other_version(path, version)}; {OLDER_OR_NEWER}")
    if cut is Cut.LOST and pages.pages_in_log:  # More can be read than SQLite takes.
        cut = None
    return pages, survey, cut


def check(path: str) -> Findings:
    """Look into a journal.

    Raises:
        NoJournal: there is no such file, or it is something else.
        InUse: a master has it open.
    """
    pages, survey, cut = open_pages(path)
    with closing(pages):
        found = Findings(version_of(pages), pages.count, pages.pages_in_log)
        _count(survey, found)
        _note_damage(pages, survey, found)
        _note_log(path, pages, cut, found)
        if found.schema is not None:
            entries = [(kind, name, of, sql) for kind, name, of, sql in survey.catalogue]
            found.faults += [
                f"not made by dte: {each}" for each in strangers_in(entries, found.schema)
            ]
        if not found.faults:
            found.faults += _integrity(pages)
    _note_mode(path, found)
    return found


def _count(survey: Survey, found: Findings) -> None:
    counts: dict[str, int] = {}
    for name, table in tables().items():
        for row in chain(survey.rows(name), survey.rows(name, uncertain=True)):
            values: Values = dict(zip(table.columns, table.values(row) or (), strict=False))
            if not is_readable(name, values):
                survey.found[name].rows_damaged += 1
                continue
            counts[name] = counts.get(name, 0) + 1
            if name in ("waiting", "ended", "master"):
                _note_job(values, found)
    found.jobs_waiting, found.jobs_ended = counts.get("waiting", 0), counts.get("ended", 0)
    found.calls, found.plans = counts.get("call", 0), counts.get("plan", 0)
    found.keys, found.webhooks = counts.get("submission", 0), counts.get("notice", 0)


def _note_job(values: Values, found: Findings) -> None:
    number = values.get("number", values.get("last_job"))
    if isinstance(number, int):
        found.last_job = max(found.last_job, number)
    ended_at = values.get("ended_at")
    if isinstance(ended_at, int | float):
        found.newest_end = max(found.newest_end or 0.0, float(ended_at))


def _note_damage(pages: Pages, survey: Survey, found: Findings) -> None:
    found.damaged_pages = sorted({*survey.damaged, *pages.log_damaged})
    if pages.cut is not None:
        left, once = pages.cut
        found.faults.append(f"the file is cut short: {left} of {once} pages")
    if pages.header is None:
        found.faults.append("page 1, which has the header of the file, is damaged")
    elif found.schema is None:
        found.faults.append("the header of the file gives no version of a journal")
    for name, each in survey.found.items():
        what = CONTENTS[name]
        if each.damaged:
            found.faults.append(_fault_of_pages(what, each.damaged))
        if each.rows_damaged:
            found.faults.append(f"{what}: damaged rows on other pages: {each.rows_damaged}")
        if not each.rooted and name not in later_tables(found.schema):
            found.faults.append(f"{what}: nothing leads to this table any more")
    for of, index in survey.indexes.items():
        if index.damaged:
            found.faults.append(_fault_of_pages(f"index of {CONTENTS[of]}", index.damaged))
            found.damaged_pages = sorted({*found.damaged_pages, *index.damaged})
        if index.rows_damaged:
            found.faults.append(f"index of {CONTENTS[of]}: damaged rows: {index.rows_damaged}")
    if survey.free_damaged:
        found.faults.append("the list of free pages is damaged")


def _fault_of_pages(what: str, numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:FAULTS_MAX]))
    return f"{what}: damaged pages: {len(numbers)} ({shown})"


def _note_log(path: str, pages: Pages, cut: Cut | None, found: Findings) -> None:
    if cut is Cut.MISSING:
        found.log_missing = not found.faults
        found.faults.append(f"{log_of(path)} is missing, which has the latest changes")
    if cut is Cut.LOST:
        found.faults.append(f"{log_of(path)} has lost its content, which was the latest changes")
    if cut is Cut.FOREIGN:
        found.faults.append(f"{log_of(path)} belongs to another state of the file; it was not read")
    if pages.log_damaged:
        found.faults.append(f"{log_of(path)}: damaged pages: {len(pages.log_damaged)}")
    if pages.torn:
        found.remarks.append(
            "the last transaction in the log is not whole, as after a loss of power"
        )


def _integrity(pages: Pages) -> list[str]:
    """What SQLite finds in a copy of all pages."""
    with tempfile.TemporaryDirectory(prefix="dte-") as folder:
        copy = Path(folder, "journal.db")
        with copy.open("wb") as file:
            for number in range(1, pages.count + 1):
                page = pages.read(number) or b""
                if number == 1:
                    page = page[:WRITE_VERSION_AT] + b"\1\1" + page[WRITE_VERSION_AT + 2 :]
                file.write(page)
        try:
            with closing(sqlite3.connect(copy)) as db:
                rows = db.execute(f"PRAGMA integrity_check({FAULTS_MAX})").fetchall()
        except sqlite3.Error as error:
            return [f"SQLite cannot read it: {error}"]
        return [f"SQLite finds: {text}" for (text,) in rows if text != "ok"]


def _note_mode(path: str, found: Findings) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    found.mode = f"{mode:04o}"
    if mode & 0o077:
        found.remarks.append(
            f"others may open it (mode {mode:04o}), and it has arguments and results; "
            f"a master that starts with it closes it to them"
        )
