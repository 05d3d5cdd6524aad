"""The formula dialect as its clients and workers see it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.http import Dial, request_bytes
from harness.until import until

from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from master import fakes
from master.rig import Hire, Rig, StartMaster, check_bound

NINES = "9" * INTEGER_DIGITS_MAX


async def nothing_is_stored(rig: Rig) -> bool:
    """Neither a job nor an id is used up."""
    return (await rig.get("/jobs")).json == [] and await rig.submit("1") == 1


# POST /submit


async def test_submitting_gives_an_id_and_nothing_else(rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": "1+(2*3)/4-5"})
    assert reply.status == 200
    assert reply.body == b'{"job_id":1,"finished":false}\n'


async def test_ids_count_from_1(rig: Rig) -> None:
    assert [await rig.submit("1+2") for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_a_formula_without_operations_is_finished_at_once(rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": "(-42)"})
    assert reply.body == b'{"job_id":1,"finished":true}\n'
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
        {"task": "1+2", "priority": "high"},
        {"task": "1+2", "priority": 1.5},
        {"task": "1+2", "priority": 1_000_001},
        {"tasks": ["1+2"], "priority": 1},
        {"tasks": ["1+2"], "notify": "http://127.0.0.1/"},
        {"task": "1+2", "tasks": ["1+2"]},
    ],
)
async def test_other_types_are_refused(body: dict[str, Any], rig: Rig) -> None:
    reply = await rig.post("/submit", body)
    assert (reply.status, reply.json["code"]) == (400, "invalid")
    assert await nothing_is_stored(rig)


async def test_further_fields_are_ignored(rig: Rig) -> None:
    """Clients of the dialect may send more than its server reads."""
    reply = await rig.post("/submit", {"task": "1+2", "user": "me", "answer": None})
    assert (reply.status, set(reply.json)) == (200, {"job_id", "finished"})
    assert (await rig.post("/submit", {"tasks": ["1", "2"], "wait": 1})).status == 200


async def test_a_syntax_error_has_a_column_and_stores_nothing(rig: Rig) -> None:
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
async def test_text_that_is_no_formula_is_refused(task: str, rig: Rig) -> None:
    reply = await rig.post("/submit", {"task": task})
    assert (reply.status, reply.json["code"]) == (400, "syntax")
    assert reply.json["column"] >= 1
    assert reply.json["caret"].endswith("^")
    assert await nothing_is_stored(rig)


async def test_half_a_character_in_a_formula_is_refused(rig: Rig) -> None:
    """The word NaN makes the decoder use its reader for more than JSON."""
    for task in (rb"1+\ud800", rb"1+\ud800 NaN"):
        assert (await rig.post("/submit", b'{"task": "' + task + b'"}')).status == 400
    assert await nothing_is_stored(rig)


async def test_waiting_for_the_answer_gives_the_job(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    reply = await rig.post("/submit?wait=20", {"task": "1+(2*3)/4-5"})
    assert reply.status == 200
    assert (reply.json["finished"], reply.json["answer"]) == (True, -2.5)
    assert reply.json == await rig.job(1)


async def test_a_wait_that_is_over_returns_the_unfinished_job(rig: Rig) -> None:
    reply = await rig.post("/submit?wait=0.01", {"task": "1+2"})
    assert reply.status == 200
    assert (reply.json["job_id"], reply.json["finished"], reply.json["answer"]) == (1, False, None)


# Many at once


async def test_many_formulas_get_ids_in_their_order(rig: Rig) -> None:
    await rig.submit("1")
    reply = await rig.post("/submit", {"tasks": ["1+2", "3", "1+2"]})
    assert reply.status == 200
    assert reply.body == b'{"job_ids":[2,3,4]}\n'
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


# Bounds


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
            ("too many operations: 4 > 3 (operations_waiting_max)",),
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
    await until(lambda: rig.idle, "nothing is under way")


async def test_too_many_jobs_wait(start_master: StartMaster, hire: Hire) -> None:
    rig = await start_master(jobs_waiting_max=2)
    assert (await rig.post("/submit", {"tasks": ["1+2"] * 3})).status == 429
    for _ in range(2):
        await rig.submit("1+2")
    reply = await rig.post("/submit", {"task": "1+2"})
    check_bound(reply, 429, "too many unfinished jobs: 2 + 1 > 2 (jobs_waiting_max)")
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
    check_bound(reply, 429, "too many unfinished operations: 2 + ", " > 3 (operations_waiting_max)")
    assert await rig.submit("1/2") == 2
    await hire(rig, fakes.good)
    await rig.job(1, wait_s=20)
    await rig.job(2, wait_s=20)
    assert await rig.submit("1/2/3") == 3


async def test_too_many_formulas_in_a_request(start_master: StartMaster) -> None:
    rig = await start_master(formulas_max=3)
    reply = await rig.post("/submit", {"tasks": ["1"] * 4})
    check_bound(reply, 413, "formulas in a request: 4 > 3", "formulas_max")
    assert (await rig.get("/jobs")).json == []
    assert (await rig.post("/submit", {"tasks": ["1"] * 3})).status == 200


# Long replies


async def test_thousands_of_jobs_in_one_reply(rig: Rig) -> None:
    tasks = [str(number) for number in range(2_500)]
    reply = await rig.post("/submit?wait=20", {"tasks": tasks})
    assert [job["answer"] for job in reply.json["jobs"]] == list(range(2_500))
    listed = (await rig.get("/jobs?ids=1-2500")).json
    assert [job["answer"] for job in listed] == list(range(2_500))


@pytest.mark.no_cover
async def test_a_long_formula_is_accepted_while_others_are_answered(rig: Rig, dial: Dial) -> None:
    """The master parses it in slices, so a later request is answered earlier."""
    line = await dial(rig.port)
    long = "+".join(["1.5"] * 300_000)
    await line.send(request_bytes("POST", "/submit", {"task": long}))
    submitted = asyncio.create_task(line.read())
    await until(rig.master.slices._lock.locked, "the first slice")
    assert (await rig.get("/health")).status == 200
    assert not submitted.done()
    reply = await submitted
    assert reply is not None
    assert reply.json == {"job_id": 1, "finished": False}
    assert (await rig.job(1))["operations"] == 299_999
