"""Reads the journal that a master has left behind."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torture.chaos.effects.jobs import AGAIN

NAME = re.compile(r'"(effect-\d+)/')


@dataclass(frozen=True, slots=True)
class Journal:
    """The content of a journal's file.

    Attributes:
        texts: the formula of each job, or the name of one with effects, by its id.
        problems: what is wrong with the file, as sentences.
    """

    texts: dict[int, str]
    problems: list[str]


def read_journal(path: Path) -> Journal:
    """Read a journal that no master has open, and check it."""
    texts: dict[int, str] = {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            problems = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            for number, text in db.execute(
                "SELECT number, coalesce(formula, task) FROM waiting "
                "UNION ALL SELECT number, task FROM ended"
            ):
                if number in texts:
                    problems.append(f"job {number} is in the journal twice")
                texts[number] = text
            for number, plan in db.execute("SELECT number, text FROM plan"):
                if number in texts and (name := NAME.search(plan)):
                    texts[number] = name[1] + AGAIN * ('"retry_of":' in plan)
            for table, column in (("plan", "number"), ("call", "job"), ("notice", "number")):
                for (number,) in db.execute(f"SELECT DISTINCT {column} FROM {table}"):
                    if number not in texts:
                        problems.append(f"job {number} is only in the table {table}")
    except sqlite3.Error as error:
        problems = [f"{path.name} cannot be read: {error}"]
    return Journal(texts, problems)
