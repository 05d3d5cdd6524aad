"""Which worker gets which task, where workers of several dialects are known."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from harness.until import until

from master.api.dialects.pollers import Queue
from master.rig import Rig, StartMaster

FIBONACCI = {
    "name": "Calculate Fibonacci",
    "handler": "fibonacci",
    "args": b64encode(b'{"n":10}').decode(),
}


async def current(rig: Rig, worker: str) -> list[str]:
    """The handlers of the tasks that a worker of the dialect of resources has."""
    reply = await rig.get(f"/workers/{worker}")
    assert reply.status == 200
    return [task["Handler"] for task in reply.json["CurrentTasks"].values()]


async def complete(rig: Rig, worker: str, task_id: str, **said: Any) -> int:
    path = f"/workers/{worker}/tasks/{task_id}/complete"
    return (await rig.post(path, {"status": "completed"} | said)).status


async def claimed(rig: Rig, *handlers: str, name: str = "able") -> list[dict[str, Any]]:
    """The calls that one of dte's own workers gets."""
    claim = {"worker": name, "handlers": list(handlers), "wait": 0.2, "slots": 9}
    return list((await rig.post("/claim", claim)).json["calls"])


async def test_capabilities_restrict_nothing_within_the_dialect(keeping: Rig) -> None:
    for number, capabilities in enumerate([["capability1"], ["default"], [], None]):
        body: dict[str, Any] = {"id": f"w{number}", "resources": {"cpu": 100}}
        if capabilities is not None:
            body["capabilities"] = capabilities
        assert (await keeping.post("/workers", body)).status == 201
        assert (await keeping.post("/tasks", FIBONACCI)).status == 201
    for number in range(4):
        while await current(keeping, f"w{number}") != ["fibonacci"]:
            await keeping.get("/health")


async def test_calls_of_other_clients_go_to_a_worker_with_the_capability_only(
    keeping: Rig,
) -> None:
    await keeping.post("/workers", {"id": "any", "capabilities": ["capability1"], "slots": 9})
    await keeping.post("/workers", {"id": "named", "capabilities": ["fibonacci"], "slots": 9})
    number = await keeping.accept(handler="fibonacci", args=[10])
    await keeping.post("/add_task", {"func_name": "fibonacci", "args": [11]})
    await keeping.post("/submit-task", {"task_type": "fibonacci", "task_data": {"n": 12}})
    while len(await current(keeping, "named")) < 3:
        await keeping.get("/health")
    assert await current(keeping, "any") == []
    other = await keeping.accept(handler="resize")
    assert (await keeping.why(other))["call"]["waits_for"] == "worker"
    assert (await keeping.job(number))["state"] == "running"


async def test_a_worker_of_the_queue_gets_no_call_of_another_client(keeping: Rig) -> None:
    """It would report one that it does not know as completed."""
    queue = Queue(keeping)
    for submit in (
        lambda: keeping.accept(handler="echo", args=[1]),
        lambda: keeping.post("/tasks", {"name": "x", "handler": "echo"}),
        lambda: keeping.accept(formula="echo(1) + 1"),
    ):
        await queue.submit("echo")
        await submit()
    ours = {1, 3, 5}
    for _ in ours:
        task = await queue.polled("w")
        assert task["task_id"] in ours
        assert (await queue.report("w", task["task_id"]))["saved"]
    assert await queue.poll("w") is None
    compute = await keeping.accept(handler="compute", args=[10])
    assert (await queue.polled("w"))["task_id"] == compute


async def test_one_name_in_several_dialects_is_as_many_workers(keeping: Rig) -> None:
    queue = Queue(keeping)
    await keeping.post("/workers", {"id": "worker-1"})
    await queue.beat("worker-1")
    assert (await keeping.post("/register_worker/worker-1")).status == 200
    await claimed(keeping, "other", name="worker-1")
    assert len(keeping.master.core.workers()) == 4
    await keeping.post("/tasks", {"id": "mine", "name": "x", "handler": "echo"})
    await queue.submit("compute")
    await keeping.post("/add_task", {"func_name": "process_data", "args": [1, 2]})
    assert (await queue.polled("worker-1"))["task_type"] == "compute"
    assert (await keeping.get("/get_task/worker-1")).json["func"] == "process_data"
    while await current(keeping, "worker-1") != ["echo"]:
        await keeping.get("/health")
    # None of them reports for another.
    assert await complete(keeping, "worker-1", "0000000000000002") == 403
    assert not (await queue.report("worker-1", 1))["saved"]
    status = {"task_id": "2", "status": "COMPLETED", "result": 1, "worker_id": "worker-1"}
    assert "nothing is changed" in (await keeping.post("/task_status", status)).json["message"]
    assert await complete(keeping, "worker-1", "mine") == 204
    assert (await queue.report("worker-1", 2))["saved"]
    status["task_id"] = "3"
    assert (await keeping.post("/task_status", status)).json["message"] == "Task 3 is COMPLETED"


async def test_a_worker_of_another_dialect_is_not_known_by_its_name(keeping: Rig) -> None:
    await Queue(keeping).beat("worker-1")
    assert (await keeping.ask("PUT", "/workers/worker-1/heartbeat")).status == 404
    assert (await keeping.get("/workers/worker-1")).status == 404


async def test_one_name_in_two_dialects_is_two_workers_also_after_a_restart(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    queue = Queue(rig)
    await rig.post("/workers", {"id": "worker-1"})
    await queue.submit("compute")
    await queue.polled("worker-1")
    await rig.stop()
    rig = await start_journaled()
    queue = Queue(rig)
    assert (await rig.ask("PUT", "/workers/worker-1/heartbeat")).status == 204
    assert await current(rig, "worker-1") == []
    await until(lambda: rig.master.core.jobs.job(1).calls is not None, "the job is read")
    assert await complete(rig, "worker-1", "0000000000000001") == 403
    assert (await queue.report("worker-1", 1))["saved"]


async def test_what_fails_at_a_worker_of_a_dialect_is_done_by_one_of_dte_s_own(
    keeping: Rig,
) -> None:
    await keeping.post("/workers", {"id": "w", "capabilities": ["resize"]})
    number = await keeping.accept(handler="resize", args=["a.png"])
    while not await current(keeping, "w"):
        await keeping.get("/health")
    assert await claimed(keeping, "resize") == []  # It is there, and has nothing to do.
    failed = {"status": "failed", "error": "unknown handler"}
    assert await complete(keeping, "w", f"{number:016x}", **failed) == 204
    (call,) = await claimed(keeping, "resize")
    assert (call["handler"], call["attempt"]) == ("resize", 2)
    assert await current(keeping, "w") == []
    body = {"worker": "able", "results": [{"lease": call["lease"], "error": "no such file"}]}
    await keeping.post("/result", body)
    job = await keeping.job(number, wait_s=5)
    assert (job["state"], job["error"]) == ("failed", "no such file")
    assert (await keeping.nodes(number))["call"]["failures"] == 1


async def test_what_fails_at_the_only_worker_fails(keeping: Rig) -> None:
    await claimed(keeping, "other")
    await keeping.post("/workers", {"id": "w", "capabilities": ["resize"]})
    await keeping.post("/workers", {"id": "also", "capabilities": ["resize"]})
    number = await keeping.accept(handler="resize")
    while not (holders := [w for w in ("w", "also") if await current(keeping, w)]):
        await keeping.get("/health")
    failed = {"status": "failed", "error": "the disk is full"}
    assert await complete(keeping, holders[0], f"{number:016x}", **failed) == 204
    assert (await keeping.job(number, wait_s=5))["error"] == "the disk is full"


async def test_a_text_in_a_formula_is_a_failure_of_its_worker(keeping: Rig) -> None:
    await keeping.post("/workers", {"id": "w", "capabilities": ["size"]})
    number = await keeping.accept(formula="size(7)")
    while not await current(keeping, "w"):
        await keeping.get("/health")
    await claimed(keeping, "size")
    done = {"status": "completed", "result": b64encode(b'"large"').decode()}
    assert await complete(keeping, "w", f"{number:016x}.size%25401", **done) == 204
    (call,) = await claimed(keeping, "size")
    body = {"worker": "able", "results": [{"lease": call["lease"], "result": 41}]}
    await keeping.post("/result", body)
    job = await keeping.job(number, wait_s=5)
    assert (job["answer"], job["error"]) == (41, None)
