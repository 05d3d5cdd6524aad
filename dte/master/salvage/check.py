"""Looks into a journal without changing it: what is in it, and what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from dte.master.journal.generation import Cut, find_cut
from dte.master.journal.permissions import files_of, is_open_to_all
from dte.master.journal.schema import (
    APPLICATION_ID,
    OLDER_OR_NEWER,
    SCHEMA_VERSION,
    of_foreign_log,
    of_other_version,
    of_strangers,
    open_to_all,
    strangers_in,
)
from dte.master.journal.wal import Unread, log_of, unread_frames
from dte.master.salvage.pages import Pages
from dte.master.salvage.reading import Values, is_readable, odd_texts
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
        refused: why a master refuses it though it is not damaged, with what to do.
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
    refused: list[str] = field(default_factory=list)
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
    if not path:
        raise NoJournal("FILE is empty; give the name of a journal")
    if not os.path.exists(path):
        raise NoJournal(f"there is no file {path}; give the name of a journal")
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
    if cut is None and _is_incomplete(survey) and not os.path.exists(log_of(path)):
        cut = Cut.MISSING  # SQLite cannot see that, as another page is damaged.
    if cut in (Cut.LOST, Cut.BROKEN) and pages.pages_in_log:  # More is read than SQLite takes.
        cut = None
    return pages, survey, cut


def _is_incomplete(survey: Survey) -> bool:
    rows = [*survey.rows("generation"), *survey.rows("generation", uncertain=True)]
    return any(row.fields[0] == 1 for row in rows)


def check(path: str) -> Findings:
    """Look into a journal.

    Raises:
        NoJournal: there is no such file, or it is something else.
        InUse: a master has it open.
    """
    pages, survey, cut = open_pages(path)
    with closing(pages):
        found = Findings(version_of(pages), pages.count, pages.pages_in_log)
        _note_refusals(path, survey, cut, found)
        _count(survey, found)
        _note_damage(pages, survey, found)
        _note_log(path, pages, cut, found)
        if not found.faults and not found.refused:
            found.faults += _integrity(pages)
    _note_mode(path, found)
    return found


def _count(survey: Survey, found: Findings) -> None:
    counts: dict[str, int] = {}
    odd: list[str] = []
    for name, table in tables().items():
        for row in chain(survey.rows(name), survey.rows(name, uncertain=True)):
            values: Values = dict(zip(table.columns, table.values(row) or (), strict=False))
            if not is_readable(name, values):
                survey.found[name].rows_damaged += 1
                odd += odd_texts(name, values) if len(odd) < FAULTS_MAX else ()
                continue
            counts[name] = counts.get(name, 0) + 1
            if name in ("waiting", "ended", "master"):
                _note_job(values, found)
    found.faults += odd[:FAULTS_MAX]
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
            found.faults.append(f"{what}: {damaged_pages(each.damaged)}")
        if each.rows_damaged:
            found.faults.append(f"{what}: damaged rows on other pages: {each.rows_damaged}")
        if not each.rooted and name not in later_tables(found.schema):
            found.faults.append(f"{what}: nothing leads to this table any more")
    for of, index in survey.indexes.items():
        if index.damaged:
            found.faults.append(f"index of {CONTENTS[of]}: {damaged_pages(index.damaged)}")
            found.damaged_pages = sorted({*found.damaged_pages, *index.damaged})
        if index.rows_damaged:
            found.faults.append(f"index of {CONTENTS[of]}: damaged rows: {index.rows_damaged}")
    if survey.free_damaged:
        found.faults.append("the list of free pages is damaged")


def damaged_pages(numbers: Sequence[int]) -> str:
    """Say that pages are damaged."""
    if len(numbers) == 1:
        return f"page {numbers[0]} is damaged"
    shown = ", ".join(map(str, numbers[:FAULTS_MAX]))
    more = f" and {len(numbers) - FAULTS_MAX} more" if len(numbers) > FAULTS_MAX else ""
    return f"pages {shown}{more} are damaged"


def damaged_parts(count: int) -> str:
    """Say that parts of a log are damaged."""
    if count == 1:
        return "a part is damaged, and nobody knows which page it changed"
    return f"{count} parts are damaged, and nobody knows which pages they changed"


def _note_refusals(path: str, survey: Survey, cut: Cut | None, found: Findings) -> None:
    """Note why a master refuses a file that is not damaged, with what to do."""
    found.refused = [str(open_to_all(file)) for file in files_of(path) if is_open_to_all(file)]
    if cut is Cut.FOREIGN:
        found.refused.append(str(of_foreign_log(path)))
    strange = strangers_in(survey.catalogue, found.schema) if found.schema is not None else []
    if strange:
        found.refused.append(str(of_strangers(path, strange)))


def _note_log(path: str, pages: Pages, cut: Cut | None, found: Findings) -> None:
    if cut is Cut.MISSING:
        found.log_missing = not found.faults
        found.faults.append(f"{log_of(path)} is missing, which has the latest changes")
    if cut is Cut.LOST:
        found.faults.append(f"{log_of(path)} has lost its content, which was the latest changes")
    unread = None if cut is not None else _unread_frames(path)
    if unread is not None:
        damaged, first, last = unread
        found.faults.append(
            f"{log_of(path)}: frame {damaged} is damaged, so SQLite will not read frames {first} "
            f"to {last}; a salvage reads them"
        )
    if pages.log_damaged:
        found.faults.append(f"{log_of(path)}: {damaged_pages(sorted(pages.log_damaged))}")
    if pages.log_unknown:
        found.faults.append(f"{log_of(path)}: {damaged_parts(pages.log_unknown)}")
    if pages.torn:
        found.remarks.append(
            "the last transaction in the log is not whole, as after a loss of power"
        )


def _unread_frames(path: str) -> Unread | None:
    with suppress(FileNotFoundError):
        return unread_frames(log_of(path))
    return None


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
    if mode & 0o077 and not is_open_to_all(path):
        found.remarks.append(
            f"others may open it (mode {mode:04o}), and it has arguments and results; "
            f"a master that starts with it closes it to them"
        )
