"""Keys of submissions: each owner has half of those that are kept, and its own oldest ones go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dte.core.formula.formula import FormulaLimits, parse
from dte.core.jobs.facts import KnownSubmission
from dte.core.jobs.table import JobTable, NewJob
from dte.core.limits import SchedulerLimits
from dte.master.journal.journal import Journal
from dte.master.journal.memory import KeyMemory
from dte.master.journal.retention import Retention

from .book import Book

STRANGER, OTHER = "10.0.0.5", "10.0.0.6"


class Keys:
    """Keys in a journal, or in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._table = JobTable(SchedulerLimits())
        self._now = 0.0
        self.journal = self._open() if path is not None else None
        self._memory = KeyMemory(10)

    def _open(self) -> Journal:
        return Journal(str(self._path), retention=Retention(jobs_max=10))

    def reopen(self) -> None:
        if self.journal is not None:
            self.journal.close()
            self.journal = self._open()

    def add(self, key: str, owner: str) -> None:
        new = NewJob("1", parse("1", FormulaLimits()))
        submission = self._table.accept(self._now, [new], key, "d", owner)
        facts = self._table.facts()
        assert facts is not None
        self._now += 2.0  # Each transaction looks for what is too much.
        if self.journal is None:
            repeats = self._memory.remember([submission])
        else:
            repeats = self.journal.write(facts, self._now)
        for each in facts.submissions:
            if each in repeats:
                self._table.withdraw(each)
            else:
                self._table.admit(each)

    def knows(self, key: str) -> bool:
        if self.journal is None:
            return self._memory.get(key) is not None
        return self.journal.submission(key) is not None


@pytest.fixture(params=["journal", "memory"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path / "dte.db" if request.param == "journal" else None)
    yield made
    if made.journal is not None:
        made.journal.close()


def test_a_stranger_s_keys_take_the_place_of_its_own_oldest_ones(keys: Keys) -> None:
    for number in range(4):
        keys.add(f"mine-{number}", "")
    for number in range(100):
        keys.add(f"theirs-{number}", STRANGER)
        if number == 50:
            keys.reopen()
    assert all(keys.knows(f"mine-{number}") for number in range(4))
    assert [n for n in range(100) if keys.knows(f"theirs-{n}")] == list(range(95, 100))


def test_two_owners_have_half_each(keys: Keys) -> None:
    for number in range(20):
        keys.add(f"a-{number}", STRANGER)
        keys.add(f"b-{number}", OTHER)
    for name in "ab":
        assert [n for n in range(20) if keys.knows(f"{name}-{n}")] == list(range(15, 20))


def test_the_machine_s_own_user_has_all(keys: Keys) -> None:
    for number in range(20):
        keys.add(f"mine-{number}", "")
    assert all(keys.knows(f"mine-{number}") for number in range(11, 20))


def test_what_was_written_by_an_owner_is_known_as_a_repeat(tmp_path: Path) -> None:
    table = JobTable(SchedulerLimits())
    new = NewJob("1", parse("1", FormulaLimits()))
    with closing(Journal(str(tmp_path / "dte.db"))) as journal:
        first = table.accept(0.0, [new], "k", "d", STRANGER)
        again = table.accept(0.0, [new], "k", "d", STRANGER)
        facts = table.facts()
        assert facts is not None
        assert journal.write(facts, 0.0) == {again: KnownSubmission("d", first.jobs[0].number, 1)}


def test_an_owner_is_known_of_waiting_and_of_ended_jobs_and_of_webhooks(tmp_path: Path) -> None:
    path = str(tmp_path / "dte.db")
    table = JobTable(SchedulerLimits())
    with closing(Journal(path)) as journal:
        new = NewJob("1+1", parse("1+1", FormulaLimits()), "{}", notify="http://h/")
        jobs = [table.accept(0.0, [new], owner=owner).jobs[0] for owner in ("", STRANGER) * 2]
        _write(table, journal)
        for job in jobs[:2]:
            table.end(0.0, job, answer=2)
        _write(table, journal)
    with closing(Journal(path)) as journal:
        loaded = journal.load(10, 1_000_000, 0.0)
        assert [job.owner for job in loaded.waiting] == ["", STRANGER]
        assert [job.owner for job in loaded.ended] == ["", STRANGER]
        assert [owner for *_, owner in loaded.deliveries] == ["", STRANGER]
        found = journal.ended([1, 2])
        assert [found[number].owner for number in (1, 2)] == ["", STRANGER]


def _write(table: JobTable, journal: Journal) -> None:
    facts = table.facts()
    assert facts is not None
    assert not journal.write(facts, 0.0)
    for submission in facts.submissions:
        table.admit(submission)
    for end in facts.ends:
        table.close(end)


@pytest.mark.parametrize("change", ["count = 'x'", "count = -1", "first = X'00'", "first = 1e300"])
def test_a_key_whose_jobs_are_unknown_is_not_accepted_again(tmp_path: Path, change: str) -> None:
    book = Book(tmp_path / "dte.db")
    book.accept("1+1", key="a")
    book.write()
    book.journal._db.execute(f"UPDATE submission SET {change}")
    book.accept("1+1", key="a")
    (known,) = book.write().values()
    assert (known.first, known.count) == (0, 1), "no job has this number"
    book.accept("1+1", key="b")
    assert not book.write()
    assert book.count("waiting") == 2
    book.close()
