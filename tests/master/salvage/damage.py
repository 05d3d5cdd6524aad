"""Journals with jobs of every kind, and ways to damage them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from dte.core.graph.call import CallState
from dte.core.jobs.job import JobState
from dte.master.salvage.outcome import Salvaged
from dte.master.salvage.pages import Pages
from dte.master.salvage.salvage import salvage
from dte.master.salvage.survey import Survey
from master.journal.book import Book, calls_of

PAGE = 4_096
PLAN = '{"graph":{"a":{"handler":"echo","args":[1]},"b":{"handler":"echo","args":[1]}}}'
LONG = "1+" * 6_000 + "1"
"""A formula that takes several pages."""


def fill(book: Book, jobs: int, *, waits: int = 10) -> None:
    """Accept jobs, a fifth of them with calls, and end them; every so many wait on."""
    for start in range(0, jobs, 100):
        accepted = [*book.accept(*(f"{start}+{at}" for at in range(80)), key=f"key {start}")]
        accepted += [book.accept_plan("a", "b", plan=PLAN, task="2 calls") for _ in range(20)]
        book.write()
        for job in accepted:
            if job.number % waits == 0:
                continue
            for call in calls_of(job).values() if job.calls is not None else ():
                value = b'"of job %d"' % job.number
                book.step(call, CallState.SUCCEEDED, value=value, attempts=1, worker="w")
            book.end(job, job.number if job.calls is None else b'{"a":1,"b":2}')
        book.write()


def fill_with_extremes(book: Book) -> None:
    """Accept and end jobs whose rows are long, empty, or have rare types."""
    _, second, third = book.accept(LONG, "-" + "9" * 4_000 + "+0", "1.5+2")
    calls = book.accept_plan("é 🙂", plan=PLAN, task="a call", notify="http://127.0.0.1:2/ended")
    begun = book.accept_plan("a", plan=PLAN, task="another", notify="http://127.0.0.1:2/ended")
    book.write()
    (call,) = calls_of(calls).values()
    book.step(call, CallState.FAILED, value=b"\xff\xfe", error="x" * 9_000, trace="\0 \u202e")
    book.step(*calls_of(begun).values(), attempts=1, lease=2**52, worker="w", started_at=1.25)
    book.end(calls, error="no", state=JobState.FAILED)
    book.end(second, -int("9" * 4_000))
    book.end(third, 3.5)
    book.write()


def content(path: Path, *left_out: str) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of all tables as SQLite reads them."""
    with closing(sqlite3.connect(path)) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for (name,) in names
            if name not in left_out
        }


def garble(path: Path, numbers: Iterable[int], seed: int = 0) -> None:
    """Overwrite pages, numbered from 1: with chance, or with zeros where the seed is 0."""
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(chance.randbytes(PAGE) if seed else bytes(PAGE))


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def free_pages(path: Path) -> set[int]:
    """The pages that the first page of the list of free pages names; these are all, if few."""
    raw = path.read_bytes()
    first = int.from_bytes(raw[32:36], "big")
    listed = raw[(first - 1) * PAGE : first * PAGE] if first else bytes(8)
    count = int.from_bytes(listed[4:8], "big")
    return {int.from_bytes(listed[8 + 4 * at : 12 + 4 * at], "big") for at in range(count)}


def pages_of_kind(path: Path, *kinds: int) -> list[int]:
    """The pages that begin with such a byte."""
    raw = path.read_bytes()
    starts = {number: (number - 1) * PAGE for number in range(2, len(raw) // PAGE + 1)}
    return [number for number, start in starts.items() if raw[start] in kinds]


def salvaged(path: Path, to: Path, **options: bool) -> Salvaged:
    """Save a journal into a new file."""
    pages = Pages(str(path), **options)
    try:
        return salvage(pages, Survey(pages), str(to))
    finally:
        pages.close()


def jobs_in(path: Path) -> Collection[int]:
    """The ids of the jobs in a journal."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT number FROM waiting UNION ALL SELECT number FROM ended")
        return [number for (number,) in rows]
