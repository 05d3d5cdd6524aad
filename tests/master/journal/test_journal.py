from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dte.core.errors import FormulaError
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.numbers import Number
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import TASK_CHARS_KEPT, Job, JobState
from dte.core.workers.worker import Announcement
from dte.master.journal import journal as journal_module
from dte.master.journal import rows as rows_module
from dte.master.journal.journal import Journal
from dte.master.journal.retention import Retention
from dte.master.journal.schema import JournalFailed
from master.salvage.damage import fill, garble, pages_of

from .book import OFFSET_S, Book, calls_of

DAY_S = 86_400.0

OpenBook = Callable[..., Book]
"""The fixture `open_book`."""


@pytest.fixture
def open_book(tmp_path: Path) -> Iterator[OpenBook]:
    """Opens a book whose journal is in a file, always the same; the last one is closed before."""
    books: list[Book] = []

    def open_next(**options: Any) -> Book:
        if books:
            books[-1].close()
        books.append(Book(tmp_path / "dte.db", **options))
        return books[-1]

    yield open_next
    for opened in books[-1:]:
        opened.close()


@pytest.fixture
def book() -> Iterator[Book]:
    """A book whose journal is in memory."""
    opened = Book()
    yield opened
    opened.close()


def only(jobs: list[Job]) -> Job:
    (job,) = jobs
    return job


# What is written is read back


def test_a_job_that_waits_is_there_after_a_restart(open_book: OpenBook) -> None:
    book = open_book()
    book.now = 7.25
    book.accept("1+2*3", "4-5")
    book.write()
    loaded = open_book().loaded
    assert [(job.number, job.task, job.operations) for job in loaded.waiting] == [
        (1, "1+2*3", 2),
        (2, "4-5", 1),
    ]
    assert all(job.submitted_at == OFFSET_S + 7.25 for job in loaded.waiting)
    assert loaded.last == 2
    assert not loaded.ended


def test_a_job_that_ended_is_there_with_all_that_is_known_of_it(open_book: OpenBook) -> None:
    book = open_book()
    job = only(book.accept("1+2*3"))
    book.write()
    job.started_at = OFFSET_S + 2.5
    book.core.arithmetic._finish(3.0, [(job, job.graph.take(1))], [6])  # type: ignore[union-attr]
    book.now = 4.75
    book.end(job, error="no")
    book.write()
    loaded = open_book().loaded
    assert not loaded.waiting
    found = only(loaded.ended)
    assert (found.number, found.task, found.state) == (1, "1+2*3", JobState.FAILED)
    assert (found.answer, found.error) == (None, "no")
    assert (found.operations, found.operations_done) == (2, 1)
    times = [found.submitted_at, found.started_at, found.ended_at]
    assert times == [OFFSET_S + 1.0, OFFSET_S + 2.5, OFFSET_S + 4.75]


def test_a_clock_that_is_set_changes_no_time_that_was_noted_before(open_book: OpenBook) -> None:
    book = open_book()
    job = only(book.accept("1+2*3"))
    book.write()
    book.jobs.wall_offset_s -= 3600
    book.now = 61.0
    book.end(job, 7)
    book.ended(2)
    loaded = open_book().loaded
    first, second = loaded.ended
    assert first.submitted_at == OFFSET_S + 1.0
    assert first.ended_at == first.submitted_at, "no job takes less than no time"
    assert second.submitted_at == OFFSET_S + 61.0 - 3600


@pytest.mark.parametrize(
    "answer",
    [
        *(0, -1, 2**53 + 1, -(2**64)),
        *(10**4300 - 1, -(10**4300 - 1), 10**4299),
        *(5e-324, 1e308, 1.7976931348623157e308, -0.0, 0.0, 0.1, 1e22, 1e16, -1.5e-7, 1 / 3),
    ],
    ids=lambda answer: f"{answer!r:.20}",
)
def test_an_answer_is_read_back_as_it_was(open_book: OpenBook, answer: Number) -> None:
    open_book().ended(answer)
    found = only(open_book().loaded.ended).answer
    assert type(found) is type(answer)
    assert repr(found) == repr(answer)


ERRORS = [
    *("", "\0", "a\0b", "\0a", "a\0", "\0\0"),
    *('"', "\\", "\\u0000", "'", "%s", "]", "null", "\x01\x1f\x7f", "\n\r\t"),
    *("ä", "\u2028", "\ufeff", "\uffff", "\U0001f600", "\U0010ffff", "\0ä\U0001f600"),
    "x" * 100_000,
]


def test_an_error_is_read_back_as_it_was_whatever_a_worker_says(open_book: OpenBook) -> None:
    book = open_book()
    jobs = book.accept(*["1+1"] * len(ERRORS))
    book.write()
    for job, error in zip(jobs, ERRORS, strict=True):
        book.end(job, error=error)
    book.write()
    assert [job.error for job in open_book().loaded.ended] == ERRORS


@given(st.text(st.characters(categories=["Cs", "Cc", "Lo", "So", "Po"])))
@example("\ud800")
@example("\0\udfff")
def test_no_error_keeps_the_journal_from_being_written(error: str) -> None:
    """Not even one with halves of surrogate pairs, which no JSON that is read has."""
    book = Book()
    job = only(book.accept("1+1"))
    book.write()
    book.end(job, error=error)
    book.write()
    found = book.journal.ended([1])[1]
    assert found.state is JobState.FAILED
    assert found.error == error.encode(errors="replace").decode()
    book.close()


def test_every_character_that_a_formula_may_have_is_kept(open_book: OpenBook) -> None:
    tasks = []
    for code in [*range(0x3100), *range(0xFE00, 0x10000)]:
        task = f"1{chr(code)}+2*3"
        try:
            parse(task, FormulaLimits())
        except FormulaError:
            continue
        tasks.append(task)
    assert {"1 +2*3", "1\t+2*3", "1×+2*3"} <= set(tasks)
    book = open_book()
    book.accept(*tasks)
    book.write()
    assert [job.text for job in open_book().journal.unfinished(0)] == tasks


def test_the_whole_of_a_long_formula_is_kept_until_its_job_ends(open_book: OpenBook) -> None:
    text = "1+" + " " * 15_999_990 + "2"
    book = open_book()
    book.accept("1+1", text)
    book.write()
    book = open_book()
    assert book.loaded.waiting[1].task == text[:TASK_CHARS_KEPT] + "…"
    assert formulas(book.journal, 1) == [(2, text)]
    book.end(book.jobs.job(2), 3)
    book.write()
    assert only(open_book().loaded.ended).task == text[:TASK_CHARS_KEPT] + "…"


def test_a_formula_of_exactly_what_is_kept_is_no_long_one(open_book: OpenBook) -> None:
    text = "1+1".ljust(TASK_CHARS_KEPT)
    book = open_book()
    book.accept(text)
    book.write()
    assert formulas(open_book().journal, 0) == [(1, text)]


def test_a_group_that_is_too_long_for_one_text_of_rows_is_written_whole(
    open_book: OpenBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "ROWS_BYTES", 1_000)
    answers = list(range(1_000))
    open_book().ended(*answers)
    assert [job.answer for job in open_book().loaded.ended] == answers


# At the start


def test_starts_are_counted(open_book: OpenBook) -> None:
    assert [open_book().journal.boot for _ in range(3)] == [1, 2, 3]


def test_the_first_start_of_a_journal_has_the_number_that_it_is_given(tmp_path: Path) -> None:
    """A worker may bring what it did for a journal that is gone: leases of two are to differ."""
    path = str(tmp_path / "journal.db")
    boots = []
    for first in (58_000, 61_000):
        journal = Journal(path, first_boot=first)
        boots.append(journal.boot)
        journal.close()
    assert boots == [58_000, 58_001]


def test_ended_jobs_are_given_in_the_order_of_their_ends(open_book: OpenBook) -> None:
    book = open_book()
    jobs = book.accept(*["1+1"] * 4)
    book.write()
    for group in ([3, 0], [2], [1]):
        for place in group:
            book.end(jobs[place], place)
        book.write()
    assert [job.number for job in open_book().loaded.ended] == [4, 1, 3, 2]


def test_the_last_ended_jobs_are_loaded_up_to_a_number_and_to_their_bytes(book: Book) -> None:
    book.ended(*range(10), 10**4000)
    load = book.journal.load
    assert [job.answer for job in load(2, 10**9, 0.0).ended] == [9, 10**4000]
    assert load(0, 10**9, 0.0).ended == []
    assert [job.answer for job in load(100, 2_010, 0.0).ended] == [8, 9, 10**4000]
    assert load(100, 1_000, 0.0).ended == []


def test_formulas_come_some_at_a_time(open_book: OpenBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "TEXTS_CHARS", 5)
    book = open_book()
    book.accept("1+1", "2+2", "3+3", "4+4")
    book.write()
    journal = open_book().journal
    assert formulas(journal, 0) == [(1, "1+1"), (2, "2+2")]
    assert formulas(journal, 2) == [(3, "3+3"), (4, "4+4")]
    assert formulas(journal, 4) == []


def test_formulas_are_those_from_before_the_start(open_book: OpenBook) -> None:
    """A job that is accepted while others are read again is under way already."""
    book = open_book()
    book.accept("1+1")
    book.write()
    book = open_book()
    book.accept("2+2")
    book.write()
    assert formulas(book.journal, 0) == [(1, "1+1")]


def test_numbers_of_jobs_go_on_also_after_all_are_deleted(open_book: OpenBook) -> None:
    book = open_book(retention=Retention(age_max_s=DAY_S))
    book.ended(1, 2, 3)
    book.now += 2 * DAY_S
    book.journal.write(Facts([], []), book.now)
    book = open_book()
    assert (book.loaded.last, book.loaded.ended) == (3, [])
    assert only(book.accept("1+1")).number == 4


def test_the_number_of_a_job_that_is_deleted_in_the_group_it_came_with_is_not_used_again(
    open_book: OpenBook,
) -> None:
    book = open_book(retention=Retention(jobs_max=1))
    job = only(book.accept("1+1"))
    book.write()
    book.now += 10  # Old ones are looked for.
    book.accept("7")
    book.end(job, 2)
    book.write()
    assert open_book().loaded.last == 2


# Keys


def test_a_key_is_known_after_a_restart_and_its_jobs_are_not_accepted_again(
    open_book: OpenBook,
) -> None:
    book = open_book()
    book.accept("1+1", "2", key="k", digest="d")
    assert not book.write()
    book = open_book()
    book.accept("1+1", "2", key="k", digest="e")
    ((submission, known),) = book.write().items()
    assert submission.digest == "e"
    assert (known.digest, known.first, known.count) == ("d", 1, 2)
    book.jobs.check()
    loaded = open_book().loaded
    assert [job.number for job in loaded.waiting] == [1]
    assert [job.number for job in loaded.ended] == [2]


def test_of_two_submissions_with_a_key_in_one_group_the_second_is_a_repeat(book: Book) -> None:
    book.accept("1+1", key="k", digest="d")
    book.accept("1+1", key="k", digest="d")
    book.accept("1+1", key="other")
    book.accept("1+1")
    book.accept("1+1")
    ((submission, known),) = book.write().items()
    assert [job.number for job in submission.jobs] == [2]
    assert known.first == 1
    assert [job.number for job in book.journal.load(0, 0, 0.0).waiting] == [1, 3, 4, 5]


def test_what_is_known_of_a_key_can_be_asked(book: Book) -> None:
    book.accept("1+1", "1+2", key="k", digest="d")
    book.write()
    known = book.journal.submission("k")
    assert known is not None
    assert (known.digest, known.first, known.count) == ("d", 1, 2)
    assert book.journal.submission("other") is None


# Ended jobs by their numbers


def test_those_of_the_jobs_that_have_ended_are_found(book: Book) -> None:
    book.ended(5, 6, 7)
    book.accept("1+1")
    book.write()
    found = book.journal.ended([3, 1, 4, 10**18 - 1])
    assert {number: job.answer for number, job in found.items()} == {1: 5, 3: 7}


# Workers


def test_workers_that_do_not_announce_themselves_again_are_remembered_for_some_time(
    open_book: OpenBook,
) -> None:
    book = open_book(retention=Retention(age_max_s=DAY_S))
    old = Announcement("old", "10.0.0.1:6000")
    moved = Announcement("new", "10.0.0.2:6000", slots=3, batch_max=5)
    book.journal.remember(old, book.now - 2 * DAY_S)
    book.journal.remember(Announcement("before", "10.0.0.2:6000"), book.now - 2 * DAY_S)
    book.journal.remember(moved, book.now)
    assert open_book(retention=Retention(age_max_s=DAY_S)).loaded.workers == [moved]


# Failures


def test_no_statement_needs_a_new_sqlite(book: Book) -> None:
    """3.37 is common, and does not know ``->>``."""
    statements: list[str] = []
    book.journal._db.set_trace_callback(statements.append)
    book.accept("1+1", key="k")
    book.write()
    book.ended(1, 2)
    book.journal.ended([1])
    book.accept_plan("a", notify="http://10.0.0.1/")
    book.write()
    job = book.jobs.job(4)
    book.step(calls_of(job)["a"])
    book.jobs.cancel(1.0, job)
    book.end(job, b"{}")
    book.write()
    book.journal.unfinished(0)
    book.journal.plans([4])
    book.journal.deliveries(1.0)
    book.journal.delivered([4])
    book.now += DAY_S * 10
    book.journal.write(Facts([], []), book.now)
    book.journal.submission("k")
    book.journal.load(10, 10**6, 0.0)
    book.journal._db.set_trace_callback(None)
    text = " ".join(statements)
    assert "json_extract" in text
    assert not [word for word in ("->", "RETURNING", "STRICT", "jsonb") if word in text]


def test_a_group_that_does_not_fit_is_not_written_at_all_and_the_next_may_be(book: Book) -> None:
    waiting = only(book.accept("1+1", key="first"))
    book.write()
    limit_pages(book.journal, more=5)
    book.end(waiting, 2)
    book.accept("1" + " " * 16_000 + "+2", "1" + " " * 16_000 + "+2", key="second")
    facts = book.jobs.facts()
    assert facts is not None
    with pytest.raises(JournalFailed, match="SQLITE_FULL") as failed:
        book.journal.write(facts, book.now)
    assert failed.value.full
    loaded = book.journal.load(10, 10**6, 0.0)
    assert [job.number for job in loaded.waiting] == [1]
    assert not loaded.ended
    assert loaded.last == 1
    assert book.journal.submission("second") is None
    limit_pages(book.journal, more=1_000)
    book.journal.write(facts, book.now)
    assert [job.number for job in book.journal.load(10, 10**6, 0.0).waiting] == [2, 3]


def test_a_failure_that_is_not_for_want_of_space_says_what_it_is(book: Book) -> None:
    with forbidding_writes(book.journal):
        with pytest.raises(JournalFailed, match="SQLITE_READONLY") as failed:
            book.journal.write(Facts([], []), 1e12)
        assert not failed.value.full
        with pytest.raises(JournalFailed, match="SQLITE_READONLY"):
            book.journal.probe()
        with pytest.raises(JournalFailed, match="SQLITE_READONLY"):
            book.journal.remember(Announcement("w", "10.0.0.1:6000"), 0.0)
    book.journal.probe()
    book.ended(1)


def test_a_bug_does_not_leave_a_transaction_open(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "encode", lambda value: 1 / 0)
    book.accept("1+1", key="k")
    facts = book.jobs.facts()
    assert facts is not None
    with pytest.raises(ZeroDivisionError):
        book.journal.write(facts, book.now)
    monkeypatch.undo()
    assert book.journal.submission("k") is None
    assert not book.journal.write(facts, book.now)


def test_what_cannot_be_read_is_a_failure_too() -> None:
    journal = Journal(":memory:")
    journal.close()
    for read in (
        lambda: journal.ended([1]),
        lambda: journal.unfinished(0),
        lambda: journal.submission("k"),
        lambda: journal.plans([1]),
        lambda: journal.deliveries(1.0),
    ):
        with pytest.raises(JournalFailed, match="closed"):
            read()


def formulas(journal: Journal, after: int) -> list[tuple[int, str]]:
    return [(job.number, job.text) for job in journal.unfinished(after)]


def limit_pages(journal: Journal, more: int) -> None:
    """Let a journal grow by so many pages, as on a disk that is nearly full."""
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages + more}")


@contextmanager
def forbidding_writes(journal: Journal) -> Iterator[None]:
    """Let writes fail as long as a ``with`` block goes on."""
    journal._db.execute("PRAGMA query_only = 1")
    yield
    journal._db.execute("PRAGMA query_only = 0")


# Damage


def test_nothing_is_written_any_more_once_a_write_met_damage(
    open_book: OpenBook, tmp_path: Path
) -> None:
    path = tmp_path / "dte.db"
    fill(open_book(), 300)
    open_book().close()
    journal = Journal(str(path))
    garble(path, range(5, pages_of(path) + 1), seed=1)
    with pytest.raises(JournalFailed) as raised:
        write_one(journal, 10_001)
    assert raised.value.damaged
    assert journal.damage is raised.value
    files = path, tmp_path / "dte.db-wal"
    before = [file.read_bytes() for file in files]
    for write in (
        lambda: write_one(journal, 20_000),
        journal.probe,
        lambda: journal.remember(Announcement("w", "127.0.0.1:1"), 1.0),
        lambda: journal.remember_replaced({}),
        lambda: journal.delivered([1]),
    ):
        with pytest.raises(JournalFailed) as again:
            write()
        assert again.value.damaged
    journal.close()
    assert [file.read_bytes() for file in files] == before
    assert len(before[1]) > 0, "the log has what was written before"


def write_one(journal: Journal, number: int) -> None:
    """Have a job accepted and ended."""
    book = Book()
    book.jobs.restore(number - 1, [], [])
    book.accept(f"{number}", key=f"key {number}")
    facts = book.jobs.facts()
    assert facts is not None
    journal.write(facts, 1.0)
    book.close()
