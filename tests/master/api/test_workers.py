"""Announcements, claims, results and extensions, as workers see them."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness.http import Dial, PlainClient, request_bytes
from harness.until import until

from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.jobs.facts import Facts
from dte.master.journal import awaited, recorder
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed
from master import fakes
from master.calling import claim, claim_one, extend, report
from master.rig import Hire, Rig, StartMaster, check_bound

# POST /worker, GET /worker


async def test_a_worker_registers_with_its_name(rig: Rig) -> None:
    reply = await rig.post("/worker", {"worker_name": "worker-1700000000"})
    assert reply.status == 200
    assert reply.body == b'{"status":"Worker registered"}\n'
    (listed,) = (await rig.get("/worker")).json
    heard_at = datetime.fromisoformat(listed.pop("heard_at"))
    assert abs(datetime.now(UTC) - heard_at) < timedelta(seconds=5)
    assert listed == {
        "worker_name": "worker-1700000000",
        "address": "127.0.0.1:6000",
        "state": "free",
        "slots": 1,
        "handlers": [],
        "handler_slots": 0,
        "leases": 0,
        "calls": 0,
        "batch": 1,
        "operations_done": 0,
        "calls_done": 0,
        "failures": 0,
        "last_failure": None,
    }


async def test_a_worker_is_where_it_registers_from(rig: Rig) -> None:
    """A proxy's headers do not matter."""
    for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        client = PlainClient(rig.port, source=source)
        body = {"worker_name": "w", "port": 7000, "address": "10.0.0.1:80"}
        await client.post("/worker", body, X_Forwarded_For="10.0.0.1", X_Real_IP="10.0.0.1")
    listed = (await rig.get("/worker")).json
    assert [worker["address"] for worker in listed] == [
        "127.0.0.1:7000",
        "127.0.0.2:7000",
        "127.0.0.3:7000",
    ]


async def test_the_list_shows_the_state_of_workers(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent, slots=2, batch_max=64)
    await rig.post("/submit", {"tasks": ["1+2"]})
    await until(lambda: worker.requests, "a hand-over")
    (listed,) = (await rig.get("/worker")).json
    assert (listed["state"], listed["slots"], listed["leases"]) == ("busy", 2, 1)


async def test_a_failing_worker_is_listed_with_its_reason(
    rig: Rig, hire: Hire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dte.master")
    worker = await hire(rig, fakes.good)
    body = {"worker_name": "w", "port": worker.port, "incarnation": "a", "handlers": ["echo"]}
    for failing, shown in [("no GPU\n left\x1b", "no GPU left\\x1b"), ("x" * 900, "x" * 500)]:
        assert (await rig.post("/worker", body | {"failing": failing})).status == 200
        (listed,) = (await rig.get("/worker")).json
        assert (listed["state"], listed["failing"]) == ("failing", shown)
        assert f"worker w cannot start processes for handlers: {shown}" in caplog.messages
    for fine in ({}, {"failing": None}, {"failing": ""}):
        await rig.post("/worker", body | fine)
        (listed,) = (await rig.get("/worker")).json
        assert listed["state"] == "free"
        assert "failing" not in listed
    assert caplog.messages.count("worker w starts processes for handlers again") == 1


async def test_a_worker_that_claims_may_be_failing_too(rig: Rig) -> None:
    job = (await rig.post("/jobs", {"handler": "echo", "args": [1]})).json["job_id"]
    body = {"worker": "w", "handlers": ["echo"], "incarnation": "a", "slots": 2}
    assert (await rig.post("/claim", body | {"failing": "no GPU"})).json["calls"] == []
    (listed,) = (await rig.get("/worker")).json
    assert listed["state"] == "failing"
    (reason,) = (await rig.get(f"/job/{job}/why")).json["reasons"]
    assert reason["text"] == "worker w cannot start processes for handlers: no GPU"
    assert [call["job_id"] for call in (await rig.post("/claim", body)).json["calls"]] == [job]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"worker_name": ""},
        {"worker_name": None},
        {"worker_name": 7},
        {"worker_name": ["w"]},
        {"name": "w"},
        {"port": 7000, "slots": 2},
    ],
)
async def test_a_worker_without_a_name_is_refused(body: dict[str, Any], rig: Rig) -> None:
    reply = await rig.post("/worker", body)
    assert (reply.status, reply.json["error"]) == (400, "Worker name required")


async def test_a_worker_with_two_names_is_told_so(rig: Rig) -> None:
    reply = await rig.post("/worker", b'{"worker_name": "a", "worker_name": "b", "port": 7000}')
    assert (reply.status, reply.json["error"]) == (400, '"worker_name" is given twice')
    assert (await rig.get("/worker")).json == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0),
        ("port", -1),
        ("port", 65_536),
        ("port", 10**30),
        ("port", "7000"),
        ("port", 7000.5),
        ("port", None),
        ("slots", 0),
        ("slots", -1),
        ("slots", 1_001),
        ("slots", 10**400),
        ("slots", "2"),
        ("batch_max", 0),
        ("batch_max", -1),
        ("batch_max", 100_001),
        ("batch_max", True),
        ("incarnation", 7),
        ("draining", "no"),
        ("draining", 1),
        ("incarnation", "x" * 1_000),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_an_announcement_has_bounds(field: str, value: Any, rig: Rig) -> None:
    reply = await rig.post("/worker", {"worker_name": "w", field: value})
    assert reply.status == 400
    assert field in reply.json["error"]
    assert (await rig.get("/worker")).json == []


async def test_a_name_may_have_200_characters_of_any_language(rig: Rig) -> None:
    assert (await rig.post("/worker", {"worker_name": "工" * 200})).status == 200
    reply = await rig.post("/worker", {"worker_name": "工" * 201})
    assert reply.status == 400
    assert "200 characters" in reply.json["error"]


async def test_a_name_makes_no_lines_of_its_own_in_the_log(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be refused, or escaped."""
    caplog.set_level(logging.INFO, "dte.master")
    await rig.post("/worker", {"worker_name": "w\nERROR all is lost"})
    assert len(caplog.text.splitlines()) <= 1


async def test_a_name_that_cannot_be_written_is_refused(rig: Rig) -> None:
    """It would break the list of workers for everybody."""
    reply = await rig.post("/worker", rb'{"worker_name": "\ud800 NaN"}')
    listed = await rig.get("/worker")
    assert (reply.status, listed.status) == (400, 200)


async def test_too_many_workers(start_master: StartMaster) -> None:
    rig = await start_master(workers_max=2)
    for port in (7000, 7001, 7000):
        await rig.announce(port)
    reply = await rig.post("/worker", {"worker_name": "w", "port": 7002})
    check_bound(reply, 429, "too many workers: 2 + 1 > 2 (workers_max)")
    assert int(reply.headers["retry-after"]) >= 1
    await rig.announce(7001, draining=True)
    await rig.announce(7002)
    ports = [worker["address"][-4:] for worker in (await rig.get("/worker")).json]
    assert ports == ["7000", "7002"], "one that left makes room"


# The handlers of a worker


async def test_handlers_may_be_a_list_of_names(rig: Rig) -> None:
    await rig.announce(7000, handlers=["resize", "echo"], slots=3)
    (listed,) = (await rig.get("/worker")).json
    assert (listed["handlers"], listed["handler_slots"]) == (["echo", "resize"], 3)
    assert rig.worker(7000).announcement.handlers == dict.fromkeys(
        ["resize", "echo"], HandlerPolicy()
    )


async def test_handlers_may_be_objects_with_what_holds_for_their_calls(rig: Rig) -> None:
    handlers = {"echo": {"timeout": 2.5, "retries": 3, "pure": True}, "resize": {}}
    await rig.announce(7000, handlers=handlers, handler_slots=8, arithmetic=False)
    announced = rig.worker(7000).announcement
    assert announced.handlers == {"echo": HandlerPolicy(2.5, 3, True), "resize": HandlerPolicy()}
    assert (announced.handler_slots, announced.arithmetic) == (8, False)
    assert rig.master.core.handlers.pure == {"echo"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("handlers", "echo", "handlers must be an object or a list"),
        ("handlers", [1], "handlers[0] must be a text"),
        ("handlers", ["no way"], "handlers: 'no way' is not a handler's name"),
        ("handlers", {"": {}}, "handlers: '' is not a handler's name"),
        (
            "handlers",
            {"echo": {"timeout": 0}},
            "handlers: the timeout of echo must be more than 0, not 0",
        ),
        (
            "handlers",
            {"echo": {"timeout": -1}},
            "handlers: the timeout of echo must be more than 0, not -1",
        ),
        (
            "handlers",
            {"echo": {"retries": -1}},
            "handlers: retries of echo must be from 0 to 1,000, not -1",
        ),
        ("handlers", {"echo": {"retries": 10**30}}, "must be from 0 to 1,000, not "),
        ("handlers", {"echo": {"pure": 1}}, "handlers.echo.pure must be true or false"),
        (
            "handlers",
            {"echo": {"prue": True}},
            "handlers.echo: unknown field 'prue'; did you mean 'pure'?",
        ),
        ("handlers", [f"h{number}" for number in range(1_001)], "too many handlers: 1001 > 1000"),
        ("handler_slots", -1, "handler_slots must be from 0 to 1,000, not -1"),
        ("handler_slots", 1_001, "handler_slots must be from 0 to 1,000, not 1,001"),
        ("arithmetic", 1, "arithmetic must be true or false"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_announced_handlers_have_bounds(field: str, value: Any, words: str, rig: Rig) -> None:
    reply = await rig.post("/worker", {"worker_name": "w", field: value})
    assert reply.status == 400
    assert words in reply.json["error"]
    assert (await rig.get("/worker")).json == []
    if field != "arithmetic":
        body = {"worker": "w", "slots" if field == "handler_slots" else field: value}
        reply = await rig.post("/claim", body)
        assert reply.status == 400
        assert (await rig.get("/worker")).json == []


# POST /claim


async def test_a_claim_gets_what_waits_up_to_its_slots(rig: Rig) -> None:
    numbers = [await rig.accept(handler="echo", args=[n]) for n in range(3)]
    await rig.accept(handler="resize")
    calls = await claim(rig, slots=2)
    assert [call["job_id"] for call in calls] == numbers[:2]
    assert calls[0] == {
        "lease": calls[0]["lease"],
        "job_id": numbers[0],
        "node": "call",
        "handler": "echo",
        "args": [0],
        "timeout": None,
        "attempt": 1,
        "lease_s": 10.0,
    }
    (last,) = await claim(rig, slots=2)
    assert last["job_id"] == numbers[2]
    assert await claim(rig, slots=2) == []


async def test_a_claim_is_answered_as_soon_as_there_is_work(rig: Rig) -> None:
    claiming = asyncio.create_task(claim(rig, wait=60))
    await until(lambda: rig.master.workers._claims, "it waits")
    await rig.accept(handler="resize")
    assert not claiming.done()
    number = await rig.accept(handler="echo", args=[1])
    (call,) = await claiming
    assert call["job_id"] == number
    (listed,) = (await rig.get("/worker")).json
    assert (listed["worker_name"], listed["address"], listed["calls"]) == ("puller", "", 1)


async def test_a_claim_whose_wait_is_over_gets_nothing(rig: Rig) -> None:
    reply = await rig.post("/claim", {"worker": "puller", "handlers": ["echo"], "wait": 0.01})
    assert (reply.status, reply.body) == (200, b'{"calls":[],"batches":[]}\n')
    number = await rig.accept(handler="echo")
    assert (await rig.job(number, wait_s=0.02))["state"] == "waiting", "nobody has it"
    assert not rig.master.workers._claims


async def test_a_claim_that_is_hung_up_on_keeps_nothing(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    body = {"worker": "puller", "handlers": ["echo"], "wait": 60}
    await line.send(request_bytes("POST", "/claim", body))
    await until(lambda: rig.master.workers._claims, "it waits")
    line.close()
    await until(lambda: not rig.master.workers._claims, "it waits no more")
    await rig.accept(handler="echo")
    call = await claim_one(rig, "other", wait=0)
    assert call["attempt"] == 1


async def test_a_lease_of_a_claim_that_was_hung_up_on_goes_to_the_next(
    start_journaled: StartMaster, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease was still being recorded, so the worker never got it."""
    rig = await start_journaled()
    line = await dial(rig.port)
    body = {"worker": "puller", "handlers": ["echo"], "wait": 60}
    await line.send(request_bytes("POST", "/claim", body))
    await until(lambda: rig.master.workers._claims, "it waits")
    (waiting,) = rig.master.workers._claims
    write, may_write = Journal.write, threading.Event()

    def held_if_leased(journal: Journal, facts: Facts, wall_s: float) -> Any:
        assert not facts.steps or may_write.wait(20)
        return write(journal, facts, wall_s)

    monkeypatch.setattr(Journal, "write", held_if_leased)
    number = await rig.accept(handler="echo")
    await until(lambda: waiting.call_leases, "it is leased")
    line.close()
    await until(lambda: not rig.master.workers._claims, "it waits no more")
    may_write.set()
    call = await claim_one(rig, "other")
    assert (call["job_id"], call["attempt"]) == (number, 1)
    await report(rig, call["lease"], result=1)
    assert (await rig.job(number, wait_s=20))["answer"] == 1


async def test_a_second_claim_of_a_name_answers_the_first(
    rig: Rig,
) -> None:
    older = asyncio.create_task(claim(rig, wait=60))
    await until(lambda: len(rig.master.workers._claims) == 1, "it waits")
    newer = asyncio.create_task(claim(rig, wait=60))
    assert await older == []
    await rig.accept(handler="echo", args=[1])
    assert [call["args"] for call in await newer] == [[1]]


async def test_a_worker_that_leaves_has_its_claim_answered_and_gets_no_more(rig: Rig) -> None:
    claiming = asyncio.create_task(claim(rig, wait=60, incarnation="a"))
    await until(lambda: rig.master.workers._claims, "it waits")
    assert await claim(rig, draining=True, incarnation="a", wait=60) == []
    assert await claiming == []
    await rig.accept(handler="echo")
    (listed,) = (await rig.get("/worker")).json
    assert (listed["state"], listed["calls"]) == ("draining", 0)


async def test_a_worker_that_leaves_still_reports(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    call = await claim_one(rig, incarnation="a")
    await claim(rig, draining=True, incarnation="a")
    assert (await extend(rig, call["lease"]))["extended"] == [call["lease"]]
    assert (await report(rig, call["lease"], result=1))["accepted"] == [call["lease"]]
    assert (await rig.job(number, wait_s=20))["answer"] == 1


async def test_another_incarnation_of_a_name_has_lost_what_the_first_had(rig: Rig) -> None:
    await rig.accept(handler="echo")
    first = await claim_one(rig, incarnation="a")
    body = {"worker": "puller", "handlers": ["echo"], "incarnation": "b"}
    refused = await rig.post("/claim", body)
    assert (refused.status, refused.json["code"]) == (409, "conflict"), "it may be at work"
    (worker,) = rig.master.core.workers()
    worker.last_seen_at -= rig.master.settings.lease_s  # It has been silent.
    again = await claim_one(rig, incarnation="b")
    assert (again["attempt"], again["lease"] != first["lease"]) == (2, True)
    assert (await report(rig, first["lease"], result=1))["stale"] == [first["lease"]]


async def test_claims_get_arithmetic_as_far_as_they_take_it(rig: Rig) -> None:
    number = await rig.submit("(1+2)*(3+4)-0.5")
    assert await claim(rig) == []
    symbols = ""
    while not (await rig.job(number))["finished"]:
        body = {"worker": "puller", "batch_max": 64, "wait": 20}
        (batch,) = (await rig.post("/claim", body)).json["batches"]
        symbols += batch["operations"]
        reply = await rig.post("/result", {"worker": "puller", "batches": [fakes.batch(batch)]})
        assert reply.json == {"accepted": [batch["lease"]], "stale": []}
    assert (await rig.job(number))["answer"] == 20.5
    assert symbols == "++*-"


async def test_a_long_integer_of_a_batch_may_come_with_results_of_calls(rig: Rig) -> None:
    longest = "9" * INTEGER_DIGITS_MAX
    long, number = await rig.submit(f"0-{longest}"), await rig.accept(handler="echo")
    body = {"worker": "puller", "handlers": ["echo"], "batch_max": 64, "wait": 20}
    claimed = (await rig.post("/claim", body)).json
    (call,), (batch,) = claimed["calls"], claimed["batches"]
    body = {
        "worker": "puller",
        "results": [{"lease": call["lease"], "result": "NaN"}],
        "batches": [{"lease": batch["lease"], "results": [-int(longest)]}],
    }
    reply = await rig.post("/result", body)
    assert reply.json == {"accepted": [call["lease"], batch["lease"]], "stale": []}
    assert (await rig.job(long, wait_s=20))["answer"] == -int(longest)
    assert (await rig.job(number, wait_s=20))["answer"] == "NaN"


async def test_a_claim_without_slots_gets_no_calls(rig: Rig) -> None:
    await rig.accept(handler="echo")
    assert await claim(rig, slots=0) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "worker"),
        ({"worker": ""}, "worker: the name is missing"),
        ({"worker": "x" * 201}, "worker has more than 200 characters"),
        ({"worker": "a\nb"}, "worker has characters that cannot be printed"),
        ({"worker": "w", "incarnation": "x" * 201}, "incarnation has more than 200 characters"),
        ({"worker": "w", "slots": -1}, "slots must be from 0 to 1,000, not -1"),
        ({"worker": "w", "slots": 10**30}, "must be from 0 to 1,000, not "),
        ({"worker": "w", "batch_max": 100_001}, "batch_max must be from 0 to 100,000, not 100,001"),
        ({"worker": "w", "wait": -1}, "wait_max_s"),
        ({"worker": "w", "wait": 61}, "expected 0 to 60 seconds (wait_max_s)"),
        ({"worker": "w", "wait": "1"}, "wait must be a number"),
        ([], ""),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_claim_is_refused(body: Any, words: str, rig: Rig) -> None:
    reply = await rig.post("/claim", body)
    assert reply.status == 400
    assert words in reply.json["error"]
    assert (await rig.get("/worker")).json == []


async def test_too_many_workers_that_claim(start_master: StartMaster) -> None:
    rig = await start_master(workers_max=1)
    claiming = asyncio.create_task(claim(rig, wait=60))
    await until(lambda: rig.master.workers._claims, "it waits")
    reply = await rig.post("/claim", {"worker": "other", "handlers": ["echo"]})
    check_bound(reply, 429, "workers_max")
    await rig.accept(handler="echo")
    assert len(await claiming) == 1


async def test_the_end_of_a_master_answers_claims_that_wait(rig: Rig) -> None:
    claiming = asyncio.create_task(claim(rig, wait=60))
    await until(lambda: rig.master.workers._claims, "it waits")
    await rig.master.end(0)
    assert await claiming == []


# POST /result


async def test_many_results_are_reported_at_once(rig: Rig) -> None:
    numbers = [await rig.accept(handler="echo", args=[n]) for n in range(4)]
    leases = [call["lease"] for call in await claim(rig, slots=4)]
    body = {
        "worker": "puller",
        "results": [
            {"lease": leases[0], "result": {"x": [1.5, None]}},
            {"lease": leases[1], "error": "broke", "retry": False},
            {"lease": leases[2], "state": "timed_out"},
            {"lease": 10**30, "result": 1},
            {"lease": leases[3], "state": "returned"},
        ],
    }
    reply = await rig.post("/result", body)
    assert reply.json == {"accepted": leases, "stale": [10**30]}
    jobs = (await rig.get(f"/jobs?ids=1-{numbers[-1]}")).json
    assert [(job["state"], job["answer"], job["error"]) for job in jobs] == [
        ("succeeded", {"x": [1.5, None]}, None),
        ("failed", None, "broke"),
        ("timed_out", None, "timed_out"),
        ("running", None, None),
    ]
    (again,) = await claim(rig)
    assert (again["job_id"], again["attempt"]) == (numbers[3], 1), "what is returned was no attempt"


async def test_a_result_counts_once(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    call = await claim_one(rig)
    assert (await report(rig, call["lease"], result=1))["accepted"] == [call["lease"]]
    assert (await report(rig, call["lease"], result=2))["stale"] == [call["lease"]]
    assert (await rig.job(number))["answer"] == 1
    assert (await rig.get("/health")).json["stale_results"] == 1


async def test_a_result_twice_in_one_report_counts_once(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    results = [{"lease": lease, "result": 1}, {"lease": lease, "result": 2}]
    reply = await rig.post("/result", {"worker": "puller", "results": results})
    assert reply.json == {"accepted": [lease], "stale": [lease]}
    assert (await rig.job(number))["answer"] == 1


async def test_nothing_reported_is_nothing_accepted(rig: Rig) -> None:
    reply = await rig.post("/result", {"worker": "puller"})
    assert (reply.status, reply.body) == (200, b'{"accepted":[],"stale":[]}\n')


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (b"{}", "lease"),
        (b'{"lease": "LEASE"}', "results[0].lease must be an integer"),
        (b'{"lease": LEASE}', "lease LEASE: a result, an error or a state is expected"),
        (b'{"lease": LEASE, "state": "succeeded"}', "lease LEASE succeeded without a result"),
        (b'{"lease": LEASE, "state": "done", "result": 1}', "done"),
        (b'{"lease": LEASE, "result": NaN}', ""),
        (b'{"lease": LEASE, "result": }', ""),
        (b'{"lease": LEASE, "result": "\\ud800"}', ""),
        (b'{"lease": LEASE, "error": 5}', "results[0].error must be a text"),
    ],
)
async def test_a_wrong_report_is_refused_and_the_call_goes_on(
    result: bytes, words: str, rig: Rig
) -> None:
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    result = result.replace(b"LEASE", str(lease).encode())
    reply = await rig.post("/result", b'{"worker": "puller", "results": [' + result + b"]}")
    assert reply.status == 400
    assert words.replace("LEASE", str(lease)) in reply.json["error"]
    assert (await report(rig, lease, result=1))["accepted"] == [lease]
    assert (await rig.job(number))["answer"] == 1


@pytest.mark.parametrize("batch", [{}, {"lease": 1}, {"lease": 1, "results": ["1"]}, 5])
async def test_a_wrong_batch_is_refused(batch: Any, rig: Rig) -> None:
    reply = await rig.post("/result", {"worker": "puller", "batches": [batch]})
    assert (reply.status, reply.json["code"]) == (400, "invalid")
    assert "batches: " in reply.json["error"]


async def test_a_state_that_is_no_success_counts_also_beside_a_result(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    await report(rig, lease, state="failed", result=None)
    assert (await rig.job(number))["state"] == "failed"


async def test_a_call_that_is_lost_again_and_again_fails(start_master: StartMaster) -> None:
    rig = await start_master(workers_lost_max=2)
    number = await rig.accept(handler="echo")
    await report(rig, (await claim_one(rig))["lease"], state="lost", error="exit code -9")
    await report(rig, (await claim_one(rig))["lease"], state="lost", error="exit code -9")
    error = "gave up: 2 workers died while running it (workers_lost_max); the last, exit code -9"
    assert (await rig.job(number))["error"] == error


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (b'"' + b"x" * 99 + b'"', "its result has 101 bytes, more than 100 (value_bytes_max)"),
        (b'"\xff"', "its result is not in UTF-8"),
    ],
)
async def test_a_result_that_nobody_could_take_is_the_call_s_failure(
    result: bytes, error: str, start_master: StartMaster
) -> None:
    """Otherwise the worker would report it again and again."""
    rig = await start_master(value_bytes_max=100)
    number = await rig.accept(handler="echo", retries=3)
    lease = str((await claim_one(rig))["lease"]).encode()
    whole = b'{"lease": ' + lease + b', "result": ' + result + b"}"
    reply = await rig.post("/result", b'{"worker": "puller", "results": [' + whole + b"]}")
    assert reply.json["accepted"] == [int(lease)]
    job = await rig.job(number)
    assert (job["state"], job["error"]) == ("failed", error)


async def test_a_long_error_is_cut(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    await report(rig, (await claim_one(rig))["lease"], error="x" * 100_000)
    assert (await rig.job(number))["error"] == "x" * 2_000 + "…"


async def test_a_result_is_accepted_when_it_is_recorded(
    start_journaled: StartMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await start_journaled()
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    write, may_write = Journal.write, threading.Event()

    def write_later(*arguments: Any) -> Any:
        assert may_write.wait(20)
        return write(*arguments)

    monkeypatch.setattr(Journal, "write", write_later)
    reporting = asyncio.create_task(report(rig, lease, result=1))
    await until(lambda: rig.master.awaited.reported, "it is being recorded")
    assert (await rig.job(number))["state"] == "running"
    assert (await rig.nodes(number))["call"]["result"] is None
    assert not reporting.done()
    may_write.set()
    assert (await reporting)["accepted"] == [lease]
    assert (await rig.job(number))["answer"] == 1


async def test_a_report_to_a_disk_that_fails_is_to_be_sent_again(
    start_journaled: StartMaster,
    expected_errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report is recorded as soon as the disk can be written."""
    expected_errors.append("the journal cannot be written")
    monkeypatch.setattr(awaited, "RECORD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(recorder, "RETRY_S", 0.01)
    rig = await start_journaled()
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    write = Journal.write

    def fail(*arguments: Any) -> Any:
        raise JournalFailed("disk I/O error", False)

    monkeypatch.setattr(Journal, "write", fail)
    reply = await rig.post(
        "/result", {"worker": "puller", "results": [{"lease": lease, "result": 1}]}
    )
    assert (reply.status, "retry-after" in reply.headers) == (503, True)
    monkeypatch.setattr(Journal, "write", write)
    assert (await rig.job(number, wait_s=20))["answer"] == 1


# POST /extend


async def test_an_extension_names_leases_that_continue_are_lost_or_must_stop(rig: Rig) -> None:
    numbers = [await rig.accept(handler="echo", args=[n]) for n in range(3)]
    leases = [call["lease"] for call in await claim(rig, slots=3)]
    await report(rig, leases[0], result=1)
    await rig.cancel(numbers[1])
    reply = await rig.post("/extend", {"worker": "puller", "leases": [*leases, 10**30]})
    assert reply.json == {
        "extended": [leases[2]],
        "lost": [leases[0], 10**30],
        "stop": [leases[1]],
        "lease_s": 10.0,
    }


async def test_progress_is_seen_in_the_job_s_nodes(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    for sent, seen in (
        ({"fraction": 0.25}, {"fraction": 0.25, "text": ""}),
        ({"fraction": 1, "text": "é" * 600}, {"fraction": 1.0, "text": "é" * 500}),
    ):
        await extend(rig, lease, progress={str(lease): sent})
        assert (await rig.nodes(number))["call"]["progress"] == seen
    await report(rig, lease, result=1)
    assert (await rig.nodes(number))["call"]["progress"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "worker"),
        ({"worker": "w", "leases": ["1"]}, "leases[0] must be an integer"),
        ({"worker": "w", "progress": {"x": {"fraction": 1}}}, "progress has the key"),
        (
            {"worker": "w", "progress": {"1": {"fraction": 1.01}}},
            "progress of 1 must be from 0 to 1, not 1.01",
        ),
        (
            {"worker": "w", "progress": {"1": {"fraction": -1}}},
            "progress of 1 must be from 0 to 1, not -1",
        ),
        (
            {"worker": "w", "progress": {"1": {"text": "x"}}},
            "progress.1: the field 'fraction' is missing",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_extension_is_refused(body: Any, words: str, rig: Rig) -> None:
    reply = await rig.post("/extend", body)
    assert reply.status == 400
    assert words in reply.json["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/extend", {"leases": [1] * 10_001}),
        ("/result", {"results": [{"lease": 1, "result": 1}] * 10_001}),
    ],
)
async def test_leases_in_a_request_are_bounded(rig: Rig, path: str, body: Any) -> None:
    reply = await rig.post(path, {"worker": "w"} | body)
    assert (reply.status, reply.json["code"]) == (413, "too_large")


async def test_progress_that_comes_with_a_result_is_shown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float | None]] = []
    monkeypatch.setattr(
        rig.master.events, "add", lambda events: seen.extend((e.state, e.fraction) for e in events)
    )
    await rig.accept(handler="echo", args=[1])
    result = {"lease": (await claim_one(rig))["lease"], "result": 1}
    for fraction, status in ((2.0, 400), (1.0, 200)):
        last = {"fraction": fraction, "text": "done"}
        body = {"worker": "puller", "results": [result | {"progress": last}]}
        assert (await rig.post("/result", body)).status == status
    await until(lambda: ("succeeded", None) in seen, "the end")
    assert ("progress", 1.0) in seen


# Policies of handlers


async def test_a_call_has_the_timeout_that_its_worker_said_whatever_others_say(rig: Rig) -> None:
    hasty = {"resize": {"timeout": 0.2, "retries": 9, "pure": True}}
    said = {"worker_name": "stranger", "port": 1, "draining": True, "handlers": hasty}
    for name, timeout in (("old", 30.0), ("new", 5.0), ("old", 30.0)):
        await rig.post("/worker", said)
        await rig.accept(graph={each: {"handler": "resize", "args": [1]} for each in "ab"})
        handlers = {"resize": {"timeout": timeout}}
        claim = {"worker": name, "handlers": handlers, "slots": 4, "wait": 20}
        reply = await rig.post("/claim", claim)
        assert [call["timeout"] for call in reply.json["calls"]] == [timeout] * 2
        results = [{"lease": call["lease"], "result": 1} for call in reply.json["calls"]]
        await rig.post("/result", {"worker": name, "results": results})


async def test_one_name_of_a_handler_more_than_may_be_known_is_refused_with_the_bound(
    rig: Rig,
) -> None:
    said = {"worker_name": "w", "port": 1, "incarnation": "a"}
    names = [f"h{number}" for number in range(1_000)]
    assert (await rig.post("/worker", said | {"handlers": names})).status == 200
    reply = await rig.post("/worker", said | {"port": 2, "handlers": ["another"]})
    check_bound(reply, 429, "too many names of handlers: 1001 > 1000")
    claim = {"worker": "puller", "handlers": ["another"], "wait": 0}
    check_bound(await rig.post("/claim", claim), 429, "too many names of handlers")
    assert (await rig.post("/worker", said | {"port": 2, "handlers": ["h7"]})).status == 200
