"""Jobs with calls over a restart: what is done is not done again, what runs still counts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness.http import Line, Message
from harness.until import until
from tornado.ioloop import IOLoop

from dte.core.calls import jobs as call_jobs
from dte.core.errors import NotFound, Unavailable
from dte.core.jobs.job import Job
from dte.master import archive
from dte.master import restart as resuming
from dte.master.archive import Archive
from dte.master.journal import retention
from dte.master.journal.recorder import Recorder
from dte.master.plans import LOST_PLAN

from . import fakes
from .calling import (
    Called,
    claim,
    claim_one,
    copied,
    extend,
    first_argument,
    hire_called,
    report,
)
from .rig import Hire, Rig, StartMaster

Again = Callable[[], Awaitable[Rig]]


@pytest.fixture
def rig(io_loop: IOLoop, start_master: StartMaster, tmp_path: Path) -> Rig:
    """A master with a journal."""
    return io_loop.run_sync(lambda: start_master(journal=str(tmp_path / "journal.db")))


@pytest.fixture(params=["ended", "killed"])
def again(
    request: pytest.FixtureRequest, rig: Rig, start_master: StartMaster, tmp_path: Path
) -> Again:
    """Ends the master and starts it again: in order, or as if its machine had lost its power.

    The one that was killed goes on, which nobody notices: what it had written is copied.
    """

    async def start() -> Rig:
        journal = rig.master.settings.journal
        if request.param == "killed":
            return await start_master(journal=copied(journal, tmp_path / "copy.db"))
        await rig.stop()
        return await start_master(journal=journal)

    return start


def echo(*args: Any, **more: Any) -> dict[str, Any]:
    return {"handler": "echo", "args": list(args)} | more


def ref(name: str) -> dict[str, str]:
    return {"ref": name}


CHAIN = {"a": echo(1), "b": echo([ref("a"), 2]), "c": echo(ref("b"))}


async def ended(rig: Rig, number: int) -> tuple[str, Any, str | None]:
    """How a job ends."""
    job = await rig.job(number, wait_s=20)
    assert job["finished"]
    return job["state"], job["answer"], job["error"]


async def test_what_has_been_done_is_not_done_again(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN, priority=7)
    await report(rig, (await claim_one(rig))["lease"], result={"x": [1e-7, 10**30]})
    rig = await again()
    call = await claim_one(rig)
    assert (call["node"], call["args"], call["attempt"]) == ("b", [[{"x": [1e-7, 10**30]}, 2]], 1)
    nodes = await rig.nodes(number)
    assert (nodes["a"]["state"], nodes["a"]["attempts"], nodes["a"]["worker"]) == (
        "succeeded",
        1,
        "puller",
    )
    job = await rig.job(number)
    assert (job["state"], job["operations_done"], job["priority"]) == ("running", 1, 7)
    await report(rig, call["lease"], result=2)
    await report(rig, (await claim_one(rig))["lease"], result=3)
    assert await ended(rig, number) == ("succeeded", 3, None)


async def test_a_result_under_a_lease_from_before_counts(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN)
    call = await claim_one(rig)
    rig = await again()
    await lease_of(rig)
    assert (await rig.job(number))["state"] == "running"
    assert (await rig.nodes(number))["a"]["state"] == "running"
    assert await claim(rig, "other") == [], "nobody else gets it"
    assert (await extend(rig, call["lease"]))["extended"] == [call["lease"]]
    assert (await report(rig, call["lease"], result=1))["accepted"] == [call["lease"]]
    assert (await report(rig, call["lease"], result=1))["stale"] == [call["lease"]]
    assert (await claim_one(rig))["node"] == "b"


async def test_new_leases_have_numbers_that_none_had_before(rig: Rig, again: Again) -> None:
    await rig.accept(graph={"a": echo(1), "b": echo(2)})
    first = await claim_one(rig)
    rig = await again()
    second = await claim_one(rig)
    assert (second["node"], second["lease"] > first["lease"]) == ("b", True)


async def test_a_worker_that_does_not_come_back_has_lost_its_call(
    start_master: StartMaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_jobs, "RESTORED_S", 0.1)
    bounds = {"journal": str(tmp_path / "journal.db"), "lease_s": 0.1}
    rig = await start_master(**bounds)
    number = await rig.accept(handler="echo")
    first = await claim_one(rig)
    await rig.stop()
    rig = await start_master(**bounds)
    call = await claim_one(rig, "other")
    assert (call["job_id"], call["attempt"]) == (number, 2)
    assert (await report(rig, first["lease"], result=1))["stale"] == [first["lease"]]


async def all_go_on(rig: Rig) -> None:
    """Return when all jobs from before the restart have been read again."""
    going_on = rig.master._restart
    assert going_on is not None
    await until(going_on.done, "all go on")


async def lease_of(rig: Rig) -> list[Any]:
    """The leases that a master knows, as soon as it knows some."""
    await until(lambda: rig.master.core.calls.leases, "a lease is known again")
    return list(rig.master.core.calls.leases)


async def test_an_attempt_is_counted_before_a_worker_hears_of_it(
    rig: Rig, start_master: StartMaster, hire: Hire, tmp_path: Path
) -> None:
    """Whatever the worker then does to the machine: after the restart the attempt is known."""
    worker = Called(rig)
    copies: list[str] = []

    async def copying(request: Message, line: Line) -> None:
        journal = rig.master.settings.journal
        copies.append(copied(journal, tmp_path / f"copy-{len(copies)}.db"))
        await worker.conduct(request, line)

    form = {"batch_max": 64, "handlers": ["echo"], "incarnation": "a"}
    await hire(rig, copying, **form)
    number = await rig.accept(handler="echo")
    (call,) = await worker.has(1)
    restarted = await start_master(journal=copies[0])
    await lease_of(restarted)
    node = (await restarted.nodes(number))["call"]
    assert (node["state"], node["attempts"], node["worker"]) == ("running", 1, "w")
    assert (await report(restarted, call["lease"], result=5))["accepted"] == [call["lease"]]
    assert (await ended(restarted, number))[1] == 5


async def test_a_call_is_known_to_have_ended_before_what_waits_for_it_begins(
    rig: Rig, start_master: StartMaster, hire: Hire, tmp_path: Path
) -> None:
    """At any hand-over a copy of the journal has all that was done: nothing is done twice."""
    runs: Counter[str] = Counter()
    copies: list[str] = []

    def copying(call: dict[str, Any]) -> dict[str, Any]:
        runs[call["node"]] += 1
        copies.append(copied(rig.master.settings.journal, tmp_path / f"copy-{len(copies)}.db"))
        return first_argument(call)

    await hire_called(hire, rig, copying)
    number = await rig.accept(graph=CHAIN)
    await ended(rig, number)
    assert runs == {"a": 1, "b": 1, "c": 1}
    for done, journal in enumerate(copies):
        restarted = await start_master(journal=journal)
        await lease_of(restarted)
        nodes = await restarted.nodes(number)
        states = [nodes[name]["state"] for name in "abc"]
        assert states == ["succeeded"] * done + ["running"] + ["waiting"] * (2 - done)


async def test_failures_and_pauses_are_remembered(
    start_master: StartMaster, tmp_path: Path
) -> None:
    bounds = {"journal": str(tmp_path / "journal.db"), "retry_pause_s": 0.2}
    rig = await start_master(**bounds)
    number = await rig.accept(handler="echo", retries=2)
    for attempt in (1, 2, 3):
        call = await claim_one(rig)
        assert call["attempt"] == attempt
        assert (await report(rig, call["lease"], error="broke"))["accepted"]
        await rig.stop()
        rig = await start_master(**bounds)
        if attempt < 3:
            await all_go_on(rig)
            assert await claim(rig) == [], "it pauses"
            assert (await rig.why(number))["call"]["waits_for"] == "retry"
    assert await ended(rig, number) == ("failed", None, "broke")


async def test_delays_do_not_begin_anew(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph={"a": echo(1, delay=1_000)})
    until_before = (await rig.why(number))["a"]["until"]
    rig = await again()
    await all_go_on(rig)
    reason = (await rig.why(number))["a"]
    assert (reason["waits_for"], reason["until"][:18]) == ("delay", until_before[:18])


async def test_a_job_still_waits_for_another(rig: Rig, again: Again) -> None:
    done = await rig.submit("1")
    first = await rig.accept(handler="echo")
    second = await rig.accept(handler="echo", args=[2], after=[first, done])
    third = await rig.accept(handler="echo", args=[2], after=[second])
    call = await claim_one(rig)
    rig = await again()
    await all_go_on(rig)
    assert await claim(rig, "other") == []
    await report(rig, call["lease"], result=1)
    for number in (second, third):
        call = await claim_one(rig, "other")
        assert call["job_id"] == number
        await report(rig, call["lease"], result=2)
    assert (await ended(rig, third))[1] == 2


async def test_a_job_waits_no_more_for_one_that_is_deleted(
    rig: Rig, start_master: StartMaster
) -> None:
    """As it still waited when that was there, the other can only have ended well."""
    first = await rig.submit("1")
    second = await rig.accept(graph={"a": echo(1), "b": echo(ref("a"))}, after=[first])
    await report(rig, (await claim_one(rig))["lease"], result=1)
    await rig.stop()
    journal = rig.master.settings.journal
    with sqlite3.connect(journal) as db:
        db.execute("DELETE FROM ended WHERE number = ?", (first,))
    db.close()
    rig = await start_master(journal=journal)
    with pytest.raises(NotFound):
        await rig.master.archive.find([first])
    assert (await claim_one(rig))["job_id"] == second


async def test_many_jobs_of_the_journal_are_read_few_at_a_time(
    rig: Rig, start_master: StartMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 8):
        await rig.submit(str(number))
    await rig.stop()
    rig = await start_master(journal=rig.master.settings.journal, jobs_kept=1)
    monkeypatch.setattr(archive, "READ_AT_A_TIME", 2)
    read, reads = rig.master.recorder.ended, []

    async def ended(numbers: Sequence[int]) -> dict[int, Job]:
        reads.append(list(numbers))
        return await read(numbers)

    monkeypatch.setattr(rig.master.recorder, "ended", ended)
    reply = await rig.get("/jobs?ids=7,1-6")
    assert [job["answer"] for job in reply.json] == [7, 1, 2, 3, 4, 5, 6]
    assert reads == [[1, 2], [3, 4], [5, 6]]


async def test_a_job_that_waits_for_others_goes_on_as_soon_as_they_can_be_read(
    rig: Rig,
    start_master: StartMaster,
    expected_errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = await rig.submit("1")
    number = await rig.accept(graph={"a": echo(1, delay=0.01)}, after=[first])
    await rig.stop()
    find, failures = Archive.find, [Unavailable("disk I/O error")] * 2

    async def fail_twice(archive: Archive, numbers: Any) -> Any:
        if failures and list(numbers) == [first]:
            raise failures.pop()
        return await find(archive, numbers)

    monkeypatch.setattr(Archive, "find", fail_twice)
    monkeypatch.setattr(resuming, "READ_AGAIN_S", 0.01)
    expected_errors.append("disk I/O error")
    rig = await start_master(journal=rig.master.settings.journal)
    call = await claim_one(rig)
    assert (call["job_id"], failures) == (number, [])


async def test_a_plan_that_cannot_be_read_any_more_fails_and_keeps_no_other_from_going_on(
    rig: Rig, start_master: StartMaster
) -> None:
    bad, good = [await rig.accept(handler="echo", args=[1]) for _ in range(2)]
    await rig.stop()
    journal = rig.master.settings.journal
    with sqlite3.connect(journal) as db:
        db.execute("UPDATE plan SET text = '{\"graph\": 1}' WHERE number = ?", (bad,))
    db.close()
    rig = await start_master(journal=journal)
    state, _, error = await ended(rig, bad)
    assert (state, (error or "").partition(":")[0]) == ("failed", "it cannot be read any more")
    assert (await claim_one(rig))["job_id"] == good


# Cancelling


async def test_what_waits_is_cancelled_after_a_restart(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN)
    rig = await again()
    await rig.cancel(number)
    assert await ended(rig, number) == ("cancelled", None, "cancelled")
    assert await claim(rig) == []


async def test_what_runs_is_stopped_after_a_restart(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN)
    call = await claim_one(rig)
    rig = await again()
    await lease_of(rig)
    assert (await rig.cancel(number))["state"] == "cancelling"
    assert (await extend(rig, call["lease"]))["stop"] == [call["lease"]]
    await report(rig, call["lease"], state="cancelled")
    assert await ended(rig, number) == ("cancelled", None, "cancelled")


async def test_a_cancel_from_before_a_restart_goes_on_after_it(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN)
    call = await claim_one(rig)
    await rig.cancel(number)
    rig = await again()
    await all_go_on(rig)
    assert (await rig.job(number))["state"] == "cancelling"
    assert (await extend(rig, call["lease"]))["stop"] == [call["lease"]]
    await report(rig, call["lease"], state="cancelled")
    assert await ended(rig, number) == ("cancelled", None, "cancelled")
    assert await claim(rig, slots=5) == []


async def test_a_worker_that_is_called_is_told_to_stop_what_it_has_from_before(
    rig: Rig, again: Again, hire: Hire
) -> None:
    """As soon as the master has heard of it again."""
    worker = Called(rig)
    form = {"batch_max": 64, "handlers": ["echo"], "incarnation": "a"}
    server = await hire(rig, worker.conduct, **form)
    number = await rig.accept(handler="echo")
    (call,) = await worker.has(1)
    rig = worker.rig = await again()
    await lease_of(rig)
    await rig.announce(server, **form)
    assert (await extend(rig, call["lease"]))["extended"] == [call["lease"]]
    await rig.cancel(number)
    await until(lambda: worker.stops == [call["lease"]], "it is told")
    await worker.report(call["lease"], state="cancelled")
    assert (await ended(rig, number))[0] == "cancelled"


async def test_a_worker_whose_request_was_held_keeps_no_job_from_being_cancelled(
    start_master: StartMaster, hire: Hire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was hung up on by the restart, and would not say anything of itself."""
    monkeypatch.setattr(call_jobs, "RESTORED_S", 0.1)
    bounds = {"journal": str(tmp_path / "journal.db"), "lease_s": 0.1}
    rig = await start_master(**bounds)
    worker = await hire(rig, fakes.silent, handlers=["echo"], arithmetic=False)
    number = await rig.accept(handler="echo")
    await until(lambda: worker.requests, "a hand-over")
    await rig.stop()
    rig = await start_master(**bounds)
    await lease_of(rig)
    await rig.cancel(number)
    assert await ended(rig, number) == ("cancelled", None, "cancelled")


# Ended jobs


async def test_ended_jobs_keep_their_nodes_and_can_be_retried(rig: Rig, again: Again) -> None:
    number = await rig.accept(graph=CHAIN, answer="c")
    await report(rig, (await claim_one(rig))["lease"], result=1)
    await report(rig, (await claim_one(rig))["lease"], error="broke", retry=False)
    before = await ended(rig, number), await rig.nodes(number)
    assert before[0] == ("failed", None, "node 'c': skipped because 'b' failed: broke")
    rig = await again()
    assert (await ended(rig, number), await rig.nodes(number)) == before
    reply = await rig.post(f"/job/{number}/retry")
    assert reply.status == 201
    call = await claim_one(rig)
    assert (call["node"], call["args"]) == ("b", [[1, 2]])
    await report(rig, call["lease"], result=5)
    await report(rig, (await claim_one(rig))["lease"], result=6)
    assert (await ended(rig, reply.json["job_id"]))[1] == 6


async def test_equal_calls_share_one_record_and_are_all_shown(rig: Rig, again: Again) -> None:
    """Without one, a result would be in the journal as often as it has names."""
    graph = {
        "a": {"handler": "pure", "args": [1]},
        "b": {"handler": "pure", "args": [ref("a")]},
        "c": {"handler": "pure", "args": [1]},
        "d": {"handler": "pure", "args": [ref("c")]},
        "e": {"handler": "effect", "args": [ref("d")]},
    }
    assert await claim(rig, handlers=PURE_OR_NOT, wait=0) == []
    number = await rig.accept(graph=graph, answer="e")
    for result in ("of a", "of b"):
        await report(rig, (await claim_one(rig, handlers=PURE_OR_NOT))["lease"], result=result)
    lease = (await claim_one(rig, handlers=PURE_OR_NOT))["lease"]
    await report(rig, lease, error="broke", retry=False)
    assert (await ended(rig, number))[0] == "failed"
    before = await rig.nodes(number)
    assert {name: before[name]["result"] for name in "abcd"} == {
        **dict.fromkeys("ac", "of a"),
        **dict.fromkeys("bd", "of b"),
    }
    rig = await again()
    assert await rig.nodes(number) == before
    _, records = (await rig.master.recorder.plans([number]))[number]
    assert sorted(record.name for record in records) == ["a", "b", "e"]
    # No worker says now that a handler is pure, but what is known of equal calls stays so.
    retry = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    call = await claim_one(rig, handlers=["pure", "effect"])
    assert (call["node"], call["args"]) == ("e", ["of b"])
    await report(rig, call["lease"], result=3)
    assert await ended(rig, retry) == ("succeeded", 3, None)
    assert (await rig.nodes(retry))["c"]["result"] == "of a"


async def test_calls_that_a_restart_parts_have_a_record_each(
    rig: Rig, again: Again, start_master: StartMaster
) -> None:
    """Nobody says then that their handler is pure, and they may give different results."""
    graph = {name: {"handler": "pure", "args": [1]} for name in ("a", "b")}
    assert await claim(rig, handlers=PURE_OR_NOT, wait=0) == []
    number = await rig.accept(graph=graph)
    assert len(await claim(rig, handlers=PURE_OR_NOT, slots=2)) == 1, "they are one"
    rig = await again()
    for _ in graph:
        call = await claim_one(rig, handlers=["pure"])
        await report(rig, call["lease"], result=call["node"])
    assert await ended(rig, number) == ("succeeded", {"a": "a", "b": "b"}, None)
    await rig.stop()
    rig = await start_master(journal=rig.master.settings.journal)
    nodes = await rig.nodes(number)
    assert {name: nodes[name]["result"] for name in nodes} == {"a": "a", "b": "b"}


async def test_no_call_with_effects_takes_the_result_of_an_equal_one(
    start_master: StartMaster, tmp_path: Path
) -> None:
    """Its record may be lost with a damaged page."""
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    graph = {name: {"handler": "effect", "args": [1]} for name in ("a", "b", "c")}
    number = await rig.accept(graph=graph)
    for result in (1, 2):
        await report(rig, (await claim_one(rig, handlers=["effect"]))["lease"], result=result)
    lease = (await claim_one(rig, handlers=["effect"]))["lease"]
    await report(rig, lease, error="broke", retry=False)
    assert (await ended(rig, number))[0] == "failed"
    await rig.stop()
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("DELETE FROM call WHERE name = 'b'")
    rig = await start_master(journal=journal)
    assert (await rig.nodes(number)).keys() == {"a", "c"}
    await rig.post(f"/job/{number}/retry")
    calls = await claim(rig, handlers=["effect"], slots=3)
    assert sorted(call["node"] for call in calls) == ["b", "c"]


async def test_a_job_whose_plan_is_lost_is_not_retried(
    start_master: StartMaster, tmp_path: Path
) -> None:
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    number = await rig.accept(graph=CHAIN, answer="c")
    await report(rig, (await claim_one(rig))["lease"], error="broke", retry=False)
    assert (await ended(rig, number))[0] == "failed"
    await rig.stop()
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("UPDATE plan SET text = ?", (LOST_PLAN,))
    rig = await start_master(journal=journal)
    reply = await rig.post(f"/job/{number}/retry")
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert "plan was lost" in reply.json["error"]


async def test_formulas_with_calls_go_on(rig: Rig, again: Again, hire: Hire) -> None:
    """Their calls with effects are not done again."""
    number = await rig.submit("echo(3)*2+echo(4)")
    await report(rig, (await claim_one(rig))["lease"], result=3)
    rig = await again()
    await hire(rig, fakes.good)
    call = await claim_one(rig)
    assert call["args"] == [4]
    await report(rig, call["lease"], result=4)
    assert await ended(rig, number) == ("succeeded", 10, None)


async def test_keys_are_known_after_a_restart(rig: Rig, again: Again) -> None:
    body = {"handler": "echo", "args": [1]}
    first = await rig.post("/jobs", body, Idempotency_Key="mine")
    rig = await again()
    assert (await rig.post("/jobs", body, Idempotency_Key="mine")).body == first.body
    assert (await rig.post("/jobs", {"formula": "1"}, Idempotency_Key="mine")).status == 409


async def test_a_retry_keeps_the_job_that_it_repeats(rig: Rig, again: Again) -> None:
    first = await rig.accept(graph=CHAIN)
    await rig.cancel(first)
    waiting = (await rig.post(f"/job/{first}/retry")).json["job_id"]
    last = (await rig.post(f"/job/{first}/retry")).json["job_id"]
    await rig.cancel(last)
    retries = {first: None, waiting: first, last: first}

    async def shown(rig: Rig) -> list[dict[int, int | None]]:
        listed = (await rig.get("/jobs")).json
        by_id = (await rig.get(f"/jobs?ids={first}-{last}")).json
        jobs = [await rig.job(number) for number in retries]
        return [
            {job["job_id"]: job["retry_of"] for job in found} for found in (listed, by_id, jobs)
        ]

    assert await shown(rig) == [retries] * 3
    rig = await again()
    assert await shown(rig) == [retries] * 3
    await all_go_on(rig)
    assert await shown(rig) == [retries] * 3


OWN = {"handlers": ["echo", "other"], "replaced": {"echo": {"retries": 2}}}


async def known_as_replaced(rig: Rig) -> None:
    """Return when the journal knows what the workers have replaced."""
    storing = rig.master.workers.stored._storing_replaced
    assert storing is not None
    await until(storing.done, "it is stored")


@pytest.mark.parametrize("job", [echo(1), {"formula": "echo(1)"}], ids=["call", "formula"])
async def test_a_call_of_a_user_s_handler_waits_for_it_after_a_restart_too(
    rig: Rig, again: Again, job: dict[str, Any]
) -> None:
    assert await claim(rig, "own", wait=0, **OWN) == []
    number = await rig.accept(**job)
    await known_as_replaced(rig)
    rig = await again()
    await all_go_on(rig)
    assert await claim(rig, "built-in", handlers=["echo"], wait=0) == []
    (reason,) = [each for each in (await rig.why(number)).values() if "echo" in each["text"]]
    assert "a worker has announced its own" in reason["text"]
    (call,) = await claim(rig, "own", **OWN)
    await report(rig, call["lease"], result=1)
    assert (await ended(rig, number))[0] == "succeeded"


async def test_a_replaced_handler_that_no_call_waits_for_is_forgotten_by_a_restart(
    rig: Rig, again: Again
) -> None:
    assert await claim(rig, "own", wait=0, **OWN) == []
    await rig.accept(handler="another")
    await known_as_replaced(rig)
    rig = await again()
    await all_go_on(rig)
    await rig.accept(**echo(1))
    (call,) = await claim(rig, "built-in", handlers=["echo"])
    assert call["handler"] == "echo"
    await known_as_replaced(rig)
    assert rig.master.core.handlers.replaced == rig.master.workers.stored._replaced == {}


async def test_many_jobs_go_on_while_others_are_answered(rig: Rig, again: Again) -> None:
    for _ in range(10):
        await asyncio.gather(*(rig.accept(graph=CHAIN) for _ in range(20)))
    rig = await again()
    assert (await rig.get("/health")).status == 200
    await all_go_on(rig)
    assert rig.master.core.calls.jobs.ready.count == 200


async def test_when_a_job_began_is_remembered(rig: Rig, again: Again) -> None:
    number = await rig.accept(handler="sleep", args=[1])
    await claim_one(rig, handlers=["sleep"])
    before = datetime.fromisoformat((await rig.job(number))["started_at"])
    rig = await again()
    await until(lambda: rig.master.core.calls.leases, "the job goes on")
    after = datetime.fromisoformat((await rig.job(number))["started_at"])
    assert timedelta(0) <= before - after < timedelta(seconds=1), "but for the commit between"


PURE_OR_NOT = {"pure": {"pure": True}, "effect": {}}


async def test_a_retry_makes_no_call_again_that_used_a_pure_result(rig: Rig, again: Again) -> None:
    """A restart forgets the results of pure calls, and the cancel comes before they are back."""
    graph = {
        "a": {"handler": "pure", "args": [1]},
        "b": {"handler": "effect", "args": [ref("a")]},
        "c": {"handler": "effect", "args": [ref("b")]},
    }
    number = await rig.accept(graph=graph, answer="c")
    for result in (1, 2):
        await report(rig, (await claim_one(rig, handlers=PURE_OR_NOT))["lease"], result=result)
    rig = await again()
    await rig.cancel(number)
    assert (await ended(rig, number))[0] == "cancelled"
    retry = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    calls: list[dict[str, Any]] = []
    while len(calls) < 2:
        calls += await claim(rig, handlers=PURE_OR_NOT, slots=2, wait=20)
    assert sorted((call["node"], call["args"]) for call in calls) == [("a", [1]), ("c", [2])]
    for call in calls:
        await report(rig, call["lease"], result=3)
    assert await ended(rig, retry) == ("succeeded", 3, None)


@pytest.mark.parametrize("said", [{"formula": "echo(1)+echo(2)"}, {"graph": CHAIN}])
async def test_a_job_whose_calls_are_deleted_is_not_retried(
    start_master: StartMaster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
) -> None:
    """It may still be shown: but nobody knows which of its calls succeeded."""
    monkeypatch.setattr(retention, "PRUNE_S", 0.0)
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    number = await rig.accept(**said)
    await report(rig, (await claim_one(rig))["lease"], result=1)
    await report(rig, (await claim_one(rig))["lease"], error="broke", retry=False)
    assert (await ended(rig, number))[0] == "failed"
    await rig.stop()
    rig = await start_master(journal=journal, journal_jobs_max=1)
    for _ in range(3):
        await ended(rig, await rig.accept(formula="1"))
    assert (await rig.job(number))["state"] == "failed"
    reply = await rig.post(f"/job/{number}/retry")
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert "deleted" in reply.json["error"]
    assert rig.master.core.jobs.waiting == 0


async def test_a_lease_is_good_while_its_job_is_still_read(
    rig: Rig, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was told that it has ended would stop the call, or drop its result."""
    number = await rig.accept(handler="echo", args=[1])
    lease = (await claim_one(rig))["lease"]
    read, may_read = Recorder.unfinished, asyncio.Event()

    async def slow(recorder: Recorder, after: int) -> Any:
        await may_read.wait()
        return await read(recorder, after)

    monkeypatch.setattr(Recorder, "unfinished", slow)
    rig = await again()
    kept = await extend(rig, lease, 1, worker="puller")
    assert (kept["extended"], kept["lost"], kept["stop"]) == ([lease, 1], [], [])
    body = {"worker": "puller", "results": [{"lease": lease, "result": 1}]}
    early = await rig.post("/result", body)
    assert (early.status, early.json["code"]) == (503, "unavailable")
    may_read.set()
    await until(lambda: rig.master.core.calls.leases.get(lease), "the job is read")
    await until(lambda: not rig.master.workers.unread.reading, "all are read")
    assert (await extend(rig, lease, 1, worker="puller"))["lost"] == [1]
    assert (await rig.post("/result", body)).json == {"accepted": [lease], "stale": []}
    assert await ended(rig, number) == ("succeeded", 1, None)
