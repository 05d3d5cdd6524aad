"""Tasks that wait for tasks which come later, in the dialect that has such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness.until import until

from dte.master import expected
from master.rig import Rig, StartMaster


async def submit(rig: Rig, task_id: str = "", *dependencies: str) -> str:
    body = {"name": "x", "handler": "work", "id": task_id, "dependencies": list(dependencies)}
    reply = await rig.post("/tasks", body)
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


async def status(rig: Rig, task_id: str) -> str:
    return str((await rig.get(f"/tasks/{task_id}")).json["Status"])


async def running(rig: Rig) -> list[str]:
    """The tasks that the worker has."""
    await rig.post("/submit", {"task": "1"})  # A turn of the loop with a tick.
    return list((await rig.get("/workers/w")).json["CurrentTasks"])


async def work(rig: Rig, task_id: str, **said: Any) -> None:
    """Do a task, as soon as the worker has it."""
    while task_id not in await running(rig):
        pass
    path = f"/workers/w/tasks/{task_id}/complete"
    assert (await rig.post(path, {"status": "completed"} | said)).status == 204


async def hire(rig: Rig) -> None:
    assert (await rig.post("/workers", {"id": "w", "slots": 9})).status == 201


async def test_a_task_runs_once_a_task_has_completed_that_came_later(rig: Rig) -> None:
    await hire(rig)
    await submit(rig, "last", "first", "second")
    assert await running(rig) == []
    why = (await rig.get("/job/1/why")).json["reasons"]
    assert why[0]["text"] == "starts after tasks first, second, not submitted yet"
    await submit(rig, "second", "first")
    assert await running(rig) == []
    await submit(rig, "first")
    await work(rig, "first")
    assert await status(rig, "last") == "pending"
    await work(rig, "second")
    await work(rig, "last")
    assert await status(rig, "last") == "completed"


async def test_a_task_fails_with_a_task_that_came_later(rig: Rig) -> None:
    await hire(rig)
    await submit(rig, "last", "first")
    await submit(rig, "first")
    await work(rig, "first", status="failed", error="no")
    await until(lambda: rig.master.core.jobs.job(1).is_terminal, "the end")
    assert (await rig.get("/tasks/last")).json["Error"] == "skipped because job 2 failed"


async def test_the_number_of_a_later_task_is_an_id_too(rig: Rig) -> None:
    await hire(rig)
    await submit(rig, "last", "0000000000000002")
    first = await submit(rig)
    assert first == "0000000000000002"
    await work(rig, first)
    await work(rig, "last")


@pytest.mark.parametrize("comes", ["before", "after", "is done before", "never ran before"])
async def test_what_waits_for_later_tasks_survives_a_restart(
    start_master: StartMaster, tmp_path: Path, comes: str
) -> None:
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    await submit(rig, "last", "first")
    if comes != "after":
        await submit(rig, "first")
    if comes == "is done before":
        await hire(rig)
        await work(rig, "first")
    await rig.stop()
    rig = await start_master(journal=journal)
    await hire(rig)
    if comes == "after":
        assert await running(rig) == []
        await submit(rig, "first")
    if comes != "is done before":
        await work(rig, "first")
    await work(rig, "last")
    assert await status(rig, "last") == "completed"


async def test_a_waiting_task_can_be_cancelled(rig: Rig) -> None:
    await hire(rig)
    await submit(rig, "last", "first")
    assert (await rig.cancel(1))["state"] == "cancelled"
    await submit(rig, "first")
    await work(rig, "first")
    assert await status(rig, "last") == "failed"
    assert await running(rig) == []


async def test_tasks_that_would_wait_for_each_other_are_refused(rig: Rig) -> None:
    await submit(rig, "c", "a")
    await submit(rig, "b", "c")
    body = {"name": "x", "handler": "work", "id": "a", "dependencies": ["b"]}
    reply = await rig.post("/tasks", body)
    assert (reply.status, reply.body) == (
        400,
        b"dependencies: task '0000000000000001' waits for 'a', which would wait for it\n",
    )
    await submit(rig, "a")


async def test_the_ids_that_are_waited_for_are_bounded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected, "EXPECTED_MAX", 2)
    await submit(rig, "one", "a", "b")
    body = {"name": "x", "handler": "work", "dependencies": ["c"]}
    reply = await rig.post("/tasks", body)
    assert (reply.status, reply.headers["retry-after"]) == (429, "5")
    assert b"too many dependencies" in reply.body
    await rig.cancel(1)
    assert (await rig.post("/tasks", body)).status == 201, "what has ended waits for nothing"


async def test_ids_of_16_digits_are_clients_too(rig: Rig) -> None:
    await hire(rig)
    await submit(rig, "0123456789abcdef", "fedcba9876543210")
    await submit(rig, "fedcba9876543210")
    await work(rig, "fedcba9876543210")
    await work(rig, "0123456789abcdef")
