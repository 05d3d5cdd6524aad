"""Damaged pages cost what is on them, and nothing that is in doubt runs."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dte.core.graph.call import CallState
from dte.core.jobs.job import JobState
from dte.master.journal.journal import Journal
from dte.master.journal.retention import Retention
from dte.master.journal.wal import FRAME_HEADER, frames, read_header
from dte.master.plans import LOST_PLAN
from dte.master.salvage.check import check
from master.journal.book import Book, calls_of

from .damage import (
    PAGE,
    PLAN,
    content,
    fill,
    fill_with_extremes,
    garble,
    jobs_in,
    pages_of,
    pages_of_kind,
    salvaged,
)

RENEWED = ("master", "generation")
"""Tables that a new journal has anew."""
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A journal of 9,000 jobs, and a small one with rare rows."""
    folder = tmp_path_factory.mktemp("journals")
    large, small = Book(folder / "large.db"), Book(folder / "small.db")
    fill(large, 9_000, waits=90)
    fill(small, 200, waits=10)
    fill_with_extremes(small)
    large.close()
    small.close()
    return {"large": folder / "large.db", "small": folder / "small.db"}


@pytest.fixture
def copy(journals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies one of the journals."""
    return lambda name: Path(shutil.copyfile(journals[name], tmp_path / "dte.db"))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new.db"


@pytest.mark.parametrize("name", ["large", "small"])
def test_a_journal_that_is_well_is_saved_whole(
    journals: dict[str, Path], new: Path, name: str
) -> None:
    before = journals[name].read_bytes()
    done = salvaged(journals[name], new)
    assert done.is_whole
    assert content(new, *RENEWED) == content(journals[name], *RENEWED)
    assert journals[name].read_bytes() == before


def test_each_damaged_page_costs_only_what_is_on_it(
    journals: dict[str, Path], copy: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = content(journals["small"], *RENEWED)
    last = max(jobs_in(journals["small"]))
    most = 0
    for number in range(1, pages_of(journals["small"]) + 1):
        path, new = copy("small"), tmp_path / f"{number}.db"
        garble(path, [number], seed=number % 2)
        done = salvaged(path, new)
        saved = content(new, *RENEWED)
        saved["plan"] = [row for row in saved["plan"] if row[1] != LOST_PLAN]
        failed = {*done.failed_jobs, *done.rebuilt_jobs}
        for name, rows in saved.items():
            changed = {row for row in rows if name == "ended" and row[1] in failed}
            assert {*rows} - changed <= {*whole[name]}, f"page {number}: rows of {name}"
            lost = len(whole[name]) - len(rows)
            if lost > 0 and name in ("ended", "call", "plan"):
                most = max(most, lost)
        known = {*jobs_in(new), *done.lost_jobs}
        assert done.last_job >= max(known)
        journal = Journal(str(new))
        assert journal.load(0, 0, 1.0).last >= last or number in done.damaged_pages
        journal.close()
    assert most < 150, "about the rows of one page"


@pytest.mark.parametrize("seed", range(1, 9))
def test_four_damaged_pages_of_9000_jobs_leave_the_others(
    copy: Callable[[str], Path], new: Path, seed: int
) -> None:
    path = copy("large")
    chosen = random.Random(seed).sample(range(1, pages_of(path) + 1), 4)
    garble(path, chosen, seed * (seed % 2))
    done = salvaged(path, new)
    kept = jobs_in(new)
    assert len(kept) > 9_000 - 4 * 100
    # A page may be damaged together with that of the index which names its jobs.
    unknown = [number for first, last in done.unknown_jobs for number in range(first, last + 1)]
    assert sorted([*kept, *done.lost_jobs, *unknown]) == [*range(1, 9_001)]
    assert done.last_job == 9_000
    assert {*done.damaged_pages} <= {*chosen}
    with closing(sqlite3.connect(new)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_damaged_inner_pages_and_the_first_page_lose_no_job(
    copy: Callable[[str], Path], new: Path
) -> None:
    path = copy("large")
    garble(path, [1, *pages_of_kind(path, 0x05)], seed=7)
    done = salvaged(path, new)
    assert not done.lost_jobs
    assert len(jobs_in(new)) == 9_000
    assert done.rows["plan"] == 1_800


def test_ids_of_which_nothing_is_left_are_unknown_unless_all_older_jobs_were_deleted(
    tmp_path: Path, new: Path
) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(*range(500))
    book.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM ended WHERE number <= 200")
        db.execute("UPDATE master SET last_job = 500")
        db.commit()
        db.execute("VACUUM")
        roots = db.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'ended'").fetchall()
    kept = jobs_in(path)
    leaves = [page for page in pages_of_kind(path, 0x0D) if (page,) not in roots]
    raw = path.read_bytes()
    named = 0
    for page in leaves:
        path.write_bytes(raw)
        # The index of numbers would name the jobs.
        garble(path, [page, *pages_of_kind(path, 0x02, 0x0A)], seed=page)
        new.unlink(missing_ok=True)
        done = salvaged(path, new)
        lost = {*kept} - {*jobs_in(new)} - {*done.lost_jobs}
        unknown = {n for low, high in done.unknown_jobs for n in range(low, high + 1)}
        inner = {number for number in lost if number > min(jobs_in(new))}
        assert inner <= unknown <= lost
        named += bool(unknown)
    assert named


def test_damaged_pages_of_other_tables_make_no_id_unknown(
    copy: Callable[[str], Path], new: Path
) -> None:
    path = copy("small")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM ended WHERE number = 55")
        db.commit()
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'submission'"
        (root,) = db.execute(query).fetchone()
    garble(path, [root])
    done = salvaged(path, new)
    assert not done.unknown_jobs
    assert done.lost_rows["submission"] == (0, 1)


def test_webhooks_of_lost_jobs_are_named(tmp_path: Path, new: Path) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    job = book.accept_plan("a", plan=PLAN, task="a call", notify="http://127.0.0.1:2/ended")
    book.write()
    book.end(job, error="no", state=JobState.FAILED)
    book.write()
    book.close()
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name IN ('ended', 'plan', 'call')"
        roots = [root for (root,) in db.execute(query)]
    garble(path, roots)
    done = salvaged(path, new)
    assert (done.lost_jobs, done.lost_webhooks) == ([1], [1])


def test_a_file_that_is_too_short_costs_its_end(copy: Callable[[str], Path], new: Path) -> None:
    path = copy("large")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2 + 100)
    done = salvaged(path, new)
    assert 3_000 < len(jobs_in(new)) < 9_000
    assert done.last_job <= 9_000
    assert (done.pages, done.pages_once) == (size // 2 // PAGE, size // PAGE)
    assert max(done.damaged_pages) > done.pages, "missing pages are named"
    assert not done.is_whole


def test_numbers_of_starts_and_of_jobs_go_on(copy: Callable[[str], Path], new: Path) -> None:
    path = copy("small")
    earlier = Journal(str(path))
    earlier.close()
    salvaged(path, new)
    book = Book(new)
    assert book.journal.boot > earlier.boot
    (job,) = book.accept("1+1")
    assert job.number == max(jobs_in(path)) + 1
    book.close()


def test_jobs_whose_rows_are_lost_are_named_and_their_ids_not_given_again(
    tmp_path: Path, new: Path
) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(*range(30))
    book.close()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ended'").fetchone()
    garble(path, [root], seed=3)
    done = salvaged(path, new)
    assert done.lost_jobs == list(range(1, 31))
    book = Book(new)
    assert book.accept("1+1")[0].number == 31
    book.close()


# The log


def end_of_log(path: Path) -> int:
    """The place in a log behind its last frame that counts."""
    with Path(f"{path}-wal").open("rb") as file:
        header = read_header(file)
        assert header is not None
        return max(each.at + PAGE for each in frames(file, header) if each.salt == header.salt)


def crashed(path: Path, to: Path) -> Book:
    """A book that is open still; both files of its journal are copied as a crash leaves them."""
    book = Book(path)
    fill(book, 1_000)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{to}{suffix}")
    return book


def test_what_is_in_the_log_is_saved(tmp_path: Path, new: Path) -> None:
    path, copied = tmp_path / "dte.db", tmp_path / "copied.db"
    crashed(path, copied).close()
    done = salvaged(copied, new)
    assert done.is_whole
    assert content(new, *RENEWED) == content(path, *RENEWED)


def test_damaged_parts_of_the_log_cost_what_is_on_them(tmp_path: Path) -> None:
    path, copied = tmp_path / "dte.db", tmp_path / "copied.db"
    crashed(path, copied).close()
    log = Path(f"{copied}-wal")
    raw = log.read_bytes()
    for seed in range(1, 13):
        log.write_bytes(raw)
        garble(log, random.Random(seed).sample(range(1, len(raw) // PAGE), 4), seed)
        done = salvaged(copied, tmp_path / f"{seed}.db")
        assert len(jobs_in(tmp_path / f"{seed}.db")) > 1_000 - 4 * 100, f"seed {seed}"
        assert done.last_job == 1_000


def test_the_header_of_the_log_may_be_damaged(tmp_path: Path, new: Path) -> None:
    path, copied = tmp_path / "dte.db", tmp_path / "copied.db"
    crashed(path, copied).close()
    with Path(f"{copied}-wal").open("r+b") as file:
        file.write(b"\x99" * 32)
    salvaged(copied, new)
    assert len(jobs_in(new)) == 1_000


def test_a_last_transaction_that_is_not_whole_does_not_count(tmp_path: Path, new: Path) -> None:
    """A loss of power leaves some of its pages; those who sent it were told nothing."""
    path, copied = tmp_path / "dte.db", tmp_path / "copied.db"
    book = Book(path)
    (job,) = book.accept("1+1")
    book.write()
    first = end_of_log(path)
    book.end(job, 2)
    book.write()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copied}{suffix}")
    book.close()
    with Path(f"{copied}-wal").open("r+b") as file:
        file.seek(first)
        file.write(bytes(FRAME_HEADER.size + PAGE))
    salvaged(copied, new)
    with closing(sqlite3.connect(new)) as db:
        assert db.execute("SELECT number FROM waiting").fetchall() == [(1,)]
        assert db.execute("SELECT number FROM ended").fetchall() == []


# Old rows


def freed(path: Path) -> None:
    """A journal with free pages that still have the rows of jobs that waited, and have ended."""
    book = Book(path, retention=Retention(jobs_max=10))
    for _ in range(3):
        jobs = book.accept(*["1+1"] * 2_000)
        book.write()
        for job in jobs:
            book.end(job, 2)
        book.write()
    for _ in range(30):
        book.now += 2
        book.ended(1)
    book.close()


def test_free_pages_bring_no_old_rows_back(tmp_path: Path, new: Path) -> None:
    path = tmp_path / "dte.db"
    freed(path)
    garble(path, pages_of_kind(path, 0x05), seed=5)  # So pages are looked at one by one.
    salvaged(path, new)
    assert content(new, *RENEWED) == content(path, *RENEWED)


def test_jobs_do_not_wait_again_where_nobody_knows_which_pages_are_free(
    tmp_path: Path, new: Path
) -> None:
    path = tmp_path / "dte.db"
    freed(path)
    trunk = int.from_bytes(path.read_bytes()[32:36], "big")
    assert trunk, "there are free pages"
    garble(path, [1, trunk], seed=5)
    salvaged(path, new)
    with closing(sqlite3.connect(new)) as db:
        assert db.execute("SELECT count(*) FROM waiting").fetchone() == (0,)


# What is in doubt


def waiting_with_calls(path: Path, count: int) -> None:
    """Jobs that wait, each with a call that has ended and one that has not."""
    book = Book(path)
    jobs = [book.accept_plan("a", "b", plan=PLAN, task="2 calls") for _ in range(count)]
    book.accept("1+1", "2*echo(3)")
    book.write()
    for job in jobs:
        book.step(calls_of(job)["a"], CallState.SUCCEEDED, value=b"1" * 300, worker="w")
    book.write()
    book.close()


def test_a_job_fails_if_the_records_of_its_calls_may_be_lost(tmp_path: Path) -> None:
    """Its calls would begin again, although they may have had effects."""
    path = tmp_path / "dte.db"
    waiting_with_calls(path, 150)
    raw = path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'call'").fetchone()
    leaves = [each for each in pages_of_kind(path, 0x0A) if each != root]
    tried = 0
    for number in leaves:
        path.write_bytes(raw)
        garble(path, [number], seed=number)
        new = tmp_path / f"{number}.db"
        done = salvaged(path, new)
        with closing(sqlite3.connect(new)) as db:
            waiting = {number for (number,) in db.execute("SELECT number FROM waiting")}
            recorded = {number for (number,) in db.execute("SELECT job FROM call")}
            failed = db.execute("SELECT number, state, error FROM ended").fetchall()
        assert 151 in waiting, "arithmetic can be done again"
        assert waiting - {151, 152} <= recorded, "no job runs of whose calls nothing is known"
        assert sorted(each for each, *_ in failed) == done.failed_jobs
        assert all(state == "failed" and "damaged" in error for _, state, error in failed)
        assert len(done.failed_jobs) < 30, "only those on the page and beside it"
        tried += bool(done.failed_jobs)
    assert tried > 5


def test_a_job_without_its_plan_fails_unless_it_is_arithmetic(tmp_path: Path, new: Path) -> None:
    path = tmp_path / "dte.db"
    waiting_with_calls(path, 3)
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'plan'").fetchone()
    garble(path, [root], seed=3)
    done = salvaged(path, new)
    assert done.failed_jobs == [1, 2, 3, 5] or done.failed_jobs == [5]
    with closing(sqlite3.connect(new)) as db:
        assert (4,) in db.execute("SELECT number FROM waiting").fetchall()


@pytest.mark.parametrize(
    "content", [bytes(PAGE), b"\x0d" + bytes(4) + b"\x10\0\0" + bytes(PAGE - 8)]
)
def test_a_job_of_several_calls_without_its_plan_does_not_wait(
    tmp_path: Path, new: Path, content: bytes
) -> None:
    """Its text describes it, and is no formula. The page of plans may even look empty."""
    path = tmp_path / "dte.db"
    book = Book(path)
    jobs = [book.accept_plan("a", plan=PLAN, task="8 calls: claimed, later") for _ in range(3)]
    book.accept("1e3+1.5E-2*(2)", "-1×2")
    book.write()
    book.end(jobs[0], error="no", state=JobState.FAILED)
    book.write()
    book.close()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'plan'").fetchone()
    raw = path.read_bytes()
    path.write_bytes(raw[: (root - 1) * PAGE] + content + raw[root * PAGE :])
    done = salvaged(path, new)
    assert (done.lost_plans, done.failed_jobs) == ([1, 2, 3], [2, 3])
    assert not done.is_whole
    again = salvaged(new, tmp_path / "again.db")
    assert again.is_whole, "the note of a lost plan is kept"
    with closing(sqlite3.connect(tmp_path / "again.db")) as db:
        assert db.execute("SELECT number FROM waiting").fetchall() == [(4,), (5,)]
        assert db.execute("SELECT number, text FROM plan").fetchall() == [
            (number, LOST_PLAN) for number in (1, 2, 3)
        ]


def test_a_job_after_a_lost_one_fails(tmp_path: Path, new: Path) -> None:
    """Nobody knows how that one ended; a master would take it for one that succeeded."""
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(1)
    book.accept_plan("a", plan='{"graph":{"a":{"handler":"echo"}},"after":[1]}', task="echo()")
    book.write()
    book.close()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ended'").fetchone()
    garble(path, [root], seed=3)
    done = salvaged(path, new)
    assert (done.lost_jobs, done.failed_jobs) == ([1], [2])


def test_nothing_but_rows_is_saved(tmp_path: Path, new: Path) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(2)
    book.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER planted AFTER INSERT ON ended BEGIN SELECT 1; END")
        db.execute("CREATE TABLE notes (text TEXT)")
        db.commit()
    salvaged(path, new)
    with closing(sqlite3.connect(new)) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    assert not {"planted", "notes"} & names
    assert len(jobs_in(new)) == 1


ODD = [
    "waiting SET submitted_at = 9e999",
    "waiting SET operations = -1",
    "waiting SET cancelled_at = 1e300",
    "ended SET ended_at = 1e300",
    "ended SET submitted_at = -1e300, ended_at = 253402300800",
    "ended SET operations = -1, operations_done = -7",
]


@pytest.mark.parametrize("change", ODD)
def test_a_job_with_an_odd_time_or_count_is_kept_without_it(
    tmp_path: Path, new: Path, change: str
) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(3)
    book.accept("1+1")
    book.write()
    book.close()
    with closing(sqlite3.connect(tmp_path / "dte.db")) as db:
        db.execute(f"UPDATE {change}")
        db.commit()
    done = salvaged(tmp_path / "dte.db", new)
    assert done.lost_rows == {change.split()[0]: (1, 0)}
    assert (done.lost_jobs, done.unknown_jobs, done.failed_jobs) == ([], [], [])
    assert not done.is_whole
    book = Book(new)
    (ended,) = book.loaded.ended
    (waiting,) = book.loaded.waiting
    assert (ended.answer, waiting.task) == (3, "1+1")
    assert ended.ended_at is not None
    assert abs(ended.ended_at - ended.submitted_at) < 1e10
    book.end(book.jobs.job(waiting.number), 2)
    book.write()
    assert book.count("ended") == 2
    book.close()
    assert check(str(new)).faults == []


@pytest.mark.parametrize("change", ["waiting SET operations = 'x'", "ended SET ended_at = X'00'"])
def test_a_row_with_a_time_or_count_that_is_no_number_counts_as_lost(
    tmp_path: Path, new: Path, change: str
) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(1, 2, 3, 4)
    book.accept("1+1", "2+2", "3+3", "4+4")
    book.write()
    book.close()
    table = change.split()[0]
    with closing(sqlite3.connect(tmp_path / "dte.db")) as db:
        db.execute(f"UPDATE {change} WHERE number = (SELECT max(number) FROM {table})")
        db.commit()
    done = salvaged(tmp_path / "dte.db", new)
    assert done.lost_rows == {table: (1, 0)}
    assert (len(done.lost_jobs), len(jobs_in(new))) == (table == "ended", 7)
    assert check(str(new)).faults == []


def test_odd_records_of_calls_count_as_lost(tmp_path: Path, new: Path) -> None:
    book = Book(tmp_path / "dte.db")
    job = book.accept_plan("a", plan=PLAN)
    book.write()
    book.step(*calls_of(job).values(), attempts=1, lease=7, worker="w")
    book.write()
    book.close()
    with closing(sqlite3.connect(tmp_path / "dte.db")) as db:
        db.execute("UPDATE call SET attempts = -1")
        db.commit()
    done = salvaged(tmp_path / "dte.db", new)
    assert done.lost_rows == {"call": (1, 0)}
    assert done.failed_jobs == [job.number], "it may have begun"
