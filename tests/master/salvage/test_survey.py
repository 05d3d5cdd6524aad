"""Pages at wrong places and lost rows cost little, and nothing that is in doubt runs."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dte.core.graph.call import CallState
from dte.core.jobs.job import JobState
from dte.master.journal.schema import APPLICATION_ID, statements
from dte.master.salvage.outcome import Salvaged
from master.journal.book import Book, calls_of

from .damage import (
    PAGE,
    PLAN,
    content,
    fill,
    fill_with_extremes,
    free_pages,
    garble,
    pages_of,
    pages_of_kind,
    salvaged,
)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new.db"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with a third of its jobs waiting, most of them with plans and records of calls."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.db"
    book = Book(path)
    fill(book, 600, waits=20)
    jobs = [book.accept_plan("a", "b", plan=PLAN, task="2 calls") for _ in range(400)]
    book.write()
    for job in jobs[::2]:
        book.step(calls_of(job)["a"], CallState.SUCCEEDED, value=b"1" * 200, worker="w")
    book.write()
    fill_with_extremes(book)
    book.close()
    return path


def page_of(raw: bytes, page: int) -> bytes:
    return raw[(page - 1) * PAGE : page * PAGE]


def replaced(raw: bytes, pages: dict[int, bytes]) -> bytes:
    """A journal with other contents at the places of some pages."""
    for at, page in pages.items():
        raw = raw[: (at - 1) * PAGE] + page + raw[at * PAGE :]
    return raw


def roots_of(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))


def in_trees(path: Path) -> list[int]:
    """The pages of tables and indexes that are in use."""
    kinds = pages_of_kind(path, 0x02, 0x05, 0x0A, 0x0D)
    return [page for page in kinds if page not in free_pages(path)]


def check_saved(path: Path, new: Path, whole: dict[str, list[tuple[Any, ...]]]) -> Salvaged:
    """Save a journal, and check that nothing runs that is in doubt, and nothing is invented."""
    new.unlink(missing_ok=True)
    done = salvaged(path, new)
    saved = content(new)
    made = {*done.failed_jobs, *done.rebuilt_jobs}
    jobs = [row[1] for row in saved["ended"]] + [row[0] for row in saved["waiting"]]
    once = {row[1] for row in whole["ended"]} | {row[0] for row in whole["waiting"]}
    assert len(jobs) == len({*jobs})
    assert {*jobs} <= once
    unknown = {n for low, high in done.unknown_jobs for n in range(low, high + 1)}
    assert once - {*jobs} <= {*done.lost_jobs} | unknown
    assert {row for row in saved["ended"] if row[1] not in made} <= {*whole["ended"]}
    for name in ("waiting", "call", "submission", "retry"):
        assert {*saved[name]} <= {*whole[name]}, name
    waiting = {row[0] for row in saved["waiting"]}
    lost = {row[0] for row in {*whole["call"]} - {*saved["call"]}}
    assert not waiting & lost, "no job runs if records of its calls are lost"
    return done


def test_a_root_at_the_place_of_another_one_costs_nothing(
    mixed: Path, tmp_path: Path, new: Path
) -> None:
    """A page counts by what it holds, not by what leads to it."""
    raw, whole = mixed.read_bytes(), content(mixed)
    roots, path = roots_of(mixed), tmp_path / "dte.db"
    large = [roots[name] for name in ("waiting", "ended", "plan", "call")]
    assert {*large} <= {*pages_of_kind(mixed, 0x02, 0x05)}
    for at in large:
        for page in {*large, roots["worker"], roots["sqlite_autoindex_worker_1"]} - {at}:
            path.write_bytes(replaced(raw, {at: page_of(raw, page)}))
            done = check_saved(path, new, whole)
            assert not done.lost_jobs, f"page {page} at {at}"
            assert done.damaged_pages
            saved = content(new)
            check_claim(done, whole, saved)
            for name in ("waiting", "ended", "plan"):
                assert {*saved[name]} >= {*whole[name]} or at == roots["call"], (page, at)


def check_claim(
    done: Salvaged, whole: dict[str, list[tuple[Any, ...]]], saved: dict[str, list[tuple[Any, ...]]]
) -> None:
    """Nothing is said to be lost exactly if every row is there, as far as that can be known."""
    if done.is_whole:
        for name in {*whole} - {"master", "generation"}:
            assert {*saved[name]} >= {*whole[name]}, name


def test_nothing_is_said_to_be_lost_only_if_all_is_there(
    mixed: Path, tmp_path: Path, new: Path
) -> None:
    raw, whole, path = mixed.read_bytes(), content(mixed), tmp_path / "dte.db"
    inner, claimed = {*pages_of_kind(mixed, 0x05)}, set()
    for page in range(1, pages_of(mixed) + 1):
        path.write_bytes(raw)
        garble(path, [page], seed=page)
        done = salvaged(path, new)
        check_claim(done, whole, content(new))
        if done.is_whole:
            claimed.add(page)
        new.unlink()
    assert inner <= claimed, "all leaves were found"


@pytest.mark.parametrize("seed", range(6))
def test_two_pages_that_changed_places_cost_nothing(
    mixed: Path, tmp_path: Path, new: Path, seed: int
) -> None:
    raw, whole, path = mixed.read_bytes(), content(mixed), tmp_path / "dte.db"
    trees = in_trees(mixed)
    chance = random.Random(seed)
    for _ in range(4):
        one, other = chance.sample(trees, 2)
        path.write_bytes(replaced(raw, {one: page_of(raw, other), other: page_of(raw, one)}))
        check_saved(path, new, whole)
        saved = content(new)
        for name in ("ended", "plan", "call", "submission"):
            assert {*saved[name]} >= {*whole[name]}, (name, one, other)


@pytest.mark.parametrize("seed", range(12))
def test_a_page_at_a_wrong_place_costs_what_was_there(
    mixed: Path, tmp_path: Path, new: Path, seed: int
) -> None:
    raw, whole, path = mixed.read_bytes(), content(mixed), tmp_path / "dte.db"
    chance, trees = random.Random(seed), in_trees(mixed)
    page, at = chance.sample(trees, 2)
    path.write_bytes(replaced(raw, {at: page_of(raw, page)}))
    done = check_saved(path, new, whole)
    assert done.damaged_pages
    check_claim(done, whole, content(new))
    assert len(done.lost_jobs) < 100, (page, at)
    damaged = [number for number in done.damaged_pages if number != at]
    assert not damaged or at in roots_of(mixed).values()


@pytest.mark.parametrize("seed", range(12))
def test_four_damaged_pages_anywhere_bring_no_call_back(
    mixed: Path, tmp_path: Path, new: Path, seed: int
) -> None:
    raw, whole, path = mixed.read_bytes(), content(mixed), tmp_path / "dte.db"
    path.write_bytes(raw)
    chance = random.Random(seed)
    pool = range(1, 30) if seed % 3 == 0 else range(1, pages_of(path) + 1)
    garble(path, chance.sample(pool, 4), seed * (seed % 2))
    done = check_saved(path, new, whole)
    planned = {row[0] for row in whole["plan"]}
    assert not planned & {*done.lost_jobs} or "plan" in done.lost_rows, "plans keep their jobs"


@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_file_that_ends_at_any_eighth_brings_no_call_back(
    mixed: Path, tmp_path: Path, new: Path, eighth: int
) -> None:
    """Inner pages lead to leaves that are cut off, and some inner pages are cut off, too."""
    raw, whole, path = mixed.read_bytes(), content(mixed), tmp_path / "dte.db"
    path.write_bytes(raw[: len(raw) * eighth // 8])
    new.unlink(missing_ok=True)
    salvaged(path, new)
    saved = content(new)
    lost = {row[0] for row in {*whole["call"]} - {*saved["call"]}}
    assert not {row[0] for row in saved["waiting"]} & lost
    assert {*saved["waiting"]} <= {*whole["waiting"]}


def test_a_formula_with_a_part_of_another_one_is_not_computed(tmp_path: Path, new: Path) -> None:
    """Long texts go on on further pages, and nothing but their lengths says where these belong."""
    path = tmp_path / "dte.db"
    book = Book(path)
    book.accept("1+" * 9_000 + "1", "111*" * 4_500 + "1", "2+" * 9_000 + "2")
    book.write()
    book.close()
    raw, tried = path.read_bytes(), 0
    further = pages_of_kind(path, 0x00)
    long = [page for page in further if b"1*111" in page_of(raw, page)]
    for at in [page for page in further if b"2+2+2+" in page_of(raw, page)]:
        for page in long:
            link = page_of(raw, at)[:4]
            path.write_bytes(replaced(raw, {at: link + page_of(raw, page)[4:]}))
            new.unlink(missing_ok=True)
            done = salvaged(path, new)
            saved = content(new)["waiting"]
            assert {row[0] for row in saved} <= {1, 2}
            assert 3 in done.failed_jobs, (at, page)
            tried += 1
    assert tried


def test_a_waiting_job_whose_row_is_lost_fails_and_can_be_retried(
    tmp_path: Path, new: Path
) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    book.accept("1+1")
    notified = PLAN[:-1] + ',"notify":"http://127.0.0.1:2/ended"}'
    kept = [book.accept_plan("a", "b", plan=notified, task="2 calls: echo") for _ in range(3)]
    book.write()
    for call in calls_of(kept[0]).values():
        book.step(call, CallState.SUCCEEDED, value=b'"done"', attempts=1, worker="w")
    book.write()
    book.close()
    garble(path, [roots_of(path)["waiting"]], seed=3)
    done = salvaged(path, new)
    assert (done.rebuilt_jobs, done.lost_jobs, done.failed_jobs) == ([2, 3, 4], [], [3, 4])
    assert done.unknown_jobs == [(1, 1)], "a formula is in its row alone"
    assert not done.is_whole
    with closing(sqlite3.connect(new)) as db:
        rows = db.execute(
            "SELECT number, task, state, operations, answer_json, error IS NULL FROM ended "
            "ORDER BY number"
        ).fetchall()
        assert rows == [
            (2, "2 calls: echo", "succeeded", 2, '{"a":"done","b":"done"}', 1),
            (3, "2 calls: echo", "failed", 2, None, 0),
            (4, "2 calls: echo", "failed", 2, None, 0),
        ]
        errors = db.execute("SELECT error FROM ended WHERE state = 'failed'").fetchall()
        assert all("its row was lost" in error for (error,) in errors)
        assert db.execute("SELECT count(*) FROM plan").fetchone() == (3,)
        webhooks = db.execute("SELECT number, url FROM notice").fetchall()
        assert webhooks == [(number, "http://127.0.0.1:2/ended") for number in (2, 3, 4)]


def test_an_ended_job_whose_row_is_lost_keeps_its_answer_and_its_place(
    tmp_path: Path, new: Path
) -> None:
    """The index of ended jobs knows when it ended, and the records of its calls know its answer."""
    path = tmp_path / "dte.db"
    book = Book(path)
    jobs = [book.accept_plan("a", "b", plan=PLAN, task="2 calls: echo") for _ in range(3)]
    book.write()
    for job in (jobs[2], jobs[0]):
        for call in calls_of(job).values():
            book.step(call, CallState.SUCCEEDED, value=b'"of %d"' % job.number, worker="w")
        book.write()
        book.end(job, b"{}")
    book.end(jobs[1], error="no", state=JobState.FAILED)
    book.write()
    book.close()
    garble(path, [roots_of(path)["ended"]], seed=3)
    done = salvaged(path, new)
    assert (done.rebuilt_jobs, done.lost_jobs) == ([1, 2, 3], [])
    with closing(sqlite3.connect(new)) as db:
        rows = db.execute("SELECT number, state, answer_json FROM ended ORDER BY sequence")
        assert rows.fetchall() == [
            (3, "succeeded", '{"a":"of 3","b":"of 3"}'),
            (1, "succeeded", '{"a":"of 1","b":"of 1"}'),
            (2, "failed", None),
        ]
        assert "had ended" in db.execute("SELECT error FROM ended WHERE number = 2").fetchone()[0]
        assert db.execute("SELECT count(*) FROM notice").fetchone() == (0,), "told before"


def test_of_two_versions_of_a_record_the_newer_one_is_saved(tmp_path: Path, new: Path) -> None:
    """A page that was written at a wrong place leaves the older version at its own one."""
    path = tmp_path / "dte.db"
    book = Book(path)
    jobs = [book.accept_plan("a", "b", plan=PLAN, task="2 calls") for _ in range(40)]
    book.write()
    for job in jobs:
        book.step(calls_of(job)["a"], attempts=1, lease=job.number, worker="w" * 100)
    book.write()
    book.close()
    older = path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE call SET state = 'succeeded', value = '12', lease = 0")
        db.commit()
    newer, whole, roots = path.read_bytes(), content(path), roots_of(path)
    changed = [
        page
        for page in pages_of_kind(path, 0x0A)
        if page != roots["call"] and page_of(older, page) != page_of(newer, page)
    ]
    assert changed
    for page in changed:
        mixture = {page: page_of(older, page), roots["worker"]: page_of(newer, page)}
        path.write_bytes(replaced(newer, mixture))
        new.unlink(missing_ok=True)
        salvaged(path, new)
        assert {*content(new)["call"]} >= {*whole["call"]}, f"page {page}"


def test_a_job_of_an_older_journal_fails_where_it_is_in_doubt(tmp_path: Path, new: Path) -> None:
    """Older tables have fewer columns; the webhook of a job that fails is kept to be sent."""
    path, url = tmp_path / "dte.db", "http://127.0.0.1:2/ended"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2; "
            f"{statements(None, 2)}"
        )
        db.execute("INSERT INTO waiting VALUES (1, 1.0, 2, '2 calls: echo', NULL, NULL)")
        db.execute("INSERT INTO plan VALUES (1, ?)", (f'{PLAN[:-1]},"notify":"{url}"}}',))
        db.commit()
    garble(path, [roots_of(path)["call"]], seed=3)
    done = salvaged(path, new)
    assert done.failed_jobs == [1]
    assert [row[1] for row in content(new)["ended"]] == [1]
    assert content(new)["notice"] == [(1, url, 0.0)]
