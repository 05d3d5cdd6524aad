"""A disk that is slow or fails: nobody sees what is not recorded, and all else goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.http import Message
from harness.until import until
from tornado.ioloop import IOLoop

from dte.core.jobs.facts import Facts
from dte.master.journal import recorder
from dte.master.journal.journal import Journal, Unfinished
from dte.master.journal.schema import JournalFailed, unreadable
from master import fakes
from master.rig import Hire, Rig, StartMaster

HELD_S = 30.0


class Disk:
    """What becomes of the commits of all journals.

    Attributes:
        groups: the facts of each commit that was begun.
        tries: how many commits were begun, also of nothing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[Facts] = []
        self.tries = 0
        self._failure: JournalFailed | None = None
        self._gate = threading.Event()
        self._gate.set()
        self._write, self._probe = Journal.write, Journal.probe
        monkeypatch.setattr(Journal, "write", lambda *a: self._commit(self._write, *a))
        monkeypatch.setattr(Journal, "probe", lambda *a: self._commit(self._probe, *a))

    def _commit(self, commit: Callable[..., Any], *arguments: Any) -> Any:
        self.tries += 1
        self.groups += [argument for argument in arguments if isinstance(argument, Facts)]
        assert self._gate.wait(HELD_S), "the test has forgotten a commit"
        if self._failure is not None:
            raise self._failure
        return commit(*arguments)

    def hold(self) -> None:
        """Have commits take until `go_on`."""
        self._gate.clear()

    def go_on(self) -> None:
        self._gate.set()

    def fail(self, full: bool = False) -> None:
        """Have commits fail until `recover`."""
        self._failure = JournalFailed("disk I/O error", full)

    def recover(self) -> None:
        self._failure = None

    async def is_held(self, groups: int) -> None:
        """Return when so many commits have been begun."""
        await until(lambda: len(self.groups) >= groups, "a commit")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Disk:
    disk = Disk(monkeypatch)
    monkeypatch.setattr(recorder, "RETRY_S", 0.01)
    return disk


@pytest.fixture
def rig(io_loop: IOLoop, start_master: StartMaster, disk: Disk, tmp_path: Path) -> Rig:
    """A master whose journal is on that disk."""
    return io_loop.run_sync(lambda: start_master(journal=str(tmp_path / "journal.db")))


@pytest.fixture(autouse=True)
def gate_is_open_in_the_end(rig: Rig, disk: Disk, cleanup: Any) -> None:
    cleanup.callback(disk.go_on)
    cleanup.callback(disk.recover)


async def is_well(rig: Rig) -> dict[str, Any]:
    """What /health says; at once."""
    return dict((await asyncio.wait_for(rig.get("/health"), 20)).json)


def is_failing(rig: Rig) -> bool:
    return rig.master.recorder.failure is not None


def ask(rig: Rig, path: str, body: Any = None, **headers: Any) -> asyncio.Task[Message]:
    """A request that goes on beside the test."""
    method = "GET" if body is None else "POST"
    return asyncio.create_task(rig.ask(method, path, body, **headers))


# A slow disk


@pytest.mark.parametrize("body", [{"task": "1+2"}, {"task": "3"}, {"tasks": ["1+2", "3"]}])
async def test_what_is_submitted_is_not_seen_before_it_is_recorded(
    rig: Rig, disk: Disk, hire: Hire, body: Any
) -> None:
    worker = await hire(rig, fakes.good)
    disk.hold()
    submit = ask(rig, "/submit", body)
    await disk.is_held(1)
    assert (await asyncio.wait_for(rig.get("/job/1"), 20)).status == 404
    assert (await asyncio.wait_for(rig.get("/jobs?ids=1"), 20)).status == 404
    assert (await asyncio.wait_for(rig.get("/jobs"), 20)).json == []
    await is_well(rig)
    assert not worker.requests
    assert not submit.done()
    disk.go_on()
    assert (await submit).status == 200
    jobs = (await rig.get("/jobs?ids=1&wait=20")).json
    assert jobs[0]["finished"]


async def test_an_end_is_not_seen_before_it_is_recorded(rig: Rig, disk: Disk, hire: Hire) -> None:
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    number = await rig.submit("1+2")
    waiting = ask(rig, f"/job/{number}?wait=20")
    await until(lambda: worker.requests and len(rig.master.waiters), "it is handed over")
    disk.hold()
    may_reply.set()
    await disk.is_held(2)
    job = await asyncio.wait_for(rig.job(number), 20)
    assert (job["finished"], job["state"], job["answer"]) == (False, "running", None)
    assert (job["ended_at"], job["error"]) == (None, None)
    (listed,) = (await rig.get("/jobs")).json
    assert listed == {
        "job_id": number,
        "task": "1+2",
        "finished": False,
        "answer": None,
        "error": None,
        "state": "running",
        "retry_of": None,
    }
    assert (await is_well(rig))["jobs_waiting"] == 1
    assert not waiting.done()
    disk.go_on()
    assert (await waiting).json["answer"] == 3


async def test_workers_go_on_while_an_end_is_being_recorded(
    rig: Rig, disk: Disk, hire: Hire
) -> None:
    await hire(rig, fakes.good)
    first, second = (await rig.post("/submit", {"tasks": ["1+2", "1.5+2+3+4"]})).json["job_ids"]
    disk.hold()
    done = 4
    await until(lambda: rig.master.core.jobs.operations_done == done, "all operations are done")
    assert not (await rig.job(first))["finished"]
    disk.go_on()
    assert (await rig.job(first, wait_s=20))["answer"] == 3
    assert (await rig.job(second, wait_s=20))["answer"] == 10.5


async def test_what_comes_while_a_commit_is_held_shares_the_next(
    rig: Rig, disk: Disk, hire: Hire
) -> None:
    disk.hold()
    first = ask(rig, "/submit", {"task": "1+2"})
    await disk.is_held(1)
    others = [ask(rig, "/submit", {"task": f"{number}"}) for number in range(20)]
    await until(lambda: len(rig.master.jobs._accepting) == 21, "all are being accepted")
    assert len(disk.groups) == 1
    disk.go_on()
    replies = await asyncio.gather(first, *others)
    assert [reply.status for reply in replies] == [200] * 21
    assert [len(group.submissions) for group in disk.groups] == [1, 20]
    assert (await is_well(rig))["commits"] == 2


async def test_what_is_known_is_answered_while_a_commit_is_held(
    rig: Rig, disk: Disk, hire: Hire
) -> None:
    await hire(rig, fakes.good)
    job = await rig.compute("1+2")
    disk.hold()
    submit = ask(rig, "/submit", {"task": "3+4"})
    await disk.is_held(3)
    assert await asyncio.wait_for(rig.job(1), 20) == job
    assert len((await asyncio.wait_for(rig.get("/jobs"), 20)).json) == 1
    assert len((await asyncio.wait_for(rig.get("/worker"), 20)).json) == 1
    assert (await asyncio.wait_for(rig.get("/job/99"), 20)).status == 404
    disk.go_on()
    await submit


async def test_a_worker_is_heard_while_a_commit_is_held(rig: Rig, disk: Disk, hire: Hire) -> None:
    disk.hold()
    submit = ask(rig, "/submit", {"task": "1+2"})
    await disk.is_held(1)
    await asyncio.wait_for(hire(rig, fakes.good, incarnation="a"), 20)
    assert (await is_well(rig))["workers"] == 1
    disk.go_on()
    await submit
    assert (await rig.job(1, wait_s=20))["answer"] == 3


async def test_a_repeat_is_answered_no_sooner_than_the_first(rig: Rig, disk: Disk) -> None:
    disk.hold()
    submits = [ask(rig, "/submit", {"task": "1+2"}, Idempotency_Key="k") for _ in range(2)]
    await until(lambda: len(rig.master.jobs._accepting) == 2, "both are being accepted")
    await is_well(rig)
    assert not any(submit.done() for submit in submits)
    disk.go_on()
    assert [(await submit).json["job_id"] for submit in submits] == [1, 1]


async def test_a_client_that_hangs_up_before_the_commit_leaves_a_job_like_any_other(
    rig: Rig, disk: Disk, hire: Hire, dial: Any
) -> None:
    disk.hold()
    line = await dial(rig.port)
    asking = asyncio.create_task(line.ask("POST", "/submit", {"task": "1+2"}))
    await disk.is_held(1)
    asking.cancel()
    line.reset()
    await is_well(rig)
    disk.go_on()
    await hire(rig, fakes.good)
    await until(lambda: list(rig.master.core.jobs.newest(1)), "it is accepted")
    assert (await rig.job(1, wait_s=20))["answer"] == 3


async def test_a_master_that_ends_records_what_is_being_accepted_and_says_so(
    rig: Rig, disk: Disk
) -> None:
    disk.hold()
    submit = ask(rig, "/submit", {"task": "1+2"})
    await disk.is_held(1)
    stopping = asyncio.create_task(rig.stop(20))
    await until(lambda: rig.master._closed, "the master ends")
    assert not stopping.done()
    disk.go_on()
    assert (await submit).json == {"job_id": 1, "finished": False}
    await stopping


# A disk that fails

FAILURES = [(False, 503, "unavailable"), (True, 507, "storage_full")]
failing = pytest.mark.parametrize(("full", "status", "code"), FAILURES, ids=["broken", "full"])


@pytest.fixture(autouse=True)
def may_say_so_in_the_log(expected_errors: list[str]) -> None:
    expected_errors.append("the journal cannot be written: ")


@failing
async def test_while_the_journal_fails_submissions_are_refused_and_questions_answered(
    rig: Rig, disk: Disk, hire: Hire, full: bool, status: int, code: str
) -> None:
    await hire(rig, fakes.good)
    job = await rig.compute("1+2")
    disk.fail(full)
    for body in ({"task": "3+4"}, {"task": "5"}, {"tasks": ["3+4", "5"]}, {"task": "6+7"}):
        refused = await rig.post("/submit", body)
        assert (refused.status, refused.json["code"]) == (status, code)
        assert "disk I/O error" in refused.json["error"]
        assert int(refused.headers["retry-after"]) > 0
    health = await is_well(rig)
    assert (health["status"], health["jobs_waiting"]) == ("failing", 0)
    assert "disk I/O error" in health["error"]
    assert await rig.job(1) == job
    assert len((await rig.get("/jobs")).json) == 1
    assert len((await rig.get("/worker")).json) == 1
    assert (await rig.get("/job/2")).status == 404


@failing
async def test_work_is_accepted_again_when_the_journal_works_again(
    rig: Rig, disk: Disk, hire: Hire, full: bool, status: int, code: str
) -> None:
    """Without a restart, and without anything to write."""
    await hire(rig, fakes.good)
    disk.fail(full)
    assert (await rig.post("/submit", {"task": "1+2"})).status == status
    disk.recover()
    await until(lambda: not is_failing(rig), "the journal is tried again")
    health = await is_well(rig)
    assert (health["status"], health["error"]) == ("ok", None)
    assert (await rig.compute("3+4"))["answer"] == 7


@failing
async def test_jobs_that_run_run_on_and_their_ends_come_up_when_it_works_again(
    rig: Rig, disk: Disk, hire: Hire, full: bool, status: int, code: str
) -> None:
    may_reply = asyncio.Event()
    await hire(rig, fakes.held_until(may_reply))
    first, second = (await rig.post("/submit", {"tasks": ["1.5+2+3", "1/0"]})).json["job_ids"]
    waiting = ask(rig, f"/jobs?ids={first}-{second}&wait=20")
    await until(lambda: len(rig.master.waiters) == 2, "it is held")
    disk.fail(full)
    may_reply.set()
    await until(lambda: rig.master.core.jobs.operations_done == 2, "the operations are done")
    await until(lambda: is_failing(rig), "an end cannot be written")
    for number in (first, second):
        job = await rig.job(number)
        assert (job["finished"], job["ended_at"]) == (False, None)
    assert (await rig.post("/submit", {"task": "5"})).status == status
    assert not waiting.done()
    disk.recover()
    assert [job["answer"] for job in (await waiting).json] == [6.5, None]
    assert (await rig.job(second))["error"] == "division by zero: 1 / 0"
    assert (await rig.compute("3+4"))["answer"] == 7


async def test_what_shares_a_commit_that_fails_is_refused_and_not_there_after_a_restart(
    rig: Rig, disk: Disk, start_master: StartMaster
) -> None:
    await rig.submit("1+2")
    disk.hold()
    submits = [ask(rig, "/submit", {"task": "3+4"}, Idempotency_Key="a")]
    await disk.is_held(2)
    submits += [ask(rig, "/submit", {"task": str(number)}) for number in range(5)]
    await until(lambda: len(rig.master.jobs._accepting) == 6, "all are being accepted")
    disk.fail()
    disk.go_on()
    assert {(await submit).status for submit in submits} == {503}
    assert (await is_well(rig))["jobs_waiting"] == 1
    disk.recover()
    await rig.stop()
    again = await start_master(journal=rig.master.settings.journal)
    assert [job["job_id"] for job in (await again.get("/jobs")).json] == [1]
    repeat = await again.post("/submit", {"task": "8"}, Idempotency_Key="a")
    assert repeat.status == 200, "the key is free"


async def test_a_repeat_of_what_was_accepted_is_recognised_while_the_journal_fails(
    rig: Rig, disk: Disk
) -> None:
    first = await rig.post("/submit", {"task": "1+2"}, Idempotency_Key="a")
    disk.fail()
    assert (await rig.post("/submit", {"task": "3+4"})).status == 503
    again = await rig.post("/submit", {"task": "1+2"}, Idempotency_Key="a")
    assert (again.status, again.body) == (200, first.body)
    assert (await rig.post("/submit", {"task": "1+2"}, Idempotency_Key="b")).status == 503


async def test_a_master_ends_although_its_journal_fails_and_the_job_goes_on_later(
    rig: Rig, disk: Disk, start_master: StartMaster, hire: Hire
) -> None:
    """An end that could not be recorded is no end: the same answer comes once more."""
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply), incarnation="a")
    await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    disk.fail()
    may_reply.set()
    await until(lambda: is_failing(rig), "the end cannot be written")
    await asyncio.wait_for(rig.stop(1), 30)
    disk.recover()
    again = await start_master(journal=rig.master.settings.journal)
    assert not (await again.job(1))["finished"]
    await again.announce(worker, incarnation="a")
    assert (await again.job(1, wait_s=20))["answer"] == 3
    assert len(worker.requests) == 2


async def test_after_the_end_a_journal_that_failed_is_not_tried_again(
    rig: Rig, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.fail()
    assert (await rig.post("/submit", {"task": "1+2"})).status == 503
    disk.hold()
    tries = disk.tries
    await until(lambda: disk.tries > tries, "it is tried again")
    stopping = asyncio.create_task(rig.stop())
    await until(lambda: rig.master._closed, "the master ends")
    disk.go_on()
    await stopping
    tries = disk.tries
    await asyncio.sleep(5 * recorder.RETRY_S)  # When it would be tried.
    assert disk.tries == tries


async def test_jobs_from_before_the_start_go_on_as_soon_as_they_can_be_read(
    rig: Rig,
    start_master: StartMaster,
    hire: Hire,
    expected_errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await rig.submit("1+2")
    await rig.stop()
    unfinished = Journal.unfinished
    failures = [JournalFailed("disk I/O error", False)] * 2

    def fail_twice(journal: Journal, after: int) -> list[Unfinished]:
        if failures:
            raise failures.pop()
        return unfinished(journal, after)

    monkeypatch.setattr(Journal, "unfinished", fail_twice)
    expected_errors.append("the master's journal cannot be used: disk I/O error")
    again = await start_master(journal=rig.master.settings.journal)
    await hire(again, fakes.good)
    assert (await again.job(1, wait_s=20))["answer"] == 3
    assert not failures


async def test_the_log_tells_of_a_failure_once_and_of_its_end(
    rig: Rig, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.fail()
    assert (await rig.post("/submit", {"task": "1+2"})).status == 503
    tries = disk.tries
    await until(lambda: disk.tries > tries + 3, "it is tried again and again")
    disk.recover()
    await until(lambda: not is_failing(rig), "it works again")
    told = [(each.levelname, each.message) for each in caplog.records]
    assert told == [
        (
            "ERROR",
            "the journal cannot be written: disk I/O error; no job is accepted until it can",
        ),
        ("WARNING", "the journal can be written again"),
    ]


# Damage


async def test_damage_is_said_at_once_to_all_and_health_says_failing_from_then_on(
    rig: Rig, disk: Disk, expected_errors: list[str]
) -> None:
    expected_errors.append("the journal cannot be written")
    number = await rig.submit("1+2")
    journal = rig.master.recorder._journal  # type: ignore[union-attr]
    journal.damage = unreadable(journal.path, "malformed")
    before = disk.tries
    refusals = [
        await asyncio.wait_for(rig.post(f"/job/{number}/cancel"), 15),
        await rig.post("/submit", {"task": "1+2"}),
        await rig.post("/submit", {"task": "1+2"}),
    ]
    for reply in refusals:
        assert (reply.status, reply.json["code"]) == (503, "journal_damaged")
        assert "retry-after" not in reply.headers
    assert disk.tries == before + 1, "it is not tried again"
    health = await is_well(rig)
    assert health["status"] == "failing"
    assert "damaged" in health["error"]
    assert (await rig.job(number))["state"] == "waiting", "as before the cancel"
