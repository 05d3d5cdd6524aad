"""Reads what can be read of a damaged journal into a new one.

What is in doubt does not run: a job may have begun calls with effects of which no record is left,
so it fails, and whoever submitted it decides. Ids go on after the highest one that is known.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, pairwise

from dte.master.journal.bounds import DURATION, JOB_MAX, RANGES
from dte.master.journal.copying import BOOTS_MORE, BOOTS_SKIPPED
from dte.master.journal.generation import make_complete
from dte.master.journal.schema import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    Sync,
    open_journal,
    statements,
)
from dte.master.plans import LOST_PLAN, read_plan
from dte.master.salvage.endings import END_LOST, Endings
from dte.master.salvage.gaps import Gap, gaps_of_calls
from dte.master.salvage.outcome import Loss, Salvaged
from dte.master.salvage.pages import Pages
from dte.master.salvage.reading import Values, is_formula_of, is_readable, repaired
from dte.master.salvage.records import Row
from dte.master.salvage.survey import Survey
from dte.master.salvage.tables import CONTENTS, NUMBERS, Table, later_tables, tables

FIRST_VERSION = 2
"""New files have it, or a later version. Tables of the version before had fewer columns."""
ARITHMETIC = re.compile(r"(?:[\d\W]|(?<=[\d.])[eE])*")
"""A formula without names, so without calls."""
DESCRIPTION = re.compile(r"\d+ calls: ")
"""Begins the text of a job that has a plan of several calls."""
DOUBT = "the journal was damaged, and records of this job may be missing, so it was not resumed"
PLAN_LOST = "its plan was lost when the journal was damaged, so it was not resumed"
ON_ONE_PAGE = 400
"""A text of so many characters is on the page of its row; a longer one may be on others, too."""
SINGLE = ("master", "generation")
"""Tables of one row, which a new file has already."""
OF_JOBS = (("plan", "number"), ("call", "job"), ("notice", "number"), ("retry", "number"))
"""Tables with rows that belong to a job, and the columns with its number."""
UNCERTAIN = ("ended", "submission", "plan", "call", "retry")
"""Tables for which rows from pages that may be free are used: older rows in them do no harm."""
NEWER = {
    "call": """ON CONFLICT (job, name) DO UPDATE SET {all}
    WHERE (excluded.state NOT NULL, excluded.attempts, excluded.failures, excluded.lost,
           excluded.lease) > (state NOT NULL, attempts, failures, lost, lease)""",
    "waiting": """ON CONFLICT (number) DO UPDATE
    SET cancelled_at = coalesce(cancelled_at, excluded.cancelled_at)""",
}
"""What becomes of a second row with the key of another: a page may be there in two versions."""


def version_of(pages: Pages) -> int | None:
    """The version of a journal; None if its header is damaged or of something else."""
    version = pages.header_number(60)
    known = pages.header_number(68) == APPLICATION_ID and 1 <= version <= SCHEMA_VERSION
    return version if known else None


def salvage(pages: Pages, survey: Survey, target: str) -> Salvaged:
    """Write what can be read of a journal into a new file, which must not exist.

    Raises:
        sqlite3.Error: the new file cannot be written.
        OSError: so.
    """
    done = Salvaged(version_of(pages))
    os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o600))
    version = max(done.version or SCHEMA_VERSION, FIRST_VERSION)
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        # Nothing of an interrupted salvage is used, so it needs no second file.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; "
            f"{statements(None, version)}"
        )
        _Filling(db, survey, pages, done).run()
        done.failed_jobs.sort()
        db.execute("COMMIT")
    with closing(open_journal(target, Sync.FULL)) as db:  # It becomes one of the present version.
        make_complete(db)
        db.execute("PRAGMA journal_mode = DELETE")
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    done.damaged_in_log = pages.log_unknown
    done.damaged_pages = sorted({*survey.damaged, *pages.log_damaged})
    done.pages, done.pages_once = pages.cut or (pages.count, pages.count)
    return done


def insert(db: sqlite3.Connection, table: str, values: Values) -> int:
    """Insert a row into a new journal; return 0 if another one stays in its place."""
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    newer = NEWER.get(table, "ON CONFLICT DO NOTHING").format(
        all=", ".join(f"{each} = excluded.{each}" for each in values)
    )
    statement = f"INSERT INTO {table} ({columns}) VALUES ({marks}) {newer}"
    return db.execute(statement, (*values.values(),)).rowcount


class _Filling:
    """Fills a new journal."""

    def __init__(
        self, db: sqlite3.Connection, survey: Survey, pages: Pages, done: Salvaged
    ) -> None:
        self._db, self._survey, self._pages, self._done = db, survey, pages, done
        self._known: set[int] = set()
        self._certain: set[int] = set()
        self._ended: dict[int, int] = {}
        self._endings = Endings(db, self._ended)
        self._unreadable: dict[str, int] = {}
        self._repaired: set[tuple[str, int]] = set()
        self._now = time.time()
        self._gaps: list[Gap] = []
        self._deleted_to: int | None = None
        self._oldest_ended = 0

    def run(self) -> None:
        for name, table in tables().items():
            if self._exists(name) and name not in SINGLE:
                self._copy(table)
        for number, sequence in self._index_of_ended():
            self._ended[number] = sequence
        self._known.update(self._ended)
        self._copy_master()
        self._settle_jobs()
        self._mark_lost_plans()
        self._fail_doubtful()
        for name in tables():
            if self._exists(name) and name not in SINGLE:
                (self._done.rows[name],) = self._db.execute(
                    f"SELECT count(*) FROM {name}"
                ).fetchone()
            if name == "plan":
                self._done.rows[name] -= len(self._done.lost_plans)
            self._note_loss(name)

    def _note_loss(self, name: str) -> None:
        """Note what is lost of a table, if it is not known that all rows are there."""
        done, found = self._done, self._survey.found[name]
        rows = found.rows_damaged + self._unreadable.get(name, 0)
        rows += sum(table == name for table, _ in self._repaired)
        is_missing = not found.rooted and name not in later_tables(done.version)
        if not (rows or found.damaged or is_missing):
            return
        if name == "generation":  # The new file has a mark of its own.
            done.mark_lost = True
            return
        if not rows and self._survey.has_all(name):
            return
        done.lost_rows[name] = rows, len(found.damaged)
        all_named = self._survey.found[NUMBERS.name].is_whole and name == "ended"
        if all_named or (name == "plan" and done.lost_plans):
            return
        is_certain = rows > 0 or any(number != found.root for number in found.damaged)
        done.losses.append(Loss(CONTENTS[name], name, sorted(found.damaged), rows, is_certain))

    def _exists(self, name: str) -> bool:
        """False for a table that the version of the journal does not have."""
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return self._db.execute(query, (name,)).fetchone() is not None

    # Rows

    def _copy(self, table: Table) -> None:
        """Copy the rows of a table; of two with one key, the newer one counts."""
        self._insert(table, self._survey.rows(table.name))
        if table.name in UNCERTAIN:
            self._insert(table, self._survey.rows(table.name, uncertain=True), uncertain=True)

    def _insert(self, table: Table, rows: Iterable[Row], *, uncertain: bool = False) -> None:
        for row in rows:
            values = self._values(table, row)
            if values is None:
                continue
            self._note_ids(values)
            if table.name in ("plan", "call") and not uncertain:
                self._certain.add(values[table.columns[0]])
            if not insert(self._db, table.name, values) and "sequence" in values:
                del values["sequence"]  # Another row has it, perhaps of another job.
                insert(self._db, table.name, values)

    def _values(self, table: Table, row: Row) -> Values | None:
        """The values of a row by column; None if a master could not read it."""
        values: Values = dict(zip(table.columns, table.values(row) or (), strict=False))
        if is_readable(table.name, values):
            return values
        kept = repaired(table.name, values, self._now)
        if kept is not None:
            self._repaired.add((table.name, kept["number"]))
            return kept
        self._unreadable[table.name] = self._unreadable.get(table.name, 0) + 1
        if table.name == "call":
            self._gaps.append((values["job"], values["job"]))
        return None

    def _note_ids(self, values: Values) -> None:
        for column in ("number", "job"):
            number = values.get(column)
            if isinstance(number, int):
                self._known.add(number)
        first, count = values.get("first"), values.get("count")
        if isinstance(first, int) and isinstance(count, int) and first + count <= JOB_MAX:
            self._done.last_job = max(self._done.last_job, first + count - 1)

    def _copy_master(self) -> None:
        """Go on after the highest numbers of starts and of jobs, and after the longest time."""
        boot = last_job = 0
        ran_s = 0.0
        survey, ranges = self._survey, RANGES["master"]
        for row in chain(survey.rows("master"), survey.rows("master", uncertain=True)):
            found: Values = dict(zip(ranges, row.fields, strict=False))
            possible = {name: each for name, each in found.items() if ranges[name].has(each)}
            boot = max(boot, possible.get("boot", 0))
            last_job = max(last_job, possible.get("last_job", 0))
            ran_s = max(ran_s, possible.get("ran_s", 0.0))
            self._deleted_to = last_job
        if boot:  # A new file begins with a number of its own.
            boot += BOOTS_SKIPPED + secrets.randbelow(BOOTS_MORE)
        self._done.last_job = max(self._done.last_job, last_job, *self._known, 0)
        self._db.execute("UPDATE master SET boot = ?, last_job = ?", (boot, self._done.last_job))
        if "ran_s" in self._columns("master"):
            query = "SELECT max(recorded_s) FROM {} WHERE recorded_s < ?"
            ages = [
                self._db.execute(query.format(name), (DURATION.high,)).fetchone()[0]
                for name in ("ended", "submission")
            ]
            self._db.execute(
                "UPDATE master SET ran_s = ?", (max(ran_s, *(each or 0 for each in ages)),)
            )

    def _columns(self, name: str) -> list[str]:
        return [column[1] for column in self._db.execute(f"PRAGMA table_info({name})")]

    # Jobs

    def _index_of_ended(self) -> Iterator[tuple[int, int]]:
        """The numbers of ended jobs, also of lost ones, with their places in the order of ends."""
        for row in self._survey.rows(NUMBERS.name):
            number, sequence = row.fields
            if isinstance(number, int) and 0 < number < JOB_MAX and isinstance(sequence, int):
                yield number, sequence

    def _settle_jobs(self) -> None:
        """Leave each job in one place, and nothing of jobs that are lost."""
        self._db.execute("DELETE FROM waiting WHERE number IN (SELECT number FROM ended)")
        (oldest,) = self._db.execute("SELECT min(number) FROM ended").fetchone()
        self._oldest_ended = oldest or 0
        self._take_doubtful()
        waiting = self._db.execute("SELECT number FROM waiting ORDER BY number").fetchall()
        for (number,) in waiting:
            if number in self._ended:  # This row is an old one.
                self._fail(number, END_LOST)
        kept = self._kept()
        for number in sorted(self._known - kept):
            if self._is_alive(number) and self._endings.rebuild(number):
                self._done.rebuilt_jobs.append(number)
                kept.add(number)
        self._done.failed_jobs += self._failed_of(self._done.rebuilt_jobs)
        self._done.lost_jobs = sorted(self._known - kept)
        for number in self._done.lost_jobs:
            for table, column in OF_JOBS:
                if self._exists(table):
                    count = self._db.execute(
                        f"DELETE FROM {table} WHERE {column} = ?", (number,)
                    ).rowcount
                    if count and table == "notice":
                        self._done.lost_webhooks.append(number)
        self._note_unknown(kept)

    def _failed_of(self, numbers: Iterable[int]) -> list[int]:
        query = "SELECT state = 'failed' FROM ended WHERE number = ?"
        return [each for each in numbers if self._db.execute(query, (each,)).fetchone()[0]]

    def _kept(self) -> set[int]:
        return {
            number
            for table in ("waiting", "ended")
            for (number,) in self._db.execute(f"SELECT number FROM {table}")
        }

    def _take_doubtful(self) -> None:
        """Keep jobs whose rows are on pages that may be free; they fail if they may have ended."""
        table, kept = tables()["waiting"], self._kept()
        found = self._survey.found
        ends_known = found["ended"].is_whole or found[NUMBERS.name].is_whole
        for row in self._survey.rows(table.name, uncertain=True):
            values = self._values(table, row)
            if values is None or values["number"] in kept:
                continue
            number = values["number"]
            if not self._is_alive(number):
                continue
            kept.add(number)
            self._note_ids(values)
            insert(self._db, table.name, values)
            if not ends_known or number in self._ended or not self._is_undeleted(number):
                self._fail(number, DOUBT)

    def _is_undeleted(self, number: int) -> bool:
        """True for a job that was surely not deleted when it had ended."""
        deleted_to = self._deleted_to
        return number in self._certain or (deleted_to is not None and number > deleted_to)

    def _is_alive(self, number: int) -> bool:
        """False for a job that may have been deleted: it is older than all that have ended."""
        return self._is_undeleted(number) or number >= self._oldest_ended

    def _note_unknown(self, kept: set[int]) -> None:
        """Note the ids of which nothing is left, if rows of jobs may be lost."""
        jobs = ("waiting", "ended")
        if self._pages.cut is None and all(
            self._survey.found[name].is_whole and name not in self._unreadable for name in jobs
        ):
            return
        # Old jobs may have been deleted, and none that came after the last deletion.
        oldest = self._oldest_ended
        deleted_to = self._deleted_to
        first = min(oldest or self._done.last_job + 1, 1 if deleted_to is None else deleted_to + 1)
        if oldest and deleted_to is None:
            first = oldest
        known = sorted(number for number in kept | self._known if number >= first)
        for below, above in pairwise([first - 1, *known, self._done.last_job + 1]):
            if below + 1 < above:
                self._done.unknown_jobs.append((below + 1, above - 1))

    def _mark_lost_plans(self) -> None:
        """Note for each job with a lost plan that it had one: its text is no formula."""
        plans_whole = self._survey.found["plan"].is_whole and "plan" not in self._unreadable
        without = self._db.execute(
            "SELECT number, coalesce(formula, task) FROM waiting WHERE number NOT IN "
            "(SELECT number FROM plan) UNION ALL SELECT number, task FROM ended "
            "WHERE number NOT IN (SELECT number FROM plan) ORDER BY 1"
        )
        for number, text in without.fetchall():
            # A formula with calls may have had a plan, or none.
            if DESCRIPTION.match(text) or not (plans_whole or ARITHMETIC.fullmatch(text)):
                self._done.lost_plans.append(number)
                self._db.execute("INSERT INTO plan VALUES (?, ?)", (number, LOST_PLAN))

    def _fail_doubtful(self) -> None:
        """End the jobs whose plans are lost, and those of whose calls records may be lost."""
        waiting = self._db.execute(
            "SELECT number, task, formula, operations, (SELECT text FROM plan "
            "WHERE plan.number = waiting.number) FROM waiting ORDER BY number"
        ).fetchall()
        gaps = gaps_of_calls(self._pages, self._survey.found["call"]) if waiting else []
        gaps += self._gaps
        if self._pages.log_unknown:
            gaps.append((-math.inf, math.inf))
        for number, task, formula, operations, plan in waiting:
            text = formula or task
            if plan == LOST_PLAN:
                self._fail(number, PLAN_LOST)
            elif plan is None and ARITHMETIC.fullmatch(text):
                # It can be computed again, unless a page of another text is a part of it.
                is_long = len(text) > ON_ONE_PAGE
                if is_long and not is_formula_of(text, operations, task):
                    self._fail(number, DOUBT)
            elif any(low <= number <= high for low, high in gaps) or (
                plan is not None and not self._follows_known(plan)
            ):
                self._fail(number, DOUBT)

    def _fail(self, number: int, reason: str) -> None:
        self._endings.fail(number, reason)
        self._done.failed_jobs.append(number)

    def _follows_known(self, plan: str) -> bool:
        """False for the plan of a job that begins after a lost one, which may have failed."""
        unknown, lost = self._done.unknown_jobs, {*self._done.lost_jobs, *self._done.rebuilt_jobs}
        return not any(
            number in lost or any(low <= number <= high for low, high in unknown)
            for number in read_plan(plan).after
        )
