"""What the journal knows of plans and calls, and who is to be told of ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dte.core.graph.call import CallRecord, CallState
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import Job, JobState
from dte.master.journal import calls as journal_calls
from dte.master.journal import retention
from dte.master.journal.journal import Journal
from dte.master.journal.retention import Retention
from dte.master.journal.schema import JournalFailed

from .book import OFFSET_S, Book, calls_of

URL = "http://10.0.0.9/ended"
OpenBook = Callable[..., Book]


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


def records(journal: Journal, number: int = 1) -> dict[str, CallRecord]:
    """What a journal knows of the calls of a job, by name."""
    _, found = journal.plans([number]).get(number, (None, []))
    return {record.name: record for record in found}


def exact(record: CallRecord) -> CallRecord:
    """A record whose moments are as exact as seconds since 1970 are."""

    def rounded(moment: float | None) -> float | None:
        return None if moment is None else round(moment, 5)

    return replace(
        record,
        started_at=rounded(record.started_at),
        ended_at=rounded(record.ended_at),
        resumes_at=rounded(record.resumes_at),
    )


# Plans


def test_a_job_with_a_plan_waits_with_its_plan_after_a_restart(open_book: OpenBook) -> None:
    book = open_book()
    book.accept("1+1")
    book.accept_plan("a", "b", task="2 calls: echo")
    book.write()
    book = open_book()
    assert [job.task for job in book.loaded.waiting] == ["1+1", "2 calls: echo"]
    formula, planned = book.journal.unfinished(0)
    assert (formula.number, formula.text, formula.plan) == (1, "1+1", None)
    assert (planned.number, planned.text, planned.plan) == (2, "2 calls: echo", '["a","b"]')
    assert planned.records == []
    assert set(calls_of(book.jobs.job(2))) == {"a", "b"}


@pytest.mark.parametrize(
    "plan",
    [
        *('{"a":"\\u0000"}', '"\\ud800"', "[1.0,1e400,-0.0]", "a\0b", "\0", " ", '"ä\U0001f600"'),
        '"' + "x" * 2_000_000 + '"',
    ],
    ids=lambda plan: f"{plan!r:.20}",
)
def test_any_plan_is_kept_as_it_was(plan: str) -> None:
    book = Book()
    book.accept_plan("a", task=plan[:100], plan=plan)
    book.write()
    assert book.journal.plans([1]) == {1: (plan, [])}
    assert [job.task for job in book.journal.load(0, 0, 0.0).waiting] == [plan[:100]]
    book.close()


def test_what_is_no_character_keeps_no_plan_from_being_written(book: Book) -> None:
    book.accept_plan("a", task="\ud800", plan="\udfff", notify="http://\ud800/")
    book.write()
    assert book.journal.plans([1]) == {1: ("?", [])}


def test_a_plan_is_known_as_long_as_its_job_is(open_book: OpenBook) -> None:
    book = open_book()
    job = book.accept_plan("a")
    book.accept("1+1")
    book.write()
    book.end(job, b"1")
    book.write()
    journal = open_book().journal
    assert list(journal.plans([1, 2, 3])) == [1]
    assert journal.plans([1])[1][0] == '["a"]'


@pytest.mark.parametrize("trace", ["in f\n", "a\0b", "ä\U0001f600" * 10_000, "\ud800"])
def test_a_job_has_its_trace_after_a_restart(open_book: OpenBook, trace: str) -> None:
    book = open_book()
    job = book.accept_plan("a")
    book.write()
    book.jobs.end(book.now, job, error="a\0b", trace=trace)
    book.core.calls.jobs.end_calls(book.now, job)
    book.write()
    (ended,) = open_book().journal.load(10, 10**6, 0.0).ended
    assert (ended.error, ended.trace) == ("a\0b", trace.replace("\ud800", "?"))
    assert ended.state is JobState.FAILED


def test_a_retry_is_known_as_long_as_its_job_is(open_book: OpenBook) -> None:
    book = open_book()
    book.accept_plan("a", retry_of=7)
    book.write()
    book = open_book(retention=Retention(jobs_max=1))
    assert [job.retry_of for job in book.loaded.waiting] == [7]
    book.end(book.jobs.job(1), b"1")
    book.write()
    assert book.journal.ended([1])[1].retry_of == 7
    assert book.count("retry") == 1
    book.ended(2, 3)
    book = open_book(retention=Retention(jobs_max=1))
    book.journal.write(Facts([], []), book.now)
    assert book.journal.ended([1]) == {}
    assert book.count("retry") == 0


# Calls


RECORDS = st.builds(
    CallRecord,
    name=st.just("a"),
    state=st.sampled_from([None, *list(CallState)[-4:]]),
    attempts=st.integers(0, 10**6),
    failures=st.integers(0, 10**6),
    lost=st.integers(0, 10**6),
    lease=st.integers(0, 2**62),
    lease_s=st.sampled_from([0.0, 2.5, 10.0]),
    worker=st.text(st.characters(exclude_categories=["Cs"])),
    started_at=st.none() | st.just(1.5),
    ended_at=st.none() | st.just(2.25),
    resumes_at=st.none() | st.just(1e6),
    value=st.none() | st.binary() | st.text().map(lambda text: text.encode(errors="replace")),
    error=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    trace=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)


@given(RECORDS)
def test_a_record_of_a_call_is_read_back_as_it_was(record: CallRecord) -> None:
    book = Book()
    call = calls_of(book.accept_plan("a"))["a"]
    book.write()
    written = book.step(call, **{name: getattr(record, name) for name in record.__slots__})
    book.write()
    assert exact(records(book.journal)["a"]) == exact(written)
    book.close()


VALUES = [
    *(b"", b"null", b"0", b"-0.0", b"1e400", b'""', b'"\\u0000"', b'"\\ud800"', b'"\\""', b"\\"),
    *(b"\0", b'"a\0b"', b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf1", b" [1 ,\t2]\r\n", b"\x01\x7f"),
    *('"ä\u2028\U0001f600"'.encode(), b"9" * 5_000, b"[" * 2_000 + b"]" * 2_000),
    b'"' + b"x" * 1_000_000 + b'"',
    b'"' + b"\\u0000\xff\0" * 100_000 + b'"',
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.20}")
def test_what_a_worker_gave_back_is_kept_byte_for_byte(open_book: OpenBook, value: bytes) -> None:
    book = open_book()
    job = book.accept_plan("a", "b")
    book.write()
    book.step(calls_of(job)["a"], CallState.SUCCEEDED, value=value)
    book.write()
    assert records(open_book().journal)["a"].value == value


def test_of_several_steps_of_a_call_the_last_counts(book: Book) -> None:
    job = book.accept_plan("a", "b")
    book.write()
    a, b = calls_of(job).values()
    book.step(a, attempts=1, lease=7, worker="w")
    book.step(b, attempts=1, lease=8)
    book.step(a, attempts=1, failures=1, resumes_at=5.0, value=b"\xff")
    book.write()
    assert records(book.journal)["a"].failures == 1
    assert records(book.journal)["b"].lease == 8
    book.step(a, attempts=2, lease=9)
    book.write()
    found = records(book.journal)["a"]
    assert (found.attempts, found.lease, found.resumes_at, found.value) == (2, 9, None, None)


@given(st.text(st.characters(categories=["Cs", "Cc", "Lo", "So", "Po"])))
@example("\ud800")
@example("\0\udfff")
def test_nothing_that_a_worker_says_keeps_the_journal_from_being_written(text: str) -> None:
    book = Book()
    call = calls_of(book.accept_plan("a"))["a"]
    book.write()
    book.step(call, CallState.FAILED, worker=text, error=text, value=b"\xff\xfe")
    book.write()
    found = records(book.journal)["a"]
    assert found.error == found.worker == text.encode(errors="replace").decode()
    book.close()


def test_a_job_goes_on_with_what_was_known_of_its_calls(open_book: OpenBook) -> None:
    book = open_book()
    job = book.accept_plan("a", "b", "c")
    book.accept_plan("a")
    book.write()
    book.step(calls_of(job)["a"], CallState.SUCCEEDED, value=b"1")
    book.step(calls_of(job)["b"], attempts=1, lease=7, worker="w")
    book.write()
    first, second = open_book().journal.unfinished(0)
    assert [(record.name, record.state, record.lease) for record in first.records] == [
        ("a", CallState.SUCCEEDED, 0),
        ("b", None, 7),
    ]
    assert second.records == []


def test_calls_of_a_formula_without_a_plan_are_known_too(open_book: OpenBook) -> None:
    book = open_book()
    (job,) = book.accept("echo(3)*2")
    book.write()
    (call,) = calls_of(job).values()
    book.step(call, attempts=1, lease=7)
    book.write()
    book = open_book()
    (found,) = book.journal.unfinished(0)
    assert (found.text, found.plan, found.records[0].lease) == ("echo(3)*2", None, 7)
    book.end(book.jobs.job(1), 6)
    book.write()
    plan, (record,) = open_book().journal.plans([1])[1]
    assert (plan, record.state) == (None, CallState.CANCELLED)


def test_when_a_job_ends_what_became_of_all_its_calls_is_written(open_book: OpenBook) -> None:
    book = open_book()
    job = book.accept_plan("done", "known", "late", "never")
    book.write()
    calls = calls_of(job)
    book.step(calls["known"], CallState.FAILED, error="as it was")
    book.write()
    calls["known"].recorded = True
    calls["known"].record.error = "another"
    calls["done"].conclude(1.0, CallState.SUCCEEDED, b"[1]")
    calls["done"].enter(CallState.SUCCEEDED)
    book.step(calls["late"], attempts=1, lease=5)
    calls["late"].end(1.0, CallState.TIMED_OUT, "too late")
    book.end(job, error="node 'known': as it was")
    book.write()
    found = records(open_book().journal)
    assert {name: (record.state, record.error) for name, record in found.items()} == {
        "done": (CallState.SUCCEEDED, None),
        "known": (CallState.FAILED, "as it was"),
        "late": (CallState.TIMED_OUT, "too late"),
        "never": (CallState.CANCELLED, found["never"].error),
    }
    assert found["done"].value == b"[1]"
    assert found["late"].lease == 0


def test_results_that_are_taken_over_from_another_job_are_written_with_it(
    open_book: OpenBook,
) -> None:
    book = open_book()
    first = book.accept_plan("a", "b")
    book.write()
    taken = book.step(calls_of(first)["a"], CallState.SUCCEEDED, value=b"\xff", ended_at=2.5)
    book.write()
    book.accept_plan("a", "b", records=[taken])
    book.write()
    assert exact(records(open_book().journal, 2)["a"]) == exact(taken)


def test_of_a_repeat_nothing_is_written(book: Book) -> None:
    book.accept_plan("a", key="k")
    book.write()
    taken = CallRecord("a", CallState.SUCCEEDED, 1, 0, 0, 0, 0.0, "w", None, None, None, b"1", None)
    book.accept_plan("a", key="k", records=[taken], notify=URL)
    assert len(book.write()) == 1
    assert [book.count(table) for table in ("plan", "call", "waiting")] == [1, 0, 1]


def test_a_group_that_does_not_fit_leaves_nothing_of_its_plans_and_calls(book: Book) -> None:
    job = book.accept_plan("a", notify=URL)
    book.write()
    (pages,) = book.journal._db.execute("PRAGMA page_count").fetchone()
    book.journal._db.execute(f"PRAGMA max_page_count = {pages + 5}")
    calls_of(job)["a"].enter(CallState.SUCCEEDED)
    calls_of(job)["a"].record.value = b"x" * 100_000
    book.accept_plan("b")
    book.end(job, b"1")
    book.jobs.cancel(1.0, job)
    facts = book.jobs.facts()
    assert facts is not None
    with pytest.raises(JournalFailed, match="SQLITE_FULL"):
        book.journal.write(facts, book.now)
    assert [book.count(table) for table in ("waiting", "plan", "call", "notice")] == [1, 1, 0, 0]
    assert not book.journal.load(0, 0, 0.0).waiting[0].cancelled


# Ends


@pytest.mark.parametrize(
    ("answer", "error", "state"),
    [
        *((b"7", None, JobState.SUCCEEDED), (7, None, JobState.SUCCEEDED)),
        *((b"7.0", None, JobState.SUCCEEDED), (7.0, None, JobState.SUCCEEDED)),
        *((b"", None, JobState.SUCCEEDED), (b'"\\u0000"', None, JobState.SUCCEEDED)),
        *((b"\xff\0", None, JobState.SUCCEEDED), (b"1" * 1_000_000, None, JobState.SUCCEEDED)),
        *((None, "no", JobState.FAILED), (None, "slow", JobState.TIMED_OUT)),
        *((None, "cancelled", JobState.CANCELLED), (None, "a\0b", JobState.CANCELLED)),
    ],
    ids=lambda value: f"{value!r:.20}",
)
@pytest.mark.parametrize("planned", [True, False], ids=["plan", "formula"])
def test_how_a_job_ended_is_read_back_exactly(
    open_book: OpenBook,
    answer: int | bytes | None,
    error: str | None,
    state: JobState,
    planned: bool,
) -> None:
    book = open_book()
    job = book.accept_plan("a") if planned else book.accept("1+1")[0]
    (other,) = book.accept("1+2")
    book.write()
    book.end(job, answer, error, state)
    book.end(other, 3)
    book.write()
    found, also = open_book().loaded.ended
    assert (found.answer, found.error, found.state) == (answer, error, state)
    assert type(found.answer) is type(answer)
    assert (also.answer, also.error, also.state) == (3, None, JobState.SUCCEEDED)


def test_long_answers_count_for_what_is_loaded(book: Book) -> None:
    for _ in range(3):
        job = book.accept_plan("a")
        book.write()
        book.end(job, b"1" * 1_000)
        book.write()
    assert len(book.journal.load(10, 2_500, 0.0).ended) == 2


# Cancelling


def test_that_a_job_is_to_be_cancelled_is_known_after_a_restart(open_book: OpenBook) -> None:
    book = open_book()
    jobs = [book.accept_plan("a") for _ in range(3)]
    book.write()
    book.jobs.cancel(1.0, jobs[0])
    book.jobs.cancel(1.0, jobs[2])
    book.write()
    assert [job.cancelled for job in open_book().loaded.waiting] == [True, False, True]


def test_cancelling_looks_for_no_other_jobs(book: Book) -> None:
    """Which would take long when many wait."""
    plan = book.journal._db.execute(
        f"EXPLAIN QUERY PLAN {journal_calls.CANCEL}", ("[[1,2]]",)
    ).fetchall()
    assert not [step for *_, step in plan if step.startswith("SCAN waiting")]


# Webhooks


def test_who_is_to_be_told_of_an_end_is_known_until_they_are(open_book: OpenBook) -> None:
    book = open_book()
    jobs = [book.accept_plan("a", notify=f"{URL}{place}") for place in range(3)]
    silent = book.accept_plan("a")
    book.write()
    assert book.journal.deliveries(book.now) == []
    for job in (jobs[1], silent, jobs[0]):
        book.now += 1
        book.end(job, b"1")
    book.write()
    journal = open_book().journal
    first, second = journal.deliveries(11.0)
    assert (first[:2], second[:2]) == ((2, f"{URL}1"), (1, f"{URL}0"))
    assert (first[2], second[2]) == (1.0, 1.0), "they are ten seconds old: since the second start"
    journal.delivered([2, 99])
    assert [number for number, *_ in open_book().loaded.deliveries] == [1]


def test_times_are_read_as_they_were_written_whatever_the_clock_shows(open_book: OpenBook) -> None:
    book = open_book()
    job = book.accept_plan("a")
    book.write()
    book.step(calls_of(job)["a"], started_at=OFFSET_S + 3, ended_at=None, resumes_at=OFFSET_S + 9)
    book.write()
    (record,) = open_book().journal.unfinished(0)[0].records
    assert (record.started_at, record.ended_at) == (OFFSET_S + 3, None)
    assert record.resumes_at == OFFSET_S + 9


# What is deleted


TABLES = ("ended", "plan", "call", "notice")


def ended_plan(book: Book, *names: str) -> Job:
    """A job with calls that has ended, and is written."""
    job = book.accept_plan(*names, notify=URL)
    book.write()
    book.end(job, b"1")
    book.write()
    return job


def test_with_an_old_job_all_that_is_known_of_it_is_deleted(open_book: OpenBook) -> None:
    book = open_book(retention=Retention(jobs_max=1))
    ended_plan(book, "a", "b")
    waiting = book.accept_plan("a")
    book.write()
    book.step(calls_of(waiting)["a"], lease=7)
    book.write()
    assert [book.count(table) for table in TABLES] == [1, 2, 3, 1]
    book.now += 2
    (young,) = book.ended(7)
    book.now += 2
    book.journal.write(Facts([], []), book.now)
    assert [book.count(table) for table in TABLES] == [1, 1, 1, 0]
    assert list(book.journal.ended([1, young.number])) == [young.number]
    assert open_book().journal.unfinished(0)[0].records[0].lease == 7


def test_jobs_with_many_calls_are_deleted_a_few_at_a_time(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of calls count as jobs do, so no commit takes long for them."""
    for _ in range(6):
        ended_plan(book, *"abcdefghij")
    ended_plan(book, *map(str, range(50)))
    book.ended(1, 2)
    monkeypatch.setattr(retention, "PRUNED_AT_LEAST", 20)
    book.journal._pruning._retention, book.journal._pruning._added = Retention(jobs_max=0), 0
    left = []
    for _ in range(5):
        book.now += 2
        book.journal.write(Facts([], []), book.now)
        left.append((book.count("ended"), book.count("call")))
    assert left == [(7, 90), (5, 70), (3, 50), (2, 0), (0, 0)]
    assert book.count("plan") == book.count("notice") == 0


def test_records_are_written_in_the_order_of_their_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any other, SQLite reads long results to find the place of each."""
    monkeypatch.setattr(journal_calls, "SORTED_AT_ONCE", 10)
    keys = [(number, f"n{(7 * node) % 23}") for number in (9, 2) for node in range(23)]
    records = {key: CallRecord(key[1]) for key in keys}
    found = list(journal_calls.in_key_order(records))
    assert [key for key, _ in found] == sorted(keys)
    assert all(records[key] is record for key, record in found)
