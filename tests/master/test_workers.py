"""The course of calls, seen from outside: what is done when, how often, and what follows."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from harness.until import until

from dte.core.errors import Conflict, NotFound
from dte.master.journal import awaited, recorder
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed
from dte.master.plans import Plan

from . import fakes
from .calling import claim, claim_one, extend, failing, first_argument, hire_called, report
from .rig import Hire, Rig, StartMaster


def echo(*args: Any, **more: Any) -> dict[str, Any]:
    """A node that gives its argument back."""
    return {"handler": "echo", "args": list(args)} | more


def ref(name: str) -> dict[str, str]:
    return {"ref": name}


async def ended(rig: Rig, number: int) -> tuple[str, Any, str | None]:
    """How a job ends."""
    job = await rig.job(number, wait_s=20)
    assert job["finished"]
    return job["state"], job["answer"], job["error"]


class Runs:
    """What a worker does, and how often: a node that is named in `bad` fails."""

    def __init__(self, *bad: str, **more: Any) -> None:
        self.bad = set(bad)
        self.more = more
        self.count: Counter[str] = Counter()

    def __call__(self, call: dict[str, Any]) -> dict[str, Any]:
        self.count[call["node"]] += 1
        if call["node"] in self.bad:
            return failing(call) | self.more
        return first_argument(call)


# Merging


async def test_equal_calls_of_pure_handlers_are_done_once(rig: Rig, hire: Hire) -> None:
    runs = Runs()
    await hire_called(hire, rig, runs, handlers={"echo": {"pure": True}})
    graph = {
        "a": echo(1),
        "b": echo(1),
        "c": echo(ref("a")),
        "d": echo(ref("b")),
        "e": echo([ref("c"), ref("d")]),
    }
    number = await rig.accept(graph=graph, answer="e")
    assert await ended(rig, number) == ("succeeded", [1, 1], None)
    assert runs.count == {"a": 1, "c": 1, "e": 1}
    assert await ended(rig, await rig.accept(graph=graph, answer="b")) == ("succeeded", 1, None)


async def test_equal_calls_of_other_handlers_are_done_each(rig: Rig, hire: Hire) -> None:
    runs = Runs()
    await hire_called(hire, rig, runs)
    graph = {"a": echo(1), "b": echo(1)}
    assert (await ended(rig, await rig.accept(graph=graph)))[1] == {"a": 1, "b": 1}
    assert runs.count == {"a": 1, "b": 1}


# Order


async def test_higher_priorities_are_sooner_whatever_came_first(rig: Rig, hire: Hire) -> None:
    graph = {
        "low": echo(1, priority=-5),
        "high": echo(2, priority=9),
        "as the job": echo(3),
    }
    await rig.accept(graph=graph, priority=1)
    await rig.accept(graph={"other": echo(4)}, priority=3)
    worker = await hire_called(hire, rig, first_argument, handler_slots=1)
    await worker.has(4)
    assert [call["node"] for call in worker.calls] == ["high", "other", "as the job", "low"]


async def test_jobs_of_equal_priority_take_turns(rig: Rig, hire: Hire) -> None:
    for job in "ab":
        await rig.accept(graph={f"{job}{number}": echo(number) for number in range(3)})
    worker = await hire_called(hire, rig, first_argument, handler_slots=1)
    await worker.has(6)
    assert [call["node"] for call in worker.calls] == ["a0", "b0", "a1", "b1", "a2", "b2"]


# Failures


async def test_what_fails_is_tried_again_as_often_as_the_handler_or_the_call_says(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(retry_pause_s=0.001)
    runs = Runs("call", "b")
    await hire_called(hire, rig, runs, handlers={"echo": {"retries": 2}})
    number = await rig.accept(handler="echo", args=[1])
    assert await ended(rig, number) == ("failed", None, "call broke")
    assert runs.count["call"] == 3
    assert await ended(rig, await rig.accept(handler="echo", retries=0)) == (
        "failed",
        None,
        "call broke",
    )
    assert runs.count["call"] == 4
    number = await rig.accept(graph={"a": echo(1), "b": echo(2, retries=1)})
    assert await ended(rig, number) == ("failed", None, "node 'b': b broke")
    node = (await rig.nodes(number))["b"]
    assert (node["attempts"], node["failures"]) == (2, 2)


async def test_pauses_before_another_try_grow_up_to_a_bound(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(retry_pause_s=0.02, retry_pause_max_s=0.05)
    loop, moments = asyncio.get_running_loop(), []

    def note(call: dict[str, Any]) -> dict[str, Any]:
        moments.append(loop.time())
        return failing(call)

    await hire_called(hire, rig, note)
    await ended(rig, await rig.accept(handler="echo", retries=3))
    pauses = [later - sooner for sooner, later in pairwise(moments)]
    for pause_s, least_s in zip(pauses, (0.01, 0.02, 0.025), strict=True):
        assert pause_s >= least_s


async def test_while_it_pauses_it_is_told_when_it_is_tried_again_and_why(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(retry_pause_s=100, retry_pause_max_s=100)
    await hire_called(hire, rig, Runs("call"))
    number = await rig.accept(handler="echo", retries=1)
    await until(lambda: rig.master.core.calls.jobs.pauses.next_moment() is not None, "it pauses")
    reason = (await rig.why(number))["call"]
    assert reason["waits_for"] == "retry"
    assert "call broke" in reason["text"]
    assert (await rig.cancel(number))["state"] == "cancelled"


async def test_a_worker_may_say_that_trying_again_makes_no_sense(rig: Rig, hire: Hire) -> None:
    runs = Runs("call", retry=False)
    await hire_called(hire, rig, runs)
    number = await rig.accept(handler="echo", retries=5)
    assert await ended(rig, number) == ("failed", None, "call broke")
    assert runs.count["call"] == 1


async def test_a_failure_spreads_to_all_that_wait_for_it_and_names_its_cause(
    rig: Rig, hire: Hire
) -> None:
    runs = Runs("a")
    await hire_called(hire, rig, runs)
    graph = {
        "a": echo(1),
        "b": echo(ref("a")),
        "c": echo(1, after=["b"]),
        "other": echo(5),
    }
    number = await rig.accept(graph=graph)
    assert await ended(rig, number) == ("failed", None, "node 'a': a broke")
    nodes = await rig.nodes(number)
    for name in ("b", "c"):
        assert (nodes[name]["state"], nodes[name]["attempts"]) == ("skipped", 0)
        assert nodes[name]["error"] == "skipped because 'a' failed: a broke"
    assert (nodes["other"]["state"], nodes["other"]["result"]) == ("succeeded", 5)
    assert runs.count == {"a": 1, "other": 1}


async def test_what_is_to_be_done_whatever_happens_is_done_with_null_for_a_result(
    rig: Rig, hire: Hire
) -> None:
    await hire_called(hire, rig, Runs("a"))
    graph = {
        "a": echo(1),
        "b": echo(ref("a")),
        "tidy": echo([ref("a"), ref("b")], when="done"),
    }
    number = await rig.accept(graph=graph, answer="tidy")
    assert await ended(rig, number) == ("succeeded", [None, None], None)


async def test_a_job_succeeds_whose_answer_did_although_another_node_failed(
    rig: Rig, hire: Hire
) -> None:
    await hire_called(hire, rig, Runs("a"))
    number = await rig.accept(graph={"a": echo(1), "b": echo(2)}, answer="b")
    assert await ended(rig, number) == ("succeeded", 2, None)


async def test_a_call_may_lose_fewer_workers_than_the_master_s_bound(rig: Rig) -> None:
    number = await rig.accept(graph={"a": echo(1, lost_max=1)})
    await claim_one(rig, incarnation="1")
    (worker,) = rig.master.core.workers()
    worker.last_seen_at -= rig.master.settings.lease_s  # It has been silent.
    await claim(rig, incarnation="2")
    state, _, error = await ended(rig, number)
    assert (state, error and error.startswith("gave up: its worker died")) == ("failed", True)


# Moments


async def test_a_delay_is_kept(rig: Rig, hire: Hire) -> None:
    loop = asyncio.get_running_loop()
    await hire_called(hire, rig, first_argument)
    before = loop.time()
    number = await rig.accept(graph={"a": echo(1, delay=0.1), "b": echo(ref("a"))})
    assert (await rig.why(number))["a"]["waits_for"] == "delay"
    assert (await ended(rig, number))[1] == 1
    assert loop.time() - before >= 0.1


async def test_a_moment_is_kept_in_any_time_zone_and_one_that_is_past_does_not_matter(
    rig: Rig, hire: Hire
) -> None:
    await hire_called(hire, rig, first_argument)
    moment = datetime.now(UTC) + timedelta(seconds=0.15)
    east = "+09:30"
    written = (moment + timedelta(hours=9, minutes=30)).replace(tzinfo=None).isoformat() + east
    number = await rig.accept(handler="echo", args=[1], not_before=written)
    job = await rig.job(number, wait_s=20)
    assert job["answer"] == 1
    assert datetime.fromisoformat(job["started_at"]) >= moment - timedelta(milliseconds=20)
    for past in ("2001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"):
        number = await rig.accept(handler="echo", args=[1], not_before=past)
        assert (await ended(rig, number))[1] == 1


async def test_a_moment_far_away_can_be_waited_for_and_shown(rig: Rig) -> None:
    number = await rig.accept(handler="echo", not_before="9998-12-31T23:59:59.999999Z")
    assert (await rig.why(number))["call"]["until"].startswith("999")
    await rig.cancel(number)


# After other jobs


async def test_a_job_begins_when_others_have_ended(rig: Rig, hire: Hire) -> None:
    first, second = await rig.accept(handler="echo"), await rig.submit("1+2")
    number = await rig.accept(handler="echo", args=[7], after=[first, second, first])
    lease = (await claim_one(rig))["lease"]
    await hire(rig, fakes.good)
    await rig.job(second, wait_s=20)
    assert await claim(rig) == []
    assert (await rig.why(number))[""]["names"] == [str(first)]
    await report(rig, lease, result=1)
    call = await claim_one(rig)
    assert call["job_id"] == number
    await report(rig, call["lease"], result=7)
    assert (await ended(rig, number))[1] == 7
    late = await rig.accept(handler="echo", after=[first, number])
    assert (await claim_one(rig))["job_id"] == late


@pytest.mark.parametrize("how", ["failed", "cancelled", "timed_out"])
async def test_a_job_after_one_that_did_not_succeed_fails_unless_it_is_to_run_whatever_happens(
    how: str, rig: Rig
) -> None:
    first = await rig.accept(handler="echo")
    strict = await rig.accept(graph={"a": echo(1), "b": echo(ref("a"))}, after=[first])
    chained = await rig.accept(handler="echo", after=[strict])
    lenient = await rig.accept(handler="echo", args=[7], after=[first], when="done")
    lease = (await claim_one(rig))["lease"]
    if how == "cancelled":
        await rig.cancel(first)
        await report(rig, lease, state="cancelled")
    else:
        await report(rig, lease, state=how, error="broke")
    said = {"failed": "failed", "cancelled": "was cancelled", "timed_out": "timed out"}[how]
    assert await ended(rig, strict) == ("failed", None, f"skipped because job {first} {said}")
    assert await ended(rig, chained) == ("failed", None, f"skipped because job {strict} failed")
    assert (await claim_one(rig))["job_id"] == lenient
    late = await rig.accept(handler="echo", after=[first])
    assert (await ended(rig, late))[0] == "failed"


async def test_a_job_that_waits_for_another_can_be_cancelled(rig: Rig) -> None:
    first = await rig.accept(handler="echo")
    second = await rig.accept(handler="echo", after=[first])
    assert (await rig.cancel(second))["state"] == "cancelled"
    await report(rig, (await claim_one(rig))["lease"], result=1)
    await ended(rig, first)
    assert await claim(rig) == []


# Cancelling


async def test_what_waits_never_starts(rig: Rig) -> None:
    number = await rig.accept(graph={"a": echo(1), "b": echo(ref("a")), "c": echo(1, delay=60)})
    reply = await rig.cancel(number)
    assert (reply["state"], reply["error"], reply["answer"]) == ("cancelled", "cancelled", None)
    assert await claim(rig, slots=5) == []
    nodes = await rig.nodes(number)
    assert {node["state"] for node in nodes.values()} == {"cancelled"}
    await until(lambda: rig.idle, "nothing is under way")


async def test_what_runs_is_stopped_and_the_rest_of_the_job_never_starts(rig: Rig) -> None:
    number = await rig.accept(graph={"a": echo(1), "b": echo(2), "c": echo([ref("a"), ref("b")])})
    first = await claim_one(rig)
    assert (await rig.cancel(number))["state"] == "cancelling"
    assert await claim(rig, slots=5) == []
    assert (await extend(rig, first["lease"]))["stop"] == [first["lease"]]
    assert (await rig.cancel(number))["state"] == "cancelling", "it may be said again"
    assert (await report(rig, first["lease"], state="cancelled"))["accepted"] == [first["lease"]]
    assert await ended(rig, number) == ("cancelled", None, "cancelled")


async def test_a_result_that_comes_before_the_stop_is_kept_and_the_job_is_cancelled(
    rig: Rig,
) -> None:
    number = await rig.accept(graph={"a": echo(1), "b": echo(ref("a"))})
    first = await claim_one(rig)
    await rig.cancel(number)
    await report(rig, first["lease"], result="done")
    assert await ended(rig, number) == ("cancelled", None, "cancelled")
    nodes = await rig.nodes(number)
    assert (nodes["a"]["state"], nodes["a"]["result"]) == ("succeeded", "done")
    assert nodes["b"]["state"] == "cancelled"


async def test_a_worker_that_vanishes_while_it_is_to_stop_keeps_no_job_from_its_end(
    start_master: StartMaster,
) -> None:
    rig = await start_master(lease_s=0.1)
    number = await rig.accept(handler="echo")
    await claim_one(rig)
    await rig.cancel(number)
    state, _, error = await ended(rig, number)
    assert (state, error) == ("cancelled", "cancelled")


async def test_formulas_can_be_cancelled(rig: Rig, hire: Hire) -> None:
    waiting = await rig.submit("1+2")
    assert (await rig.cancel(waiting))["state"] == "cancelled"
    number = await rig.submit("echo(3)*(1+2)")
    call = await claim_one(rig)
    assert (await rig.cancel(number))["state"] == "cancelling"
    await report(rig, call["lease"], state="cancelled")
    assert await ended(rig, number) == ("cancelled", None, "cancelled")
    await hire(rig, fakes.good)
    assert (await rig.compute("3+4"))["answer"] == 7
    await until(lambda: rig.idle, "nothing is under way")


async def test_a_cancel_that_cannot_be_recorded_says_so_and_holds_all_the_same(
    start_master: StartMaster,
    tmp_path: Path,
    expected_errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected_errors.append("the journal cannot be written")
    monkeypatch.setattr(awaited, "RECORD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(recorder, "RETRY_S", 0.01)
    rig = await start_master(journal=str(tmp_path / "journal.db"))
    number = await rig.accept(handler="echo")
    call = await claim_one(rig)
    write = Journal.write

    def fail(*arguments: Any) -> Any:
        raise JournalFailed("disk I/O error", False)

    monkeypatch.setattr(Journal, "write", fail)
    assert (await rig.post(f"/job/{number}/cancel")).status == 503
    assert (await rig.job(number))["state"] == "running"
    monkeypatch.setattr(Journal, "write", write)
    await until(lambda: rig.master.core.calls.leases.get(call["lease"]).stop, "it is to stop")
    await report(rig, call["lease"], state="cancelled")
    assert (await ended(rig, number))[0] == "cancelled"


# Trying the failed part again


@pytest.mark.parametrize("journal", ["none", "kept"])
async def test_a_retry_does_only_what_did_not_succeed(
    journal: str, start_master: StartMaster, hire: Hire, tmp_path: Path
) -> None:
    rig = await start_master(journal=journal if journal == "none" else str(tmp_path / "j.db"))
    runs = Runs("bad")
    await hire_called(hire, rig, runs)
    graph = {
        "good": echo([1.5, "é"]),
        "bad": echo([ref("good"), 2]),
        "last": echo([ref("bad"), ref("good")]),
    }
    number = await rig.accept(graph=graph, answer="last", priority=4)
    assert (await ended(rig, number))[0] == "failed"
    runs.bad.clear()
    reply = await rig.post(f"/job/{number}/retry")
    assert reply.json == {"job_id": number + 1, "retry_of": number}
    state, answer, _ = await ended(rig, number + 1)
    assert (state, answer) == ("succeeded", [[[1.5, "é"], 2], [1.5, "é"]])
    assert runs.count == {"good": 1, "bad": 2, "last": 1}
    assert (await ended(rig, number))[0] == "failed", "an end is an end"
    nodes = await rig.nodes(number + 1)
    assert (nodes["good"]["state"], nodes["good"]["result"]) == ("succeeded", [1.5, "é"])


async def test_a_retry_does_again_what_was_made_of_a_failure(rig: Rig, hire: Hire) -> None:
    runs = Runs("bad")
    await hire_called(hire, rig, runs)
    graph = {
        "good": echo(1),
        "bad": echo(2),
        "whatever": echo(ref("bad"), when="done"),
        "last": echo(ref("whatever")),
    }
    number = await rig.accept(graph=graph)
    assert (await ended(rig, number))[0] == "failed"
    assert (await rig.nodes(number))["last"]["result"] is None, "made of no result"
    runs.bad.clear()
    number = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    assert await ended(rig, number) == ("succeeded", {"good": 1, "last": 2}, None)
    assert runs.count == {"good": 1, "bad": 2, "whatever": 2, "last": 2}


async def test_nothing_is_cancelled_while_that_cannot_be_recorded(
    start_master: StartMaster,
    tmp_path: Path,
    expected_errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks hears so at once, as the disk may stay full for long."""
    expected_errors.append("the journal cannot be written")
    monkeypatch.setattr(recorder, "RETRY_S", 0.01)
    rig = await start_master(journal=str(tmp_path / "journal.db"))
    number = await rig.accept(graph={"a": echo(1)})
    await claim_one(rig)
    write, probe = Journal.write, Journal.probe

    def fail(*arguments: Any) -> Any:
        raise JournalFailed("no space left", True)

    monkeypatch.setattr(Journal, "write", fail)
    monkeypatch.setattr(Journal, "probe", fail)
    assert (await rig.post("/jobs", {"handler": "echo"})).status == 507
    assert (await rig.post(f"/job/{number}/cancel")).status == 507
    monkeypatch.setattr(Journal, "write", write)
    monkeypatch.setattr(Journal, "probe", probe)
    await until(lambda: rig.master.recorder.failure is None, "it is well")
    assert (await rig.job(number))["state"] == "running"
    assert (await rig.post(f"/job/{number}/cancel")).status == 200


async def test_a_retry_may_be_retried(rig: Rig, hire: Hire) -> None:
    runs = Runs("b", "c")
    await hire_called(hire, rig, runs)
    graph = {"a": echo(1), "b": echo(ref("a")), "c": echo(ref("b"))}
    number = await rig.accept(graph=graph)
    for mended in ("b", "c"):
        assert (await ended(rig, number))[0] == "failed"
        runs.bad.discard(mended)
        number = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    assert (await ended(rig, number))[1] == 1
    assert runs.count == {"a": 1, "b": 2, "c": 2}


async def test_the_calls_of_a_formula_are_retried_in_the_same_way(rig: Rig, hire: Hire) -> None:
    runs = Runs("echo@9")
    await hire(rig, fakes.good)
    await hire_called(hire, rig, runs, arithmetic=False)
    number = await rig.submit("echo(1)+echo(2)")
    await until(lambda: runs.count["echo@9"], "it is done")
    assert (await ended(rig, number))[0] == "failed"
    runs.bad.clear()
    number = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    assert await ended(rig, number) == ("succeeded", 3, None)
    assert runs.count["echo@9"] == 2


async def test_what_was_cancelled_can_be_retried(rig: Rig) -> None:
    number = await rig.accept(graph={"a": echo(1), "b": echo(ref("a"))})
    await report(rig, (await claim_one(rig))["lease"], result=1)
    await claim_one(rig, "other")
    await rig.cancel(number)
    again = (await rig.post(f"/job/{number}/retry")).status
    assert again == 409, "it has not ended"
    await claim(rig, "other", incarnation="b")
    await ended(rig, number)
    number = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    call = await claim_one(rig)
    assert (call["job_id"], call["node"], call["args"]) == (number, "b", [1])


# Names


async def test_a_client_may_name_a_job(rig: Rig) -> None:
    job = await rig.master.jobs.submit_plan(Plan(formula="1+2"), digest="x", name="mine")
    assert await rig.master.jobs.find_named("mine") is job
    assert await rig.master.jobs.submit_plan(Plan(formula="1+2"), digest="x", name="mine") is job
    with pytest.raises(Conflict):
        await rig.master.jobs.submit_plan(Plan(formula="1+3"), digest="y", name="mine")
    with pytest.raises(NotFound):
        await rig.master.jobs.find_named("other")
    await rig.submit("1+2")
    assert (await rig.post("/submit", {"task": "1"}, Idempotency_Key="mine")).status == 200


# Results of pure handlers


async def test_what_is_pure_waits_for_no_disk_but_its_job_s_end_does(
    start_master: StartMaster,
    hire: Hire,
    tmp_path: Path,
    cleanup: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = await start_master(journal=str(tmp_path / "journal.db"))
    await hire_called(hire, rig, first_argument, handlers={"echo": {"pure": True}})
    graph = {f"n{n}": echo(ref(f"n{n - 1}")) if n else echo(0) for n in range(20)}
    commits = rig.master.recorder.commits
    assert (await ended(rig, await rig.accept(graph=graph)))[1] == 0
    assert rig.master.recorder.commits == commits + 2, "that it was accepted, and how it ended"


# Pauses of the master


async def test_after_a_pause_what_came_is_read_before_anything_is_decided(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may have given up its claim, or extend a lease."""
    await rig.accept(handler="echo", args=[1])
    lease = (await claim_one(rig))["lease"]
    done: list[str] = []
    core, now = rig.master.core, rig.master.clock.now
    extend_leases, tick = core.calls.extend, core.tick

    def watched_extend(*arguments: Any) -> Any:
        done.append("extend")
        return extend_leases(*arguments)

    def watched_tick(at: float) -> Any:
        done.append("tick")
        return tick(at)

    monkeypatch.setattr(core.calls, "extend", watched_extend)
    monkeypatch.setattr(core, "tick", watched_tick)
    body = b'{"worker": "puller", "leases": [%d]}' % lease
    head = b"POST /extend HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", rig.server.port)) as worker:
        worker.sendall(head + body)
        # As after a pause of a minute: the time of the loop is behind by that.
        monkeypatch.setattr(rig.master.clock, "now", lambda: now() - 60.0)
        rig.master.wake()
        await until(lambda: "tick" in done, "it decides again")
    assert done[0] == "extend"
