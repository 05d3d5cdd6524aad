"""The formula dialect as its clients and workers see it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from wire.plain import Dial, Line, Message, PlainClient, request_bytes
from wire.until import until

from dte.core.operations import INTEGER_DIGITS_MAX
from master import fakes
from master.rig import Hire, Rig, StartMaster

NINES = "9" * INTEGER_DIGITS_MAX


async def nothing_is_stored(rig: Rig) -> bool:
    """Neither a job nor an id is used up."""
    return (await rig.get("/jobs")).json == [] and await rig.submit("1") == 1


# POST /submit


async def test_submitting_gives_an_id_and_nothing_else(rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": "1+(2*3)/4-5"})
    assert reply.status == 200
    assert reply.body == b'{"job_id":1,"finished":false}'


async def test_ids_count_from_1(rig: Rig) -> None:
    assert [await rig.submit("1+2") for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_a_formula_without_operations_is_finished_at_once(rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": "(-42)"})
    assert reply.body == b'{"job_id":1,"finished":true}'
    assert (await rig.job(1))["answer"] == -42


async def test_a_missing_task_is_called_so(rig: Rig) -> None:
    reply = await rig.post("/submit", {})
    assert reply.json == {
        "error": '"task" is missing: {"task": "1+(2*3)/4-5"} is expected',
        "code": "invalid",
    }
    assert await nothing_is_stored(rig)


@pytest.mark.parametrize(
    "body",
    [
        {"task": None},
        {"job": "1+2"},
        {"task": 1},
        {"task": ["1+2"]},
        {"task": {"task": "1+2"}},
        {"task": True},
        {"tasks": "1+2"},
        {"tasks": {"0": "1+2"}},
        {"tasks": [1]},
        {"tasks": ["1+2", None]},
        {"tasks": [["1+2"]]},
        {"task": "1+2", "priority": 1},
        {"tasks": ["1+2"], "wait": 1},
        {"task": "1+2", "tasks": ["1+2"]},
    ],
)
async def test_other_fields_and_types_are_refused(body: dict[str, Any], rig: Rig) -> None:
    reply = await rig.post("/submit", body)
    assert (reply.status, reply.json["code"]) == (400, "invalid")
    assert await nothing_is_stored(rig)


async def test_a_syntax_error_tells_the_place_and_stores_nothing(rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": "1+(2*3)/4-*5"})
    assert reply.status == 400
    assert reply.json == {
        "error": "a number or '(' is expected before '*' (column 11)",
        "code": "syntax",
        "reason": "a number or '(' is expected before '*'",
        "column": 11,
        "caret": "1+(2*3)/4-*5\n          ^",
    }
    assert await nothing_is_stored(rig)


@pytest.mark.parametrize(
    "task",
    [
        "",
        " ",
        "1+",
        "(1",
        "1)",
        "1 2",
        "1**2",
        "2^3",
        "x",
        "1,5",
        "1e",
        "0x10",
        "007",
        "\x00",
        "√2",
    ],
)
async def test_what_is_no_formula_is_refused(task: str, rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": task})
    assert (reply.status, reply.json["code"]) == (400, "syntax")
    assert reply.json["column"] >= 1
    assert reply.json["caret"].endswith("^")
    assert await nothing_is_stored(rig)


async def test_half_a_character_in_a_formula_is_refused(rig: Rig) -> None:
    """Also where the decoder reads more than JSON has, because of the word NaN."""
    for task in (rb"1+\ud800", rb"1+\ud800 NaN"):
        assert (await rig.post("/submit", b'{"task": "' + task + b'"}')).status == 400
    assert await nothing_is_stored(rig)


async def test_waiting_for_the_answer_gives_the_job(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    reply = await rig.post("/submit?wait=20", {"task": "1+(2*3)/4-5"})
    assert reply.status == 200
    assert (reply.json["finished"], reply.json["answer"]) == (True, -2.5)
    assert reply.json == await rig.job(1)


async def test_waiting_in_vain_gives_the_job_as_it_stands(rig: Rig) -> None:
    reply = await rig.post("/submit?wait=0.01", {"task": "1+2"})
    assert reply.status == 200
    assert (reply.json["job_id"], reply.json["finished"], reply.json["answer"]) == (1, False, None)


# Many at once


async def test_many_formulas_get_ids_in_their_order(rig: Rig) -> None:
    await rig.submit("1")
    reply = await rig.post("/submit", {"tasks": ["1+2", "3", "1+2"]})
    assert reply.status == 200
    assert reply.body == b'{"job_ids":[2,3,4]}'
    assert [job["task"] for job in (await rig.get("/jobs")).json] == ["1+2", "3", "1+2", "1"]


async def test_no_formulas_get_no_ids(rig: Rig) -> None:
    assert (await rig.post("/submit", {"tasks": []})).json == {"job_ids": []}
    assert (await rig.post("/submit?wait=1", {"tasks": []})).json == {"job_ids": [], "jobs": []}


async def test_waiting_for_many_gives_them_all(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good, batch_max=64)
    tasks = [f"{number}/{number % 3}" for number in range(30)]
    reply = await rig.post("/submit?wait=20", {"tasks": tasks})
    assert reply.json["job_ids"] == list(range(1, 31))
    assert [job["job_id"] for job in reply.json["jobs"]] == list(range(1, 31))
    for number, job in enumerate(reply.json["jobs"]):
        assert job["finished"]
        assert job["answer"] == (number / (number % 3) if number % 3 else None)
        assert (job["error"] is None) == bool(number % 3)


@pytest.mark.parametrize(
    ("tasks", "index", "column"),
    [
        (["1+2", "3+", "4"], 1, 3),
        (["1+2", "3", "+"], 2, 2),
        (["", ""], 0, 1),
        (["1+"], 0, 3),
    ],
)
async def test_the_first_bad_formula_refuses_all_and_is_named(
    tasks: list[str], index: int, column: int, rig: Rig
) -> None:
    reply = await rig.post("/submit", {"tasks": tasks})
    assert reply.status == 400
    assert reply.json["code"] == "syntax"
    assert (reply.json["index"], reply.json["column"]) == (index, column)
    assert f"formula {index}, column {column}" in reply.json["error"]
    assert reply.json["caret"].endswith("^")
    assert await nothing_is_stored(rig)


# GET /job/{id}


async def test_a_job_tells_its_progress_and_its_times(rig: Rig, hire: Hire) -> None:
    may_reply = asyncio.Event()

    async def hold_divisions(request: Message, line: Line) -> None:
        if request.json["operation"] == "div":
            await may_reply.wait()
        await fakes.good(request, line)

    before = datetime.now(UTC) - timedelta(seconds=5)
    number = await rig.submit("(1+2)/2")
    job = await rig.job(number)
    submitted_at = job["submitted_at"]
    assert before < datetime.fromisoformat(submitted_at) < before + timedelta(seconds=10)
    assert job == {
        "job_id": 1,
        "finished": False,
        "answer": None,
        "error": None,
        "state": "waiting",
        "operations": 2,
        "operations_done": 0,
        "submitted_at": submitted_at,
        "started_at": None,
        "ended_at": None,
    }
    worker = await hire(rig, hold_divisions)
    await until(lambda: len(worker.requests) == 2, "the second operation is out")
    running = await rig.job(number)
    started_at = running["started_at"]
    assert started_at >= submitted_at
    assert running == job | {"state": "running", "operations_done": 1, "started_at": started_at}
    may_reply.set()
    ended = await rig.job(number, wait_s=20)
    assert ended["ended_at"] >= started_at
    assert ended == running | {
        "finished": True,
        "answer": 1.5,
        "state": "succeeded",
        "operations_done": 2,
        "ended_at": ended["ended_at"],
    }


async def test_a_job_that_failed_tells_why(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    job = await rig.compute("1/(2-2)")
    assert (job["finished"], job["state"], job["answer"]) == (True, "failed", None)
    assert job["error"] == "division by zero: 1 / 0"
    assert (job["operations"], job["operations_done"]) == (2, 1)


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "2",
        "-1",
        "+1",
        "1.0",
        "1e0",
        "0x1",
        "1_0",
        "abc",
        "1-1",
        "1,1",
        "%201",
        "1%0A",
        "null",
        "%EF%BC%91",
        "%C2%B9",
        "9" * 18,
        "9" * 19,
        "1" + "0" * 5_000,
    ],
    ids=lambda number: number[:20],
)
async def test_there_is_no_other_job(number: str, rig: Rig) -> None:
    assert await rig.submit("1") == 1
    reply = await rig.get(f"/job/{number}")
    assert reply.status == 404
    assert reply.json == {"error": "Job not found", "code": "not_found"}


async def test_an_id_that_is_no_text_is_refused(rig: Rig) -> None:
    reply = await rig.get("/job/%ff")
    assert reply.status in (400, 404)
    assert reply.json["error"]


async def test_an_id_may_be_written_in_other_ways(rig: Rig) -> None:
    await rig.submit("1")
    for number in ("1", "01", "%31"):
        assert (await rig.get(f"/job/{number}")).json["job_id"] == 1


async def test_waiting_for_a_job_ends_with_the_job(rig: Rig, hire: Hire) -> None:
    number = await rig.submit("1+2")
    waiting = asyncio.create_task(rig.job(number, wait_s=60))
    await until(lambda: len(rig.master.waiters), "it waits")
    assert not waiting.done()
    await hire(rig, fakes.good)
    assert (await waiting)["answer"] == 3
    assert (await rig.job(number, wait_s=60))["answer"] == 3


async def test_jobs_that_ended_long_ago_are_forgotten(start_master: StartMaster) -> None:
    rig = await start_master(jobs_kept=2)
    for number in range(1, 5):
        assert await rig.submit(str(number)) == number
    assert [job["job_id"] for job in (await rig.get("/jobs")).json] == [4, 3]
    assert (await rig.get("/job/2")).json["error"] == "Job not found"


# GET /jobs


async def test_jobs_are_a_bare_list_with_the_newest_first(rig: Rig, hire: Hire) -> None:
    assert (await rig.get("/jobs")).body == b"[]"
    await hire(rig, fakes.good)
    for task in ("1+2", "3/0", "42"):
        await rig.compute(task)
    assert (await rig.get("/jobs")).json == [
        {"job_id": 3, "task": "42", "finished": True, "answer": 42, "error": None},
        {
            "job_id": 2,
            "task": "3/0",
            "finished": True,
            "answer": None,
            "error": "division by zero: 3 / 0",
        },
        {"job_id": 1, "task": "1+2", "finished": True, "answer": 3, "error": None},
    ]


async def test_jobs_are_the_last_100(rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1+2", "3"] * 60})
    listed = (await rig.get("/jobs")).json
    assert [job["job_id"] for job in listed] == list(range(120, 20, -1))


async def test_a_task_is_listed_as_it_was_written_however_it_was_written(rig: Rig) -> None:
    task = " 6 × 7 ÷\t2\n− 1"
    await rig.submit(task)
    (listed,) = (await rig.get("/jobs")).json
    assert listed["task"] == task


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        ("1", [1]),
        ("1-3", [1, 2, 3]),
        ("1-3,2", [1, 2, 3, 2]),
        ("3,1", [3, 1]),
        ("2-2", [2]),
        ("%204%20,%205", [4, 5]),
        ("5,4-5,001", [5, 4, 5, 1]),
    ],
)
async def test_jobs_can_be_asked_for_by_their_ids(ids: str, numbers: list[int], rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1", "2+3", "4", "5", "6"]})
    reply = await rig.get(f"/jobs?ids={ids}")
    assert reply.status == 200
    assert [job["job_id"] for job in reply.json] == numbers
    assert reply.json[0] == await rig.job(numbers[0])


@pytest.mark.parametrize(
    "ids",
    [
        "",
        ",",
        "1,",
        "a",
        "1-",
        "-1",
        "1-2-3",
        "1.5",
        "1;2",
        "%C2%B2",
        "9" * 19,
        "1%2D",
        "3-1",
    ],
)
async def test_ids_that_are_none_are_refused(ids: str, rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1", "2", "3"]})
    reply = await rig.get(f"/jobs?ids={ids}")
    assert (reply.status, reply.json["code"]) == (400, "invalid")
    assert "job ids like 7 or 1-50 are expected" in reply.json["error"]


@pytest.mark.parametrize("ids", ["4", "1-4", "0-3", "1,2,9", "9" * 18])
async def test_one_unknown_id_is_not_passed_over(ids: str, rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1", "2", "3"]})
    reply = await rig.get(f"/jobs?ids={ids}")
    assert (reply.status, reply.json["error"]) == (404, "Job not found")


async def test_waiting_for_jobs_ends_when_all_have_ended(rig: Rig, hire: Hire) -> None:
    await rig.post("/submit", {"tasks": ["1+2", "3", "4+5"]})
    waiting = asyncio.create_task(rig.get("/jobs?ids=1-3,1&wait=60"))
    await until(lambda: len(rig.master.waiters) == 2, "it waits")
    await hire(rig, fakes.good)
    assert [job["answer"] for job in (await waiting).json] == [3, 3, 9, 3]


async def test_waiting_for_jobs_in_vain_gives_them_as_they_stand(rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1+2", "3"]})
    reply = await rig.get("/jobs?ids=1-2&wait=0.01")
    assert [job["finished"] for job in reply.json] == [False, True]


# POST /worker, GET /worker


async def test_a_worker_registers_with_its_name(rig: Rig) -> None:
    reply = await rig.post("/worker", {"worker_name": "worker-1700000000"})
    assert reply.status == 200
    assert reply.body == b'{"status":"Worker registered"}'
    (listed,) = (await rig.get("/worker")).json
    heard_at = datetime.fromisoformat(listed.pop("heard_at"))
    assert abs(datetime.now(UTC) - heard_at) < timedelta(seconds=5)
    assert listed == {
        "worker_name": "worker-1700000000",
        "address": "127.0.0.1:6000",
        "state": "free",
        "slots": 1,
        "leases": 0,
        "batch": 1,
        "operations_done": 0,
        "failures": 0,
        "last_failure": None,
    }


async def test_a_worker_is_where_it_registers_from(rig: Rig) -> None:
    """Whatever a proxy might claim."""
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


async def test_the_list_tells_what_workers_do(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent, slots=2, batch_max=64)
    await rig.post("/submit", {"tasks": ["1+2"]})
    await until(lambda: worker.requests, "a hand-over")
    (listed,) = (await rig.get("/worker")).json
    assert (listed["state"], listed["slots"], listed["leases"]) == ("busy", 2, 1)


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
        ("slots", 65),
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
async def test_what_a_worker_says_of_itself_has_bounds(field: str, value: Any, rig: Rig) -> None:
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
    """Whether it is refused or written in another way."""
    caplog.set_level(logging.INFO, "dte.master")
    await rig.post("/worker", {"worker_name": "w\nERROR all is lost"})
    assert len(caplog.text.splitlines()) <= 1


async def test_a_name_that_cannot_be_written_is_refused(rig: Rig) -> None:
    """Else the list of workers fails for everybody from then on."""
    reply = await rig.post("/worker", rb'{"worker_name": "\ud800 NaN"}')
    listed = await rig.get("/worker")
    assert (reply.status, listed.status) == (400, 200)


# Bounds


def check_bound(reply: Message, status: int, *words: str) -> None:
    assert reply.status == status, reply.json
    for word in words:
        assert word in reply.json["error"]
    assert ("retry-after" in reply.headers) == (status == 429)


@pytest.mark.parametrize("one", [True, False], ids=["task", "tasks"])
@pytest.mark.parametrize(
    ("bounds", "fits", "exceeds", "status", "words"),
    [
        ({"formula_chars_max": 5}, "1+2+3", "1+2+30", 413, ("6 characters", "formula_chars_max")),
        (
            {"formula_operations_max": 3},
            "1+2.5*3/4",
            "1+2.5*3/4-5",
            413,
            ("more than 3 operations", "formula_operations_max"),
        ),
        ({"digits_max": 3}, "999+0.1234", "1+1000", 400, ("4 digits", "digits_max")),
        ({}, NINES, f"{NINES}9", 400, ("4301 digits", "digits_max")),
        (
            {"operations_waiting_max": 3},
            "1+2.5*3/4",
            "1+2.5*3/4-5",
            413,
            ("4 operations", "no more than 3 may wait (operations_waiting_max)"),
        ),
    ],
    ids=["characters", "operations", "digits", "4300 digits", "operations waiting"],
)
async def test_a_formula_has_bounds(
    bounds: dict[str, int],
    fits: str,
    exceeds: str,
    status: int,
    words: tuple[str, ...],
    one: bool,
    start_master: StartMaster,
) -> None:
    rig = await start_master(**bounds)
    check_bound(
        await rig.post("/submit", {"task": exceeds} if one else {"tasks": ["1", exceeds]}),
        status,
        *words,
    )
    assert (await rig.get("/jobs")).json == []
    reply = await rig.post("/submit", {"task": fits} if one else {"tasks": ["1", fits]})
    assert reply.status == 200


async def test_an_answer_with_too_many_digits_is_the_job_s_failure(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(digits_max=3)
    await hire(rig, fakes.good)
    job = await rig.compute("999+1")
    assert (job["state"], job["answer"]) == ("failed", None)
    assert job["error"] == "the answer has more than 3 digits (digits_max)"
    assert (await rig.compute("(999+1)-1"))["answer"] == 999
    assert (await rig.compute("0-999"))["answer"] == -999
    assert (await rig.compute("0-999-1"))["state"] == "failed"


async def test_answers_of_the_longest_length_are_given(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    for sign in ("", "-"):
        job = await rig.compute(f"{sign}{NINES}+0")
        assert job["answer"] == int(f"{sign}{NINES}")
    assert (await rig.get("/jobs")).json[0]["answer"] == -int(NINES)


async def test_a_literal_that_is_no_finite_float_is_the_job_s_failure(rig: Rig) -> None:
    for task in ("1e999", "1+1e999", "-1e999"):
        reply = await rig.post("/submit", {"task": task})
        assert reply.json["finished"]
        job = await rig.job(reply.json["job_id"])
        assert (job["state"], job["answer"]) == ("failed", None)
        assert job["error"] == "a number in the formula is too large for a float"
    assert rig.idle


async def test_too_many_jobs_wait(start_master: StartMaster, hire: Hire) -> None:
    rig = await start_master(jobs_waiting_max=2)
    assert (await rig.post("/submit", {"tasks": ["1+2"] * 3})).status == 429
    for _ in range(2):
        await rig.submit("1+2")
    reply = await rig.post("/submit", {"task": "1+2"})
    check_bound(reply, 429, "2 jobs wait", "more than 2 (jobs_waiting_max)")
    assert int(reply.headers["retry-after"]) >= 1
    assert len((await rig.get("/jobs")).json) == 2
    await hire(rig, fakes.good)
    await rig.job(2, wait_s=20)
    await rig.job(1, wait_s=20)
    assert await rig.submit("1+2") == 3, "what has ended makes room, and no id was lost"


async def test_too_many_operations_wait(start_master: StartMaster, hire: Hire) -> None:
    rig = await start_master(operations_waiting_max=3)
    await rig.submit("1+2.5*3")
    reply = await rig.post("/submit", {"task": "1/2/3"})
    check_bound(reply, 429, "2 operations wait", "more than 3 (operations_waiting_max)")
    assert await rig.submit("1/2") == 2
    await hire(rig, fakes.good)
    await rig.job(1, wait_s=20)
    await rig.job(2, wait_s=20)
    assert await rig.submit("1/2/3") == 3


async def test_too_many_formulas_in_a_request(start_master: StartMaster) -> None:
    rig = await start_master(formulas_max=3)
    reply = await rig.post("/submit", {"tasks": ["1"] * 4})
    check_bound(reply, 413, "4 formulas", "up to 3 ", "formulas_max")
    assert (await rig.get("/jobs")).json == []
    assert (await rig.post("/submit", {"tasks": ["1"] * 3})).status == 200


@pytest.mark.parametrize("ids", ["1-4", "1,2,3,1", "1-2,1-2", f"1-{'9' * 18}", f"0-{'9' * 18}"])
async def test_too_many_jobs_in_a_reply(ids: str, start_master: StartMaster) -> None:
    rig = await start_master(formulas_max=3)
    await rig.post("/submit", {"tasks": ["1", "2", "3"]})
    check_bound(await rig.get(f"/jobs?ids={ids}"), 413, "up to 3 jobs", "formulas_max")
    assert len((await rig.get("/jobs?ids=1-3")).json) == 3


async def test_too_many_workers(start_master: StartMaster) -> None:
    rig = await start_master(workers_max=2)
    for port in (7000, 7001, 7000):
        await rig.announce(port)
    reply = await rig.post("/worker", {"worker_name": "w", "port": 7002})
    check_bound(reply, 429, "2 workers", "workers_max")
    assert int(reply.headers["retry-after"]) >= 1
    await rig.announce(7001, draining=True)
    await rig.announce(7002)
    ports = [worker["address"][-4:] for worker in (await rig.get("/worker")).json]
    assert ports == ["7000", "7002"], "one that left makes room"


# Long replies


async def test_thousands_of_jobs_in_one_reply(rig: Rig) -> None:
    tasks = [str(number) for number in range(2_500)]
    reply = await rig.post("/submit?wait=20", {"tasks": tasks})
    assert [job["answer"] for job in reply.json["jobs"]] == list(range(2_500))
    listed = (await rig.get("/jobs?ids=1-2500")).json
    assert [job["answer"] for job in listed] == list(range(2_500))


async def test_a_long_formula_is_accepted_while_others_are_answered(rig: Rig, dial: Dial) -> None:
    """The master parses it in slices: a request that comes later is answered earlier."""
    line = await dial(rig.port)
    long = "+".join(["1.5"] * 300_000)
    await line.send(request_bytes("POST", "/submit", {"task": long}))
    submitted = asyncio.create_task(line.read())
    await until(rig.master.slices._turn.locked, "the first slice")
    assert (await rig.get("/health")).status == 200
    assert not submitted.done()
    reply = await submitted
    assert reply is not None
    assert reply.json == {"job_id": 1, "finished": False}
    assert (await rig.job(1))["operations"] == 299_999
