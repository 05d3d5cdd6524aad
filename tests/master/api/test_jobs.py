"""Jobs as clients submit, see, explain, cancel and retry them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from harness.http import Line, Message
from harness.until import until
from harness.wording import has

from dte.core.graph.call import Call
from dte.core.jobs.job import Job
from dte.master.api import jobs, submission
from master import fakes
from master.calling import first_argument, hire_called
from master.rig import Hire, Rig, StartMaster, check_bound

# GET /job/{id}


async def test_a_job_has_its_progress_and_its_times(rig: Rig, hire: Hire) -> None:
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
        "priority": 0,
        "trace": None,
        "retry_of": None,
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


async def test_a_failed_job_has_an_error(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    job = await rig.compute("1/(2-2)")
    assert (job["finished"], job["state"], job["answer"]) == (True, "failed", None)
    assert job["error"] == "division by zero: 1 / 0"
    assert (job["operations"], job["operations_done"]) == (2, 1)


async def test_only_operations_with_a_result_are_done_in_jobs_health_and_workers(
    rig: Rig, hire: Hire
) -> None:
    def conduct(call: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broke"} if call["args"] == ["bad"] else {"result": 1}

    await hire(rig, fakes.good, batch_max=64)
    await hire_called(hire, rig, conduct)

    def echo(argument: Any, **more: Any) -> dict[str, Any]:
        return {"handler": "echo", "args": [argument]} | more

    bad, good = echo("bad", retries=0), echo(1)
    jobs = {
        await rig.submit("1/0"): 0,
        await rig.submit("1/(3-3)"): 1,
        await rig.submit("echo(7)+2/0"): None,
        await rig.accept(handler="echo", args=["bad"], retries=1): 0,
        await rig.accept(graph={"a": good, "b": bad, "c": echo({"ref": "b"})}): 1,
        await rig.accept(graph={"a": good, "b": echo({"ref": "a"})}): 2,
        await rig.accept(graph={"a": good, "b": echo({"ref": "a"}, delay=900)}): 1,
        await rig.accept(handler="unknown"): 0,
    }
    *ending, late, unknown = jobs
    found = {number: await rig.job(number, wait_s=20) for number in ending}
    await until(lambda: rig.master.core.jobs.job(late).progress, "its first call has ended")
    for number in (late, unknown):
        await rig.cancel(number)
        found[number] = await rig.job(number, wait_s=20)
    assert all(job["finished"] for job in found.values())
    done = {number: job["operations_done"] for number, job in found.items()}
    assert [done[each] for each in jobs if jobs[each] is not None] == [
        count for count in jobs.values() if count is not None
    ]
    health = (await rig.get("/health")).json
    assert (health["operations_done"], health["operations_waiting"]) == (sum(done.values()), 0)
    workers = (await rig.get("/worker")).json
    assert sum(each["operations_done"] + each["calls_done"] for each in workers) == sum(
        done.values()
    )


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
    assert (await rig.get("/jobs")).body == b"[]\n"
    await hire(rig, fakes.good)
    for task in ("1+2", "3/0", "42"):
        await rig.compute(task)
    assert (await rig.get("/jobs")).json == [
        {
            "job_id": 3,
            "task": "42",
            "finished": True,
            "answer": 42,
            "error": None,
            "state": "succeeded",
            "retry_of": None,
        },
        {
            "job_id": 2,
            "task": "3/0",
            "finished": True,
            "answer": None,
            "error": "division by zero: 3 / 0",
            "state": "failed",
            "retry_of": None,
        },
        {
            "job_id": 1,
            "task": "1+2",
            "finished": True,
            "answer": 3,
            "error": None,
            "state": "succeeded",
            "retry_of": None,
        },
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
    assert "ids like 7 or 1-50 are expected" in reply.json["error"]


@pytest.mark.parametrize("ids", ["4", "1-4", "0-3", "1,2,9", "9" * 18])
async def test_one_unknown_id_is_not_passed_over(ids: str, rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1", "2", "3"]})
    reply = await rig.get(f"/jobs?ids={ids}")
    assert reply.status == 404
    assert reply.json["error"].partition(":")[0] == "Job not found"


async def test_waiting_for_jobs_ends_when_all_have_ended(rig: Rig, hire: Hire) -> None:
    await rig.post("/submit", {"tasks": ["1+2", "3", "4+5"]})
    waiting = asyncio.create_task(rig.get("/jobs?ids=1-3,1&wait=60"))
    await until(lambda: len(rig.master.waiters) == 2, "it waits")
    await hire(rig, fakes.good)
    assert [job["answer"] for job in (await waiting).json] == [3, 3, 9, 3]


async def test_a_wait_for_jobs_that_is_over_returns_them_unfinished(rig: Rig) -> None:
    await rig.post("/submit", {"tasks": ["1+2", "3"]})
    reply = await rig.get("/jobs?ids=1-2&wait=0.01")
    assert [job["finished"] for job in reply.json] == [False, True]


@pytest.mark.parametrize("ids", ["1-4", "1,2,3,1", "1-2,1-2", f"1-{'9' * 18}", f"0-{'9' * 18}"])
async def test_too_many_jobs_in_a_reply(ids: str, start_master: StartMaster) -> None:
    rig = await start_master(formulas_max=3)
    await rig.post("/submit", {"tasks": ["1", "2", "3"]})
    check_bound(await rig.get(f"/jobs?ids={ids}"), 413, "more than 3 jobs", "formulas_max")
    assert len((await rig.get("/jobs?ids=1-3")).json) == 3


# POST /jobs


async def test_one_call_is_accepted_and_its_result_is_the_answer(rig: Rig, hire: Hire) -> None:
    reply = await rig.post("/jobs", {"handler": "echo", "args": ["hi"]})
    assert (reply.status, reply.body) == (201, b'{"job_id":1,"finished":false}\n')
    assert [listed["task"] for listed in (await rig.get("/jobs")).json] == ['echo("hi")']
    await hire_called(hire, rig, first_argument)
    job = await rig.job(1, wait_s=20)
    assert (job["state"], job["answer"], job["operations"], job["operations_done"]) == (
        "succeeded",
        "hi",
        1,
        1,
    )


async def test_a_graph_is_accepted_and_its_answer_is_that_of_a_node(rig: Rig, hire: Hire) -> None:
    graph = {
        "a": {"handler": "echo", "args": [[1, 2]]},
        "b": {"handler": "echo", "args": [{"ref": "a"}], "after": ["c"]},
        "c": {"handler": "echo", "args": ["c"]},
    }
    worker = await hire_called(hire, rig, first_argument)
    reply = await rig.post("/jobs?wait=20", {"graph": graph, "answer": "b"})
    assert (reply.status, reply.json["answer"], reply.json["operations"]) == (201, [1, 2], 3)
    assert reply.json == await rig.job(reply.json["job_id"])
    assert {call["node"] for call in worker.calls[:2]} == {"a", "c"}
    assert worker.calls[2]["node"] == "b"


async def test_without_an_answer_it_is_what_nobody_waits_for(rig: Rig, hire: Hire) -> None:
    await hire_called(hire, rig, first_argument)
    graph = {
        "a": {"handler": "echo", "args": [1]},
        'b "\\': {"handler": "echo", "args": [{"ref": "a"}]},
    }
    assert (await rig.job(await rig.accept(graph=graph), wait_s=20))["answer"] == 1
    graph["c"] = {"handler": "echo", "args": [3]}
    assert (await rig.job(await rig.accept(graph=graph), wait_s=20))["answer"] == {
        'b "\\': 1,
        "c": 3,
    }


async def test_a_formula_may_have_a_priority_and_call_handlers(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    await hire_called(hire, rig, first_argument, arithmetic=False)
    reply = await rig.post("/jobs?wait=20", {"formula": "echo(4)+2*3", "priority": 7})
    assert (reply.status, reply.json["answer"], reply.json["priority"]) == (201, 10, 7)
    reply = await rig.post("/submit?wait=20", {"task": "echo(4)*2", "priority": -7})
    assert (reply.status, reply.json["answer"], reply.json["priority"]) == (200, 8, -7)
    assert (await rig.job(await rig.submit("echo(echo(5))-1"), wait_s=20))["answer"] == 4


async def test_a_call_of_a_formula_that_gives_no_number_fails_the_job(rig: Rig, hire: Hire) -> None:
    await hire_called(hire, rig, lambda call: {"result": "much"})
    job = await rig.job(await rig.accept(formula="echo(1)+1"), wait_s=20)
    assert job["state"] == "failed"
    assert job["error"] == 'echo@1: the handler returned "much"; a formula needs a number'


async def test_a_wait_that_is_over_returns_the_unfinished_job(rig: Rig) -> None:
    reply = await rig.post("/jobs?wait=0.01", {"handler": "echo"})
    assert (reply.status, reply.json["state"], reply.json["answer"]) == (201, "waiting", None)


FORMS: list[tuple[Any, str]] = [
    ({}, "exactly one of graph, formula or handler"),
    (
        {"graph": {"a": {"handler": "echo"}}, "formula": "1"},
        "exactly one of graph, formula or handler",
    ),
    ({"formula": "1", "handler": "echo"}, "exactly one of graph, formula or handler"),
    ({"args": [1]}, "exactly one of graph, formula or handler"),
    ([], ""),
    ({"handler": "echo", "arguments": []}, "arguments"),
    ({"handler": 1}, "handler must be a text, not 1"),
    ({"handler": ""}, "node 'call': '' is not a handler's name"),
    ({"handler": "a b"}, "node 'call': 'a b' is not a handler's name"),
    ({"handler": "x" * 201}, "is not a handler's name"),
    ({"handler": "echo", "args": 1}, "node 'call': args must be a list"),
    ({"handler": "echo", "args": None}, "node 'call': args must be a list"),
    ({"handler": "echo", "args": [{"ref": "a"}]}, "node 'call' refers to 'a', which is not in"),
    ({"handler": "echo", "args": [{"ref": "call"}]}, "the graph has a cycle: call -> call"),
    ({"handler": "echo", "answer": "call"}, "answer applies to a graph"),
    ({"formula": "1+2", "answer": "a"}, "answer applies to a graph"),
    ({"formula": "1+2", "args": [1]}, "delay and not_before apply to a single call"),
    ({"formula": "1+2", "timeout": 1}, "delay and not_before apply to a single call"),
    ({"formula": "1+2", "after": [1]}, "after: there is no job 1"),
    ({"graph": {}}, "the graph has no nodes"),
    ({"graph": []}, "graph must be an object, not a list"),
    ({"graph": {"a": {"handler": "echo"}}, "retries": 1}, "in a graph, set them on its nodes"),
    ({"graph": {"a": {"handler": "echo"}}, "delay": 1}, "in a graph, set them on its nodes"),
    ({"graph": {"a": {}}}, "node 'a': […]handler"),
    (
        {"graph": {"a": {"handler": "echo", "prio": 1}}},
        "node 'a': […]prio",
    ),
    ({"graph": {"a": {"handler": "echo"}}, "answer": "b"}, "answer 'b' is not in the graph"),
    (
        {"graph": {"": {"handler": "echo"}}},
        "node '': expected a name of 1 to 200 printable characters",
    ),
    ({"graph": {"x" * 201: {"handler": "echo"}}}, "a name of 1 to 200 printable characters"),
    ({"graph": {"a\n": {"handler": "echo"}}}, "node 'a\\n': expected a name of 1 to 200 printable"),
    ({"graph": {"a": {"handler": "no way"}}}, "node 'a': 'no way' is not a handler's name"),
    ({"graph": {"a": {"handler": "echo", "after": ["b"]}}}, "node 'a' refers to 'b', which is"),
    ({"graph": {"a": {"handler": "echo", "args": [{"ref": "b"}]}}}, "node 'a' refers to 'b'"),
    (
        {"graph": {"a": {"handler": "e", "after": ["b"]}, "b": {"handler": "e", "after": ["a"]}}},
        "the graph has a cycle: a -> b -> a",
    ),
    (
        {"graph": {"a": {"handler": "e", "when": "never"}}},
        'node \'a\': when must be "done" or "success", not "never"',
    ),
    (
        {"graph": {"a": {"handler": "e", "timeout": -1}}},
        "node 'a': timeout must be from 0.001 to 316,224,000, not -1",
    ),
    (
        {"graph": {"a": {"handler": "e", "timeout": "1"}}},
        "node 'a': timeout must be a number",
    ),
    (
        {"graph": {"a": {"handler": "e", "retries": 1.5}}},
        "node 'a': retries must be an integer, not 1.5",
    ),
    ({"graph": {"a": {"handler": "e", "retries": 10**400}}}, "must be from 0 to 1,000, not "),
    (
        {"graph": {"a": {"handler": "e"}, "b": {"handler": 1}}},
        "node 'b': handler must be a text",
    ),
    ({"graph": {"a": {"handler": "e"}, "b": 1}}, "node 'b': […]"),
    (
        {"jobs": [{"formula": "1"}, {"graph": {"a": {"handler": "e"}, "b": {"x": 1}}}]},
        "job 1 of the request: node 'b': […]x",
    ),
    (
        {"graph": {"a": {"handler": "e", "lost_max": 0}}},
        "node 'a': lost_max must be from 1 to 1,000, not 0",
    ),
    (
        {"graph": {"a": {"handler": "e", "delay": -5}}},
        "node 'a': delay must be from 0 to 316,224,000 seconds, not -5",
    ),
    (
        {"graph": {"a": {"handler": "e", "priority": 10**7}}},
        "node 'a': priority must be from -1,000,000 to 1,000,000",
    ),
    (
        {"graph": {"a": {"handler": "e", "not_before": "soon"}}},
        "node 'a': not_before must be a time such as",
    ),
    (
        {"graph": {"a": {"handler": "e", "not_before": "2030-01-31T12:00:00"}}},
        "node 'a': not_before needs a time zone, as in 2030-01-31T12:00:00Z",
    ),
    (
        {"handler": "echo", "delay": 1, "not_before": "2030-01-31T12:00:00"},
        "node 'call': not_before needs a time zone",
    ),
    (
        {"handler": "echo", "priority": 1_000_001},
        "priority must be from -1,000,000 to 1,000,000, not 1,000,001",
    ),
    ({"handler": "echo", "priority": "high"}, "priority must be an integer"),
    ({"handler": "echo", "after": [7]}, "after: there is no job 7"),
    ({"handler": "echo", "after": [0]}, "after: there is no job 0"),
    ({"handler": "echo", "after": [-1]}, "after: there is no job -1"),
    ({"handler": "echo", "after": [10**400]}, "after: there is no job 1000"),
    ({"handler": "echo", "after": ["1"]}, "after[0] must be an integer"),
    ({"handler": "echo", "when": "ever"}, 'when must be "done" or "success", not "ever"'),
    ({"handler": "echo", "notify": "ftp://127.0.0.1/"}, "notify"),
    ({"handler": "echo", "notify": "no url"}, "notify"),
    ({"handler": "echo", "notify": 1}, "notify must be a text"),
    ({"task": "1+2"}, "task"),
]


@pytest.mark.parametrize(("body", "words"), FORMS, ids=lambda value: str(value)[:60])
async def test_a_wrong_form_is_refused_with_the_right_one(body: Any, words: str, rig: Rig) -> None:
    reply = await rig.post("/jobs", body)
    assert (reply.status, reply.json["code"]) == (400, "invalid"), reply.json
    assert has(reply.json["error"], words)
    assert (await rig.get("/jobs")).json == []


async def test_a_syntax_error_in_a_formula_has_a_column(rig: Rig) -> None:
    reply = await rig.post("/jobs", {"formula": "echo(1"})
    assert (reply.status, reply.json["code"], reply.json["column"]) == (400, "syntax", 7)


async def test_half_a_character_anywhere_is_refused(rig: Rig) -> None:
    for body in (rb'{"handler": "echo", "args": ["\ud800"]}', b'{"handler": "e\xff"}'):
        assert (await rig.post("/jobs", body)).status == 400


async def test_a_graph_has_bounds_that_are_named(start_master: StartMaster) -> None:
    rig = await start_master(calls_max=2, value_bytes_max=100)
    nodes = {name: {"handler": "echo"} for name in "abc"}
    check_bound(await rig.post("/jobs", {"graph": nodes}), 413, "3 nodes > 2 (calls_max)")
    reply = await rig.post("/jobs", {"formula": "echo(1)+echo(2)+echo(3)"})
    check_bound(reply, 413, "calls_max")
    reply = await rig.post("/jobs", {"handler": "echo", "args": ["x" * 100]})
    check_bound(reply, 413, "node 'call'", "104 bytes", "(value_bytes_max)")
    assert (await rig.get("/jobs")).json == []
    del nodes["c"]
    assert (await rig.post("/jobs", {"graph": nodes})).status == 201


async def test_too_much_that_waits_is_refused_for_now(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(jobs_waiting_max=2, operations_waiting_max=3, bytes_waiting_max=500)
    check_bound(await rig.post("/jobs", {"graph": chain(4)}), 413, "operations_waiting_max")
    assert await rig.accept(graph=chain(2)) == 1
    check_bound(await rig.post("/jobs", {"graph": chain(2)}), 429, "operations_waiting_max")
    body = {"handler": "echo", "args": ["x" * 500]}
    check_bound(await rig.post("/jobs", body), 429, "bytes_waiting_max")
    assert await rig.accept(handler="echo") == 2
    check_bound(await rig.post("/jobs", {"handler": "echo"}), 429, "jobs_waiting_max")
    await hire_called(hire, rig, lambda call: {"result": 1})
    await rig.job(1, wait_s=20)
    await rig.job(2, wait_s=20)
    assert await rig.accept(graph=chain(3)) == 3


def chain(length: int) -> dict[str, Any]:
    """A graph in which each node waits for the one before."""
    return {
        f"n{count}": {"handler": "echo", "after": [f"n{count - 1}"] if count else []}
        for count in range(length)
    }


async def test_a_repeat_with_the_same_key_is_the_same_job(keeping: Rig) -> None:
    rig = keeping
    body = {"handler": "echo", "args": [1]}
    first = await rig.post("/jobs", body, Idempotency_Key="mine")
    again = await rig.post("/jobs", body, Idempotency_Key="mine")
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    other = await rig.post("/jobs", body | {"args": [2]}, Idempotency_Key="mine")
    assert (other.status, other.json["code"]) == (409, "conflict")
    formula = await rig.post("/submit", {"task": "1"}, Idempotency_Key="mine")
    assert formula.status == 409, "keys of all that is submitted are of one kind"
    assert len((await rig.get("/jobs")).json) == 1


async def test_a_repeat_with_a_wait_waits_for_the_first_one_s_job(rig: Rig, hire: Hire) -> None:
    body = {"handler": "echo", "args": [5]}
    await rig.post("/jobs", body, Idempotency_Key="mine")
    repeat = asyncio.create_task(rig.post("/jobs?wait=20", body, Idempotency_Key="mine"))
    await until(lambda: len(rig.master.waiters), "it waits")
    await hire_called(hire, rig, first_argument)
    assert ((await repeat).json["job_id"], (await repeat).json["answer"]) == (1, 5)


# POST /job/{id}/cancel, /retry, GET /job/{id}/why, /nodes


@pytest.mark.parametrize("path", ["cancel", "retry", "why", "nodes"])
@pytest.mark.parametrize("number", ["1", "0", "x", "9" * 18, "9" * 30])
async def test_there_is_no_other_job_for_these_either(path: str, number: str, rig: Rig) -> None:
    method = "POST" if path in ("cancel", "retry") else "GET"
    reply = await rig.ask(method, f"/job/{number}/{path}")
    assert (reply.status, reply.json["error"]) == (404, "Job not found")


async def test_only_unfinished_jobs_are_cancelled_and_only_failed_ones_retried(
    rig: Rig,
) -> None:
    await rig.submit("42")
    reply = await rig.post("/job/1/cancel")
    assert (reply.status, reply.json["error"]) == (409, "job 1 has ended: succeeded")
    reply = await rig.post("/job/1/retry")
    assert reply.status == 409
    assert reply.json["error"] == "job 1 succeeded; only a failed job can be retried"
    await rig.accept(handler="echo")
    reply = await rig.post("/job/2/retry")
    assert reply.json["error"] == "job 2 is waiting; only a failed job can be retried"
    assert (await rig.cancel(2))["state"] == "cancelled"
    assert (await rig.post("/job/2/cancel")).status == 409


async def test_a_retry_names_the_job_that_it_repeats(rig: Rig) -> None:
    await rig.cancel(await rig.accept(handler="echo", priority=3))
    reply = await rig.post("/job/1/retry")
    assert (reply.status, reply.body) == (201, b'{"job_id":2,"retry_of":1}\n')
    assert (await rig.job(2))["priority"] == 3


async def test_a_formula_too_long_to_be_kept_is_not_retried_but_others_are(
    rig: Rig, hire: Hire
) -> None:
    await hire(rig, fakes.good, batch_max=4096)
    for formula in ("1/0", "+".join(["1.5"] * 6_000) + "+1/0"):
        number = await rig.submit(formula)
        assert (await rig.job(number, wait_s=20))["state"] == "failed"
    reply = await rig.post("/job/1/retry")
    assert (await rig.job(reply.json["job_id"], wait_s=20))["error"] == "division by zero: 1 / 0"
    reply = await rig.post("/job/2/retry")
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert "too long to keep" in reply.json["error"]


async def test_why_has_a_reason_for_each_unfinished_node(rig: Rig, hire: Hire) -> None:
    worker = await hire_called(hire, rig, handler_slots=1)
    graph = {
        "busy": {"handler": "echo", "args": [1]},
        "queued": {"handler": "echo", "args": [2]},
        "reader": {"handler": "echo", "args": [{"ref": "busy"}], "after": ["queued"]},
        "alone": {"handler": "resize"},
        "later": {"handler": "echo", "delay": 1_000},
    }
    number = await rig.accept(graph=graph)
    (call,) = await worker.has(1)
    reply = await rig.post(
        "/extend",
        {
            "worker": "w",
            "leases": [call["lease"]],
            "progress": {str(call["lease"]): {"fraction": 0.4, "text": "at it"}},
        },
    )
    assert reply.status == 200
    why = await rig.why(number)
    assert {name: reason["waits_for"] for name, reason in why.items()} == {
        "busy": "result",
        "queued": "slot",
        "reader": "operands",
        "alone": "worker",
        "later": "delay",
    }
    assert "40% done: at it" in why["busy"]["text"]
    assert (why["queued"]["names"], why["queued"]["place"]) == (["w"], 0)
    assert why["reader"]["names"] == ["busy", "queued"]
    assert "'resize'" in why["alone"]["text"]
    until_s = datetime.fromisoformat(why["later"]["until"]) - datetime.now(UTC)
    assert 990 < until_s.total_seconds() < 1_001
    after = await rig.accept(handler="echo", after=[number])
    assert (await rig.why(after))[""]["waits_for"] == "jobs"
    await rig.cancel(number)
    await worker.report(call["lease"], state="cancelled")
    await rig.job(number, wait_s=20)
    reply = await rig.get(f"/job/{number}/why")
    assert reply.json == {"job_id": number, "state": "cancelled", "reasons": [], "more": 0}


async def test_why_gives_reasons_up_to_a_bound(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "REASONS_MAX", 3)
    await rig.accept(graph=chain(10))
    reply = await rig.get("/job/1/why")
    assert (len(reply.json["reasons"]), reply.json["more"]) == (3, 7)


async def test_nodes_show_the_state_of_each_call(rig: Rig, hire: Hire) -> None:
    worker = await hire_called(hire, rig)
    graph = {
        "a": {"handler": "echo", "args": [1]},
        "b": {"handler": "echo", "args": [{"ref": "a"}]},
    }
    number = await rig.accept(graph=graph)
    (call,) = await worker.has(1)
    nodes = await rig.nodes(number)
    assert nodes["b"] == {
        "node": "b",
        "handler": "echo",
        "state": "waiting",
        "attempts": 0,
        "failures": 0,
        "worker": "",
        "result": None,
        "error": None,
        "started_at": None,
        "ended_at": None,
        "progress": None,
        "trace": None,
    }
    assert (nodes["a"]["state"], nodes["a"]["attempts"], nodes["a"]["worker"]) == (
        "running",
        1,
        "w",
    )
    await worker.report(call["lease"], result={"x": 1})
    _, second = await worker.has(2)
    nodes = await rig.nodes(number)
    assert (nodes["a"]["state"], nodes["a"]["result"]) == ("succeeded", {"x": 1})
    assert nodes["a"]["started_at"] <= nodes["a"]["ended_at"]
    await worker.report(second["lease"], error="broke", retry=False)
    nodes = await rig.nodes(number)
    assert (nodes["b"]["state"], nodes["b"]["error"], nodes["b"]["failures"]) == (
        "failed",
        "broke",
        1,
    )
    assert await rig.nodes(await rig.submit("1+2")) == {}


async def test_nodes_beyond_the_bound_of_replies_are_refused_before_any_is_encoded(
    start_master: StartMaster, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await start_master(replies_bytes_max=500_000)
    await hire_called(hire, rig, first_argument)
    number = await rig.accept(
        graph={f"n{i}": {"handler": "echo", "args": ["x" * 60_000]} for i in range(10)}
    )
    assert (await rig.job(number, wait_s=20))["finished"]
    shown = Mock()
    monkeypatch.setattr(jobs.Nodes, "_reply", shown)
    reply = await rig.get(f"/job/{number}/nodes")
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert "(replies_bytes_max)" in reply.json["error"]
    shown.assert_not_called()


# Many jobs in a request


async def test_many_jobs_of_all_forms_are_accepted_in_their_order(rig: Rig, hire: Hire) -> None:
    await hire(rig, fakes.good)
    await hire_called(hire, rig, first_argument, arithmetic=False)
    graph = {"a": {"handler": "echo", "args": ["x"]}}
    many = [{"handler": "echo", "args": [1]}, {"formula": "1+2"}, {"graph": graph}]
    reply = await rig.post("/jobs", {"jobs": many})
    assert (reply.status, reply.json) == (201, {"job_ids": [1, 2, 3]})
    reply = await rig.post("/jobs?wait=20", {"jobs": many})
    assert reply.json["job_ids"] == [4, 5, 6]
    assert [job["answer"] for job in reply.json["jobs"]] == [1, 3, "x"]
    assert (await rig.post("/jobs", {"jobs": []})).json == {"job_ids": []}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({}, "job 1 of the request: give exactly one of graph, formula or handler"),
        ({"graph": {}}, "job 1 of the request: the graph has no nodes"),
        ({"handler": "a b"}, "job 1 of the request: node 'call': 'a b' is not a handler's name"),
        ({"handler": "a", "delay": -1}, "job 1 of the request: node 'call': delay must be from 0"),
        ({"handler": "a", "priority": 10**7}, "job 1 of the request: priority must be from"),
        ({"handler": "a", "after": [9]}, "after: there is no job 9"),
        ({"formula": "1+"}, "formula 1, column 3"),
        ({"jobs": []}, "job 1 of the request: unknown field 'jobs'"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_one_wrong_job_refuses_all_and_is_named(
    bad: dict[str, Any], words: str, rig: Rig
) -> None:
    reply = await rig.post("/jobs", {"jobs": [{"formula": "1"}, bad]})
    assert reply.status == 400
    assert words in reply.json["error"]
    assert (await rig.get("/jobs")).json == []
    reply = await rig.post("/jobs", {"jobs": [{"formula": "1"}], "priority": 1})
    assert (reply.status, reply.json["error"][:25]) == (400, '"jobs" cannot be combined')


async def test_many_jobs_have_bounds(start_master: StartMaster) -> None:
    rig = await start_master(formulas_max=3, jobs_waiting_max=3, value_bytes_max=100)
    one = {"handler": "echo"}
    check_bound(await rig.post("/jobs", {"jobs": [one] * 4}), 413, "request: 4 > 3", "formulas_max")
    long = one | {"args": ["x" * 100]}
    check_bound(await rig.post("/jobs", {"jobs": [one, long]}), 413, "job 1", "value_bytes_max")
    assert (await rig.post("/jobs", {"jobs": [one] * 2})).status == 201
    check_bound(await rig.post("/jobs", {"jobs": [one] * 2}), 429, "jobs_waiting_max")
    assert len((await rig.get("/jobs")).json) == 2


async def test_many_jobs_with_a_key_are_accepted_once(rig: Rig) -> None:
    body = {"jobs": [{"handler": "echo"}, {"formula": "1+2"}]}
    first = await rig.post("/jobs", body, Idempotency_Key="mine")
    again = await rig.post("/jobs", body, Idempotency_Key="mine")
    assert (first.json, again.status, again.body) == ({"job_ids": [1, 2]}, 201, first.body)


async def test_an_accepted_job_is_shown_whole_whatever_the_bounds_are_later(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    number = await rig.accept(graph=chain(5))
    await rig.cancel(number)
    await rig.stop()
    rig = await start_journaled(calls_max=2)
    assert len(await rig.nodes(number)) == 5


async def test_the_jobs_after_which_the_jobs_of_a_request_come_are_bounded_together(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.master.jobs.AFTER_MAX", 5)
    first = await rig.accept(handler="f")
    second = await rig.accept(handler="f")
    one = {"handler": "f", "after": [first, second]}
    reply = await rig.post("/jobs", {"jobs": [one, one, one]})
    check_bound(reply, 413, "after: 6 jobs in the request > 5 (after_max)")
    reply = await rig.post("/jobs", {"jobs": [one, one, {"handler": "f", "after": [first]}]})
    assert reply.status == 201
    assert [
        [job.number for job in rig.master.core.jobs.job(number).awaited]
        for number in reply.json["job_ids"]
    ] == [[first, second], [first, second], [first]]


@pytest.mark.parametrize("bound", ["dte.master.jobs.AWAITED_MAX", "dte.master.jobs.AFTER_MAX"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
async def test_more_jobs_in_after_than_allowed_are_too_large(
    bound: str, many: bool, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, 3)
    numbers = [await rig.accept(handler="f") for _ in range(4)]
    job = {"handler": "f", "after": numbers}
    reply = await rig.post("/jobs", {"jobs": [job]} if many else job)
    check_bound(reply, 413, "after")
    assert "3" in reply.json["error"]
    assert (await rig.post("/jobs", {"handler": "f", "after": numbers[:3]})).status == 201


async def test_far_more_jobs_in_after_than_allowed_are_too_large(rig: Rig) -> None:
    after = list(range(1, 100_003))
    reply = await rig.post("/jobs", {"jobs": [{"handler": "f"}, {"handler": "f", "after": after}]})
    check_bound(reply, 413, "job 1 of the request: after has more than 100000 jobs")
    check_bound(await rig.post("/jobs", {"handler": "f", "after": after}), 413, "100000 jobs")


@pytest.mark.parametrize(
    ("ids", "named"), [("1-3,99", ": 3, 99"), ("1,99", ": 99"), ("1-40", ": 3, 4, 5, ")]
)
async def test_the_unknown_ones_of_several_jobs_are_named(ids: str, named: str, rig: Rig) -> None:
    for _ in range(2):
        await rig.submit("1")
    reply = await rig.get(f"/jobs?ids={ids}")
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert reply.json["error"].startswith(f"Job not found{named}")
    assert len(reply.json["error"]) < 200
    assert ("more" in reply.json["error"]) == (ids == "1-40")


async def test_deleted_ones_of_several_jobs_are_named(start_master: StartMaster) -> None:
    rig = await start_master(jobs_kept=2)
    for number in range(1, 5):
        await rig.submit(str(number))
    assert (await rig.get("/jobs?ids=1-4")).json["error"] == "Job not found: 1, 2"


async def test_a_job_that_is_not_there_is_named_whichever_job_comes_after_it(rig: Rig) -> None:
    first = await rig.accept(handler="f")
    jobs = [{"handler": "f", "after": [first]}, {"handler": "f", "after": [first, 77]}]
    reply = await rig.post("/jobs", {"jobs": jobs})
    assert (reply.status, reply.json["error"]) == (400, "after: there is no job 77")
    assert rig.master.core.jobs.waiting == 1


async def test_reasons_beyond_the_bound_are_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.master.api.jobs.REASONS_MAX", 3)
    number = await rig.accept(graph={f"n{n}": {"handler": "nobody"} for n in range(10)})
    await rig.master.recorder.flush()
    why = (await rig.get(f"/job/{number}/why")).json
    assert ([reason["node"] for reason in why["reasons"]], why["more"]) == (["n0", "n1", "n2"], 7)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"jobs":[%s]}' % b",".join([b"{}"] * 100_000), "more than 10000 (formulas_max)"),
        (
            b'{"graph":{%s}}' % b",".join(b'"n%d":{"handler":"h"}' % n for n in range(100_001)),
            "more than 100000 nodes (calls_max)",
        ),
    ],
)
async def test_too_many_parts_are_refused_before_they_are_decoded(
    rig: Rig, body: bytes, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of them, of two bytes each, would stop the loop for seconds."""
    decode = Mock(side_effect=AssertionError("they are decoded"))
    monkeypatch.setattr(submission, "in_pieces", decode)
    monkeypatch.setattr(submission, "decoding_nodes", decode)
    reply = await rig.post("/jobs", body)
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert error in reply.json["error"]


async def test_a_large_graph_that_has_ended_is_shown_and_retried_as_before(
    keeping: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal alone has its plan then; without a journal it stays in memory."""
    long = "x" * 400_000
    graph: dict[str, Any] = {name: {"handler": "nobody", "args": [long]} for name in "abc"}
    graph["d"] = {"handler": "nobody", "args": [{"ref": "a"}], "after": ["b", "c"]}
    number = await keeping.accept(graph=graph)
    await keeping.cancel(number)
    await until(lambda: keeping.master.core.jobs.job(number).is_terminal, "it has ended")
    job = keeping.master.core.jobs.job(number)
    has_journal = keeping.master.settings.journal != "none"
    assert (job.plan is None, job.calls is None) == (has_journal, has_journal)
    calls_of, shown = keeping.master.archive.calls_of, []

    async def look(job: Job) -> Sequence[Call]:
        shown.append(keeping.master.past_jobs.operations)
        return await calls_of(job)

    monkeypatch.setattr(keeping.master.archive, "calls_of", look)
    nodes = await keeping.nodes(number)
    assert shown == [4 if has_journal else 0]
    assert keeping.master.past_jobs.operations == 0
    assert {name: node["state"] for name, node in nodes.items()} == dict.fromkeys(
        "abcd", "cancelled"
    )
    assert (await keeping.get(f"/job/{number}/why")).status == 200
    assert (await keeping.get(f"/tasks/{number:016x}")).status == 200
    again = await keeping.post(f"/job/{number}/retry")
    assert again.status == 201, again.json
    nodes = await keeping.nodes(again.json["job_id"])
    assert nodes["d"]["state"] == "waiting"
    why = await keeping.why(again.json["job_id"])
    assert "a, b, c" in why["d"]["text"]
