"""The scheduler's dialect: its clients and its workers, as they are, against a master."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness.http import Line, Message
from harness.until import until
from tornado.ioloop import IOLoop

from master.api.dialects import conversations
from master.api.dialects.pollers import Queue, Scheduler
from master.rig import Hire, Rig, StartMaster

SOON = {"retry_pause_s": 0.001, "retry_pause_max_s": 0.002}
"""Settings of a master that soon retries a failed task."""


@pytest.fixture
def scheduler(io_loop: IOLoop, start: StartMaster) -> Scheduler:
    """The dialect of a master, once with a journal and once without."""
    return Scheduler(io_loop.run_sync(partial(start, **SOON)))


@pytest.mark.parametrize("file", conversations.files("scheduler"), ids=lambda file: file.stem)
async def test_the_replies_are_those_of_the_golden_files(keeping: Rig, file: Path) -> None:
    await conversations.hold(keeping, file)


async def test_a_task_has_all_that_a_worker_reads(scheduler: Scheduler) -> None:
    await scheduler.submit(args=[1, 2], priority=3, timeout=30)
    task = await scheduler.poll("w")
    assert task is not None
    created, started = (datetime.fromisoformat(task[key]) for key in ("created_at", "started_at"))
    assert created.tzinfo is None
    assert abs((datetime.now() - created).total_seconds()) < 60
    assert started >= created
    assert (task["timeout"], task["priority"], task["retries"]) == (30, 3, 0)
    assert (task["max_retries"], task["completed_at"], task["worker_id"]) == (3, None, "w")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([1, 2], {}),
        ([], {"x": 1, "y": 2}),
        ([1], {"y": 2}),
        ([{"ref": "a"}, {"literal": 1}], {}),
        ([], {"ref": "a"}),
    ],
)
async def test_arguments_are_handed_out_as_they_were_given(
    scheduler: Scheduler, args: list[Any], kwargs: dict[str, Any]
) -> None:
    await scheduler.submit(args=args, kwargs=kwargs)
    task = await scheduler.poll("w")
    assert task is not None
    assert (task["args"], task["kwargs"]) == (args, kwargs)


async def test_a_worker_that_is_called_gets_named_arguments_where_both_kinds_were_given(
    scheduler: Scheduler, hire: Hire
) -> None:
    asked: list[Any] = []

    async def compute(request: Message, line: Line) -> None:
        asked.append(request.json["args"])
        await line.reply(200, {"result": 3})

    await hire(scheduler.rig, compute, handlers=["process_data", "resize"], arithmetic=False)
    await scheduler.submit(args=[1], kwargs={"y": 2})
    await until(lambda: scheduler.rig.idle, "the first job's end")
    await scheduler.submit(args=[1, 2])
    await until(lambda: scheduler.rig.idle, "the second job's end")
    await scheduler.submit("resize", kwargs={"width": 2})
    await until(lambda: scheduler.rig.idle, "the third job's end")
    assert asked == [{"x": 1, "y": 2}, [1, 2], {"width": 2}]
    assert await scheduler.statuses() == {"COMPLETED": 3}
    reply = await scheduler.rig.post(
        "/add_task", {"func_name": "resize", "args": [1], "kwargs": {"a": 2}}
    )
    assert reply.status == 422


async def test_higher_priority_comes_first_and_a_task_that_waits_keeps_nobody_up(
    scheduler: Scheduler,
) -> None:
    low = await scheduler.submit(priority=1)
    waiting = await scheduler.submit(priority=9, dependencies=[low])
    high = await scheduler.submit(priority=5)
    order = []
    for _ in range(3):
        task = await scheduler.polled("w")
        order.append(task["task_id"])
        await scheduler.report("w", task["task_id"])
    assert order == [high, low, waiting]


async def test_a_failing_task_has_three_attempts_and_fails_its_dependants(
    scheduler: Scheduler,
) -> None:
    task_id = await scheduler.submit()
    dependant = await scheduler.submit(dependencies=[task_id])
    retries = []
    for status in ("FAILED", "TIMED_OUT", "FAILED"):
        task = await scheduler.polled("w")
        assert task["task_id"] == task_id
        retries.append(task["retries"])
        await scheduler.report("w", task_id, status=status, error_message="no")
    assert retries == [0, 1, 2]
    await until(lambda: scheduler.rig.idle, "the dependant's end")
    assert await scheduler.statuses() == {"FAILED": 2}
    assert await scheduler.poll("w") is None
    job = await scheduler.rig.job(int(dependant))
    assert job["error"] == f"skipped because job {task_id} failed"
    # A task that is added later fails at once.
    await scheduler.submit(dependencies=[int(dependant)])
    await until(lambda: scheduler.rig.idle, "the job's end")
    assert await scheduler.statuses() == {"FAILED": 3}


async def test_a_task_that_takes_too_long_is_timed_out_without_its_worker(
    scheduler: Scheduler,
) -> None:
    task_id = await scheduler.submit(timeout=0.05)
    for number in range(3):
        assert (await scheduler.polled(f"worker-{number}"))["timeout"] == 0.05
    await until(lambda: scheduler.rig.idle, "the job's end")
    assert await scheduler.statuses() == {"TIMED_OUT": 1}
    assert "ended before" in await scheduler.report("worker-2", task_id)


async def test_a_silent_worker_is_shown_as_inactive(start: StartMaster) -> None:
    rig = await start(scheduler_dead_after_s=0.1)
    scheduler = Scheduler(rig)
    await scheduler.submit()
    assert await scheduler.poll("first")
    await until(lambda: all(worker.gone for worker in rig.master.core.workers()), "its end")
    reply = (await rig.get("/status")).json
    assert reply["active_workers"] == 0
    assert reply["worker_details"]["first"]["status"] == "INACTIVE"


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
async def test_a_status_without_a_name_does_not_count_for_a_worker_of_another_dialect(
    scheduler: Scheduler, status: str
) -> None:
    claim = {"worker": "able", "handlers": ["process_data", "compute"]}
    task_id = await scheduler.submit()
    (call,) = (await scheduler.rig.post("/claim", claim)).json["calls"]
    queue = Queue(scheduler.rig)
    other = await queue.submit()
    assert (await queue.polled("q"))["task_id"] == other
    for each in (task_id, str(other)):
        message = await scheduler.report(None, each, status=status)
        assert message == f"Task {each} is not with a worker that polls here; nothing is changed"
    assert await scheduler.statuses() == {"RUNNING": 2}
    results = {"worker": "able", "results": [{"lease": call["lease"], "result": 7}]}
    assert (await scheduler.rig.post("/result", results)).json["accepted"] == [call["lease"]]
    assert (await scheduler.rig.job(int(task_id)))["answer"] == 7


async def test_a_worker_that_leaves_gives_back_what_it_has(scheduler: Scheduler) -> None:
    task_id = await scheduler.submit()
    assert await scheduler.poll("first")
    assert (await scheduler.rig.ask("DELETE", "/unregister/first")).status == 200
    assert (await scheduler.polled("second"))["task_id"] == task_id
    reply = (await scheduler.rig.get("/status")).json
    assert list(reply["worker_details"]) == ["second"]


async def test_a_cancelled_task_never_starts_and_what_runs_ends_at_once(
    scheduler: Scheduler,
) -> None:
    running, waiting = await scheduler.submit(), await scheduler.submit()
    assert await scheduler.poll("w")
    for task_id in (running, waiting):
        assert (await scheduler.rig.post(f"/cancel_task/{task_id}")).status == 200
    assert await scheduler.poll("other") is None
    assert await scheduler.statuses() == {"CANCELED": 2}
    assert (await scheduler.rig.job(int(running)))["state"] == "cancelled"


async def test_jobs_of_other_kinds_are_seen_and_done(scheduler: Scheduler) -> None:
    await scheduler.rig.post("/submit", {"task": "1+2"})
    graph = {
        "a": {"handler": "calculate_pi", "args": {"n_digits": 3}},
        "b": {"handler": "process_data", "args": [{"ref": "a"}, 1]},
        "c": {"handler": "process_data", "args": [1, 1]},
    }
    assert (await scheduler.rig.post("/jobs", {"graph": graph, "answer": "b"})).status == 201
    assert await scheduler.statuses() == {"PENDING": 2}
    results = {"calculate_pi": 3, "process_data": 4}
    for _ in graph:
        task = await scheduler.polled("w")
        assert task["task_id"] == "2"
        await scheduler.report("w", "2", result=results[task["func"]])
    assert (await scheduler.rig.job(2))["answer"] == 4
    assert await scheduler.statuses() == {"PENDING": 1, "COMPLETED": 1}
    formula = await scheduler.rig.submit("calculate_pi(3) * 2")
    task = await scheduler.polled("w")
    assert (task["task_id"], task["args"]) == (str(formula), [3])
    await scheduler.report("w", str(formula), result=3.5)


async def test_a_task_is_done_once_its_dependencies_in_another_dialect_are(
    scheduler: Scheduler,
) -> None:
    queue = Queue(scheduler.rig)
    first = await queue.submit()
    task_id = await scheduler.submit(dependencies=[str(first)])
    assert await scheduler.poll("w") is None
    assert (await queue.polled("q"))["task_id"] == first
    assert await queue.counts("q", first)
    task = await scheduler.polled("w")
    assert (task["task_id"], task["dependencies"]) == (task_id, [str(first)])


async def test_refusals_have_a_detail(start: StartMaster) -> None:
    rig = await start(jobs_waiting_max=1, body_bytes_max=1_000)
    scheduler = Scheduler(rig)
    await scheduler.submit()
    reply = await scheduler.ask_submit()
    assert (reply.status, list(reply.json)) == (429, ["detail"])
    assert "jobs_waiting_max" in reply.json["detail"]
    for path in ("/add_task", "/task_status"):
        reply = await rig.post(path, {"func_name": "a" * 1_000})
        assert (reply.status, list(reply.json)) == (413, ["detail"])


async def test_a_restart_in_mid_task_changes_nothing_for_the_worker(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    scheduler = Scheduler(rig)
    running = await scheduler.submit(args=[1], kwargs={"y": 2})
    dependant = await scheduler.submit(args=[1], kwargs={"y": 2}, dependencies=[running])
    assert await scheduler.poll("w")
    await rig.stop()

    rig = await start_journaled()
    scheduler = Scheduler(rig)
    jobs = rig.master.core.jobs
    numbers = (int(running), int(dependant))
    await until(lambda: all(jobs.job(each).calls for each in numbers), "the jobs go on")
    assert (await rig.ask("PUT", "/heartbeat/w")).status == 200
    assert await scheduler.statuses() == {"RUNNING": 1, "PENDING": 1}
    assert await scheduler.report("w", running, result=3) == "Task 1 is COMPLETED"
    task = await scheduler.polled("w")
    assert (task["task_id"], task["dependencies"]) == (dependant, [running])
    assert (task["args"], task["kwargs"]) == ([1], {"y": 2})


async def test_a_cancelled_task_stays_so_after_a_restart(start_journaled: StartMaster) -> None:
    rig = await start_journaled()
    scheduler = Scheduler(rig)
    task_id = await scheduler.submit()
    assert await scheduler.poll("w")
    await rig.post(f"/cancel_task/{task_id}")
    await rig.stop()
    rig = await start_journaled()
    scheduler = Scheduler(rig)
    assert await scheduler.poll("w") is None
    assert await scheduler.statuses() == {"CANCELED": 1}
    assert "ended before" in await scheduler.report("w", task_id)


@pytest.mark.parametrize("priority", ["5", 5.0, " 5 ", "5.0"])
@pytest.mark.parametrize("timeout", ["30", 30, 30.0, "30.0"])
async def test_numbers_are_converted(scheduler: Scheduler, priority: Any, timeout: Any) -> None:
    await scheduler.submit(args=[1, 2], priority=priority, timeout=timeout)
    task = await scheduler.polled("w")
    assert (task["priority"], task["timeout"]) == (5, 30)
    assert all(isinstance(task[name], int) for name in ("priority", "timeout"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("priority", value) for value in (5.5, "5.5", "high", [5], "inf", "9" * 400)),
        *(("timeout", value) for value in ("soon", {})),
    ],
)
async def test_what_is_no_number_is_shown_in_the_error(
    scheduler: Scheduler, field: str, value: Any
) -> None:
    reply = await scheduler.ask_submit(**{field: value})
    assert reply.status == 422
    (fault,) = reply.json["detail"]
    assert (fault["loc"], fault["input"]) == (["body", field], value)


async def test_a_long_input_is_cut_in_the_error(scheduler: Scheduler) -> None:
    reply = await scheduler.ask_submit(args={"x": "y" * 100_000})
    (fault,) = reply.json["detail"]
    assert fault["input"].startswith('{"x":"yyy')
    assert len(reply.body) < 2_000


async def test_head_takes_no_task(rig: Rig) -> None:
    await rig.post("/register_worker/w")
    added = await rig.post("/add_task", {"func_name": "process_data", "args": [1, 2]})
    assert added.status in (200, 201), added.body
    assert (await rig.ask("HEAD", "/get_task/w")).status == 204
    assert (await rig.get("/get_task/w")).json["func"] == "process_data"
