from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from harness.until import until
from tornado.ioloop import IOLoop

from dte.core.errors import JournalDamaged, StorageFull, Unavailable
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.jobs.facts import Facts, KnownSubmission, Step, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable, NewJob
from dte.core.limits import SchedulerLimits
from dte.core.workers.worker import Announcement
from dte.master.journal import recorder as recorder_module
from dte.master.journal.journal import Journal, Loaded
from dte.master.journal.recorder import Recorder
from dte.master.journal.retention import Retention
from dte.master.journal.schema import JournalFailed, unreadable

from .book import calls_of, formula_of

RETRY_S = 0.02


class GatedJournal(Journal):
    """A journal that writes when it is let, and fails as it is told.

    Attributes:
        gate: set while it may write.
        error: what happens to whoever wants to write.
        groups: what it was to write so far.
        probes: how often it was probed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(":memory:", **options)
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.groups: list[Facts] = []
        self.probes = 0

    def write(self, facts: Facts, wall_s: float) -> dict[Submission, KnownSubmission]:
        self.groups.append(facts)
        self._pass()
        return super().write(facts, wall_s)

    def probe(self) -> None:
        self.probes += 1
        self._pass()
        super().probe()

    def _pass(self) -> None:
        assert self.gate.wait(timeout=20)
        if self.error is not None:
            raise self.error


class Desk:
    """A book of jobs whose facts a recorder brings into a journal, and who hears of them.

    Attributes:
        heard: what was heard of facts: how many submissions and ends, or the error.
    """

    def __init__(self, **options: Any) -> None:
        self.journal = GatedJournal(**options)
        self.jobs = JobTable(SchedulerLimits())
        self.heard: list[tuple[int, int] | Unavailable] = []
        self.recorder = Recorder(self.journal)
        self.recorder.start(self.jobs, self.recorded, self.unrecorded)
        self._closed = False

    def recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        for submission in facts.submissions:
            if submission in repeats:
                self.jobs.withdraw(submission)
            else:
                self.jobs.admit(submission)
        for end in facts.ends:
            self.jobs.close(end)
        self.heard.append((len(facts.submissions) - len(repeats), len(facts.ends)))

    def unrecorded(self, facts: Facts, error: Unavailable) -> None:
        self.jobs.unrecorded(facts)
        self.heard.append(error)

    def submit(self, task: str = "1+1", key: str = "") -> Job:
        (job,) = self.jobs.accept(0.0, [NewJob(task, parse(task, FormulaLimits()))], key).jobs
        self.recorder.wake()
        return job

    def submit_calls(self) -> Job:
        (job,) = self.jobs.accept(0.0, [NewJob("calls", formula_of(["a"]), '["a"]')]).jobs
        self.recorder.wake()
        return job

    def step(self, job: Job) -> None:
        """Something becomes of the call of a job."""
        call = calls_of(job)["a"]
        self.jobs.step(Step(call, call.record.copy()))
        self.recorder.wake()

    def end(self, job: Job) -> None:
        self.jobs.end(1.0, job, answer=2)
        self.recorder.wake()

    async def close(self) -> None:
        """Close the recorder, unless that has been done."""
        if not self._closed:
            self._closed = True
            await self.recorder.close()
            self.jobs.check()


OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(
    io_loop: IOLoop, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> OpenDesk:
    """Opens a desk, with the given options of the journal; it tries again soon."""
    monkeypatch.setattr(recorder_module, "RETRY_S", RETRY_S)

    def start(**options: Any) -> Desk:
        desk = Desk(**options)
        cleanup.push_async_callback(desk.close)
        cleanup.callback(desk.journal.gate.set)
        return desk

    return start


@pytest.fixture
def may_fail(expected_errors: list[str]) -> None:
    """The journal may fail in this test."""
    expected_errors.append("the journal cannot be written")


async def test_facts_are_heard_of_when_they_are_in_the_journal(open_desk: OpenDesk) -> None:
    desk = open_desk()
    job = desk.submit()
    assert job.state is JobState.ACCEPTING
    await desk.recorder.flush()
    assert job.state is JobState.WAITING
    assert [job.number for job in desk.journal.load(1, 1, 0.0).waiting] == [1]
    desk.end(job)
    assert job.state is JobState.ENDING
    await desk.recorder.flush()
    assert job.state is JobState.SUCCEEDED
    assert desk.heard == [(1, 0), (0, 1)]
    assert desk.recorder.commits == 2


async def test_the_loop_goes_on_while_something_is_written(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    job = desk.submit()
    for _ in range(100):
        await asyncio.sleep(0)
    assert job.state is JobState.ACCEPTING
    desk.journal.gate.set()
    await desk.recorder.flush()
    assert job.state is JobState.WAITING


async def test_facts_that_come_during_a_commit_share_the_next(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    for _ in range(5):
        desk.submit()
    desk.journal.gate.set()
    await desk.recorder.flush()
    assert desk.heard == [(1, 0), (4, 0)]
    assert desk.recorder.commits == 2


async def test_many_recorded_facts_take_effect_in_turns_before_others_are_written(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FACTS_IN_TURN", 2)
    desk = open_desk()
    jobs = [desk.submit() for _ in range(5)]
    await desk.recorder.flush()
    desk.heard.clear()
    desk.journal.gate.clear()
    for job in jobs:
        desk.end(job)
    later = desk.submit()
    desk.journal.gate.set()
    await desk.recorder.flush()
    assert desk.heard == [(0, 1), (1, 1), (0, 2), (0, 1)]
    assert all(job.is_terminal for job in jobs)
    assert later.state is JobState.WAITING


async def test_what_is_a_repeat_is_void_and_who_waits_hears_of_what_came_first(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk()
    desk.submit(key="k")
    await desk.recorder.flush()
    desk.submit(key="k")
    await desk.recorder.flush()
    assert desk.heard == [(1, 0), (0, 0)]
    assert desk.jobs.waiting == 1


async def test_nothing_is_written_for_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.recorder.wake()
    await desk.recorder.flush()
    assert desk.journal.groups == []
    assert desk.recorder.commits == 0


# Failures


async def test_of_what_failed_submissions_are_void_and_ends_are_tried_again(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    job = desk.submit()
    await desk.recorder.flush()
    desk.journal.error = JournalFailed("disk I/O error", full=False)
    desk.submit()
    desk.end(job)
    await until(lambda: len(desk.heard) == 3, "both failures")
    assert isinstance(desk.recorder.failure, Unavailable)
    assert not isinstance(desk.recorder.failure, StorageFull)
    assert "disk I/O error" in str(desk.recorder.failure)
    assert desk.recorder.failure.retry_after_s == 5
    assert job.state is JobState.ENDING
    assert desk.jobs.waiting == 1
    desk.journal.error = None
    await until(lambda: desk.recorder.failure is None, "the journal is well again")
    assert job.state is JobState.SUCCEEDED
    assert desk.heard[0] == (1, 0)
    assert desk.heard[-1] == (0, 1)
    desk.submit()
    await desk.recorder.flush()
    assert desk.heard[-1] == (1, 0)


async def test_a_full_disk_is_told_from_other_failures(open_desk: OpenDesk, may_fail: None) -> None:
    """A real one: the journal may not get longer than it is."""
    desk = open_desk()
    await desk.recorder.run(desk.journal._db.execute, "PRAGMA max_page_count = 1")
    desk.submit("1" + " " * 100_000 + "+2")
    await until(lambda: desk.heard, "the failure")
    assert isinstance(desk.heard[0], StorageFull)
    assert isinstance(desk.recorder.failure, StorageFull)
    await desk.recorder.run(desk.journal._db.execute, "PRAGMA max_page_count = 1000")
    await until(lambda: desk.recorder.failure is None, "there is space again")
    desk.submit("1" + " " * 100_000 + "+2")
    await desk.recorder.flush()
    assert desk.heard[-1] == (1, 0)


async def test_while_it_fails_with_nothing_to_write_it_is_probed(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    desk.journal.error = JournalFailed("no", full=False)
    desk.submit()
    await until(lambda: desk.journal.probes >= 3, "some probes")
    assert len(desk.journal.groups) == 1
    assert desk.recorder.failure is not None
    desk.journal.error = None
    await until(lambda: desk.recorder.failure is None, "the journal is well again")
    assert desk.recorder.commits == 0, "what nobody wanted to be written is no commit"


async def test_what_comes_while_it_fails_waits_for_the_next_try(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    desk.journal.error = JournalFailed("no", full=False)
    desk.submit()
    await until(lambda: desk.heard, "the failure")
    desk.journal.error = None
    job = desk.submit()
    await until(lambda: job.state is JobState.WAITING, "the next try")
    assert desk.recorder.failure is None


async def test_a_bug_in_the_journal_is_a_failure_and_nobody_waits_for_ever(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    job = desk.submit()
    await desk.recorder.flush()
    desk.journal.error = ZeroDivisionError("1/0")
    desk.end(job)
    await until(lambda: len(desk.heard) == 2, "the failure")
    assert "1/0" in str(desk.heard[1])
    desk.journal.error = None
    await until(lambda: job.state is JobState.SUCCEEDED, "the end is tried again")


async def test_a_failure_is_logged_once_and_so_is_its_end(
    open_desk: OpenDesk, may_fail: None, caplog: pytest.LogCaptureFixture
) -> None:
    desk = open_desk()
    desk.journal.error = JournalFailed("no", full=False)
    desk.submit()
    await until(lambda: desk.journal.probes >= 3, "some probes")
    desk.journal.error = None
    await until(lambda: desk.recorder.failure is None, "the journal is well again")
    said = [record.message for record in caplog.records if record.name == "dte.master"]
    assert said == [
        "the journal cannot be written: no; no job is accepted until it can",
        "the journal can be written again",
    ]


async def test_once_a_write_met_damage_it_fails_for_good_and_says_so_once(
    open_desk: OpenDesk, may_fail: None, caplog: pytest.LogCaptureFixture
) -> None:
    desk = open_desk()
    desk.journal.error = JournalFailed("no", full=False)
    desk.submit()
    await until(lambda: desk.heard, "another failure before")
    desk.journal.error = None
    desk.journal.damage = unreadable("dte.db", "malformed")
    await until(lambda: isinstance(desk.recorder.failure, JournalDamaged), "the next try")
    tries = len(desk.journal.groups), desk.journal.probes
    job = desk.submit()
    await asyncio.sleep(5 * RETRY_S)
    with pytest.raises(JournalDamaged):
        await desk.recorder.delivered([1])
    assert (len(desk.journal.groups), desk.journal.probes) == tries, "it is not tried again"
    assert job.state is JobState.ACCEPTING
    assert isinstance(desk.recorder.damage, JournalDamaged)
    said = [record.message for record in caplog.records if record.name == "dte.master"]
    assert [text.split(":")[0] for text in said] == ["the journal cannot be written"] * 2
    assert said[1].endswith("no job is accepted until the master is started with a good one")


@pytest.mark.parametrize("write", ["remember", "delivered"])
async def test_damage_that_another_write_met_is_final_too(
    write: str, open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    desk.journal.damage = unreadable("dte.db", "malformed")
    argument = Announcement("w", "127.0.0.1:1") if write == "remember" else [1]
    with pytest.raises(JournalDamaged):
        await getattr(desk.recorder, write)(argument)
    assert isinstance(desk.recorder.failure, JournalDamaged)


async def test_damage_that_only_a_read_met_stops_no_write(open_desk: OpenDesk) -> None:
    desk = open_desk()

    def read() -> None:
        raise unreadable("dte.db", "malformed")

    with pytest.raises(JournalDamaged):
        await desk.recorder.run(read)
    assert isinstance(desk.recorder.damage, JournalDamaged)
    assert desk.recorder.failure is None
    job = desk.submit()
    await desk.recorder.flush()
    assert job.state is JobState.WAITING


async def test_a_step_or_a_cancel_alone_is_written_too(open_desk: OpenDesk) -> None:
    desk = open_desk()
    job = desk.submit_calls()
    await desk.recorder.flush()
    desk.step(job)
    await desk.recorder.flush()
    assert len(desk.journal.plans([1])[1][1]) == 1
    desk.jobs.cancel(1.0, job)
    await desk.recorder.flush()
    assert desk.journal.load(0, 0, 0.0).waiting[0].cancelled
    assert desk.recorder.commits == 3


async def test_a_step_that_could_not_be_written_is_tried_again(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    job = desk.submit_calls()
    await desk.recorder.flush()
    desk.journal.error = JournalFailed("no", full=False)
    desk.step(job)
    await until(lambda: len(desk.journal.groups) >= 4, "it is tried again")
    assert desk.journal.probes == 0, "there is something to write"
    desk.journal.error = None
    await until(lambda: desk.recorder.failure is None, "the journal is well again")
    assert len(desk.journal.plans([1])[1][1]) == 1


# Flush, read, prune, close


async def test_flush_waits_for_all_there_is_to_write(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    desk.submit()
    desk.submit()
    flushed = asyncio.create_task(desk.recorder.flush())
    await asyncio.sleep(0)
    assert not flushed.done()
    desk.journal.gate.set()
    await flushed
    assert desk.heard == [(1, 0), (1, 0)]


async def test_flush_does_not_wait_for_a_journal_that_fails(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    job = desk.submit()
    await desk.recorder.flush()
    desk.journal.error = JournalFailed("no", full=False)
    desk.end(job)
    await desk.recorder.flush()
    assert job.state is JobState.ENDING
    await desk.recorder.flush()


async def test_reads_are_done_between_commits(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    job = desk.submit()
    reading = asyncio.create_task(desk.recorder.run(desk.journal.submission, "k"))
    await asyncio.sleep(0)
    assert not reading.done()
    desk.submit(key="k")
    desk.journal.gate.set()
    assert await reading is None, "it was asked before that key was written"
    await desk.recorder.flush()
    assert job.state is JobState.WAITING
    assert await desk.recorder.run(desk.journal.submission, "k") is not None


async def test_what_cannot_be_read_is_unavailable(open_desk: OpenDesk) -> None:
    desk = open_desk()

    def read() -> None:
        raise JournalFailed("disk I/O error", full=False)

    with pytest.raises(Unavailable, match="disk I/O error"):
        await desk.recorder.run(read)


async def test_old_jobs_are_deleted_also_when_nothing_is_written(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PRUNE_S", 0.01)
    desk = open_desk(retention=Retention(age_max_s=1.0))
    desk.submit("7")
    await desk.recorder.flush()
    await until(lambda: not desk.journal.ended([1]), "it is deleted")
    assert desk.recorder.commits == 1


async def test_no_other_commit_begins_while_one_is_under_way(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it is time to look for old jobs, either."""
    monkeypatch.setattr(recorder_module, "PRUNE_S", 0.01)
    desk = open_desk()
    desk.journal.gate.clear()
    desk.submit()
    await asyncio.sleep(0.05)
    monkeypatch.undo()
    desk.submit()
    desk.journal.gate.set()
    await desk.recorder.flush()
    assert desk.heard == [(1, 0), (1, 0)]


async def test_close_waits_for_what_is_being_written_and_writes_nothing_more(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    first, second = desk.submit(), desk.submit()
    closing = asyncio.create_task(desk.close())
    await asyncio.sleep(0)
    desk.journal.gate.set()
    await closing
    assert first.state is JobState.WAITING
    assert second.state is JobState.ACCEPTING
    desk.recorder.wake()
    assert len(desk.journal.groups) == 1


async def test_close_ends_the_tries_of_a_journal_that_fails(
    open_desk: OpenDesk, may_fail: None
) -> None:
    desk = open_desk()
    desk.journal.gate.clear()
    desk.journal.error = JournalFailed("no", full=False)
    desk.submit()
    closing = asyncio.create_task(desk.close())
    await asyncio.sleep(0)
    desk.journal.gate.set()
    await closing
    await asyncio.sleep(3 * RETRY_S)
    assert len(desk.journal.groups) == 1
    assert desk.journal.probes == 0


YEAR_S = 366 * 86_400.0


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [(0.0, ""), (30 * 86_400.0, ""), (10 * YEAR_S, "days before"), (-10 * YEAR_S, "days after")],
)
def test_a_clock_that_may_be_wrong_is_named_at_the_start(
    offset_s: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(":memory:")
    job = Job(1, "2", 5.0, 0, None, JobState.SUCCEEDED, ended_at=time.time() - offset_s)
    loaded = Loaded(1, [], [job], [], [], {})
    journal.load = lambda *_: loaded  # type: ignore[method-assign]
    assert Recorder(journal).load(10, 10) is loaded
    said = [each for each in caplog.messages if "clock" in each]
    assert [words in each for each in said] == ([True] if words else [])
    journal.close()
