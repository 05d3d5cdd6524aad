"""The rest dialect, as its clients and workers use it, over real sockets."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from harness.http import Message, PlainClient
from harness.until import until

from dte.master.api import replies
from dte.master.api.dialects.rest import views
from dte.master.api.dialects.rest import workers as rest_workers
from dte.master.api.dialects.rest.durations import duration_text
from master.api.dialects import conversations
from master.rig import Rig, StartMaster

PATIENCE_S = 20.0


class SeedClient:
    """A client that knows only this dialect."""

    def __init__(self, http: PlainClient) -> None:
        self.http = http

    async def submit(self, handler: str, args: bytes | None = None, **more: Any) -> str:
        reply = await self.ask(handler, args, **more)
        assert reply.status == 201, reply.body
        assert reply.json["status"] == "pending"
        return str(reply.json["id"])

    async def ask(self, handler: str, args: bytes | None = None, **more: Any) -> Message:
        body = {"name": "A task", "handler": handler} | more
        if args is not None:
            body["args"] = b64encode(args).decode()
        return await self.http.post("/tasks", body)

    async def task(self, task_id: str) -> dict[str, Any]:
        reply = await self.http.get(f"/tasks/{task_id}")
        assert reply.status == 200, reply.body
        return dict(reply.json)

    async def when(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """A task as soon as it has one of these statuses."""
        async with asyncio.timeout(PATIENCE_S):
            while (task := await self.task(task_id))["Status"] not in statuses:
                await asyncio.sleep(0.002)
        return task

    async def result(self, task_id: str) -> bytes | None:
        """The bytes of a task's result."""
        task = await self.when(task_id, "completed", "failed")
        assert task["Status"] == "completed", task["Error"]
        return None if task["Result"] is None else b64decode(task["Result"])


class SeedWorker:
    """A worker that registers, beats, looks for its tasks, and runs the four handlers."""

    CAPABILITIES = ("echo", "sleep", "fibonacci", "prime_factorization")

    def __init__(self, http: PlainClient, name: str = "worker1") -> None:
        self.http, self.name = http, name

    async def register(self, capabilities: tuple[str, ...] = CAPABILITIES, **more: Any) -> None:
        resources = {"cpu": 100, "memory": 1024, "disk": 10240}
        body = {"id": self.name, "capabilities": list(capabilities), "resources": resources}
        reply = await self.http.post("/workers", body | more)
        assert reply.status == 201, reply.body
        assert reply.json == {"id": self.name, "status": "idle"}

    async def beat(self) -> int:
        return (await self.http.ask("PUT", f"/workers/{self.name}/heartbeat")).status

    async def shown(self) -> dict[str, Any]:
        reply = await self.http.get(f"/workers/{self.name}")
        assert reply.status == 200, reply.body
        return dict(reply.json)

    async def look(self, count: int = 1) -> dict[str, Any]:
        """Its tasks, as soon as there are `count`."""
        async with asyncio.timeout(PATIENCE_S):
            while len(tasks := (await self.shown())["CurrentTasks"]) < count:
                await asyncio.sleep(0.002)
        assert all(task["Status"] == "running" for task in tasks.values())
        assert all(task["WorkerID"] == self.name for task in tasks.values())
        return dict(tasks)

    async def complete(
        self, task_id: str, result: bytes | None = None, error: str | None = None
    ) -> int:
        body: dict[str, Any] = {"status": "completed" if error is None else "failed"}
        if result is not None:
            body["result"] = b64encode(result).decode()
        if error is not None:
            body["error"] = error
        path = f"/workers/{self.name}/tasks/{task_id}/complete"
        return (await self.http.post(path, body)).status

    async def work(self) -> None:
        """Run the next task."""
        ((task_id, task),) = (await self.look()).items()
        args = b64decode(task["Args"] or "")
        assert await self.complete(task_id, self.do(task["Handler"], args)) == 204

    def do(self, handler: str, args: bytes) -> bytes:
        if handler == "echo":
            return args
        fields = json.loads(args)
        if handler == "sleep":
            return f"Slept for {duration_text(fields['duration'])}".encode()
        n = fields["n"]
        if handler == "fibonacci":
            low, high = 0, 1
            for _ in range(n):
                low, high = high, low + high
            return f"Fibonacci({n}) = {low}".encode()
        factors, rest = [], n
        for factor in range(2, n + 1):
            while rest % factor == 0:
                factors.append(factor)
                rest //= factor
        return json.dumps({"factors": factors, "number": n}, separators=(",", ":")).encode()


async def until_attempt(rig: Rig, task_id: str, attempt: int) -> None:
    """Wait until a task has been handed out so often."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            (node,) = (await rig.get(f"/job/{int(task_id, 16)}/nodes")).json
            if node["attempts"] == attempt:
                return
            await asyncio.sleep(0.002)


async def work_elsewhere(rig: Rig, handlers: Any, **report: Any) -> Any:
    """Run one call as a worker of another dialect; the call."""
    claim = {"worker": "other", "handlers": handlers, "wait": 5}
    claimed = await rig.post("/claim", claim)
    assert claimed.status == 200, claimed.body
    (call,) = claimed.json["calls"]
    body = {"worker": "other", "results": [{"lease": call["lease"], **report}]}
    reply = await rig.post("/result", body)
    assert reply.json["accepted"] == [call["lease"]]
    return call


# Conversations


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in conversations.files("rest")]
)
async def test_the_replies_are_those_of_the_golden_files(path: Path, keeping: Rig) -> None:
    await conversations.hold(keeping, path)


async def test_errors_are_plain_text(rig: Rig) -> None:
    reply = await rig.get("/tasks/unknown")
    assert reply.status == 404
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.body == b"Task not found\n"


@pytest.mark.parametrize("part_bytes", [0, 400], ids=["all long", "some long"])
async def test_long_tasks_are_written_like_short_ones(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    client = SeedClient(rig)
    for args in (b"a", b"[" + b"1," * 200 + b"1]", b"b", None, b"c"):
        task_id = await client.submit("echo", args)
    paths = ("/tasks", f"/tasks/{task_id}")
    short = [(await rig.get(path)).body for path in paths]
    monkeypatch.setattr(views, "LONG_BYTES", -1)
    monkeypatch.setattr(replies, "REPLY_PART_BYTES", part_bytes)
    assert [(await rig.get(path)).body for path in paths] == short
    assert len(json.loads(short[0])) == 5


# Handlers


@pytest.mark.parametrize(
    ("handler", "args", "result", "value"),
    [
        ("echo", b"hello", b"hello", "hello"),
        ("echo", b'{"a" :  [1, 2.50]}\n', b'{"a" :  [1, 2.50]}\n', {"a": [1, 2.5]}),
        ("echo", b"\xff\x00", b"\xff\x00", {"base64": "/wA="}),
        ("echo", b'{"ref": "x"}', b'{"ref": "x"}', {"ref": "x"}),
        ("sleep", b'{"duration": 1000000000}', b"Slept for 1s", 1.0),
        ("sleep", b'{"Duration": 250000000}', b"Slept for 250ms", 0.25),
        ("fibonacci", b'{"n":10}', b"Fibonacci(10) = 55", 55),
        ("fibonacci", b"{}", b"Fibonacci(0) = 0", 0),
        ("prime_factorization", b'{"n": 84}', b'{"factors":[2,2,3,7],"number":84}', [2, 2, 3, 7]),
    ],
)
async def test_a_handler_gives_the_same_to_this_dialect_whoever_does_it(
    rig: Rig, handler: str, args: bytes, result: bytes, value: Any
) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    here = await client.submit(handler, args)
    call = await work_elsewhere(rig, [handler], result=value)
    assert await client.result(here) == result
    await worker.register()
    again = await client.submit(handler, args)
    if b"{}" not in args and b"Dur" not in args:  # This worker is not as patient with fields.
        await worker.work()
        assert await client.result(again) == result
        assert (await rig.job(int(again, 16)))["answer"] == value
    assert call["handler"] == handler


@pytest.mark.parametrize(
    ("handler", "args", "given"),
    [
        ("echo", b'{"a": 1}', [{"a": 1}]),
        ("echo", b"hello", ["hello"]),
        ("echo", None, [""]),
        ("sleep", b'{"duration": 1500000000}', {"seconds": 1.5}),
        ("sleep", b'{"duration": -1}', {"seconds": 0.0}),
        ("fibonacci", b'{"N": 10, "else": 1}', {"n": 10}),
        ("prime_factorization", b'{"n": 123456789012345678901}', {"n": 123456789012345678901}),
        ("fibonacci", None, []),
        ("custom", b'{"param1": "a", "param2": 7}', {"param1": "a", "param2": 7}),
        ("custom", b"[1, 2]", [[1, 2]]),
        ("custom", b"7", [7]),
        ("custom", b"\x80", [{"base64": "gA=="}]),
        ("custom", b"text", ["text"]),
        ("custom", b'{"literal": 1}', {"literal": 1}),
        ("custom", None, []),
    ],
)
async def test_other_workers_get_plain_arguments(
    rig: Rig, handler: str, args: bytes | None, given: Any
) -> None:
    await SeedClient(rig).submit(handler, args)
    call = await work_elsewhere(rig, [handler], result=None)
    assert call["args"] == given


@pytest.mark.parametrize(
    ("handler", "args", "shown"),
    [
        ("fibonacci", [10], b'{"n":10}'),
        ("sleep", {"seconds": 0.25}, b'{"duration":250000000}'),
        ("echo", [{"a": 1}], b'{"a":1}'),
        ("custom", [1, 2], b"[1, 2]"),
        ("custom", {"literal": [{"ref": "a"}]}, b'[{"ref":"a"}]'),
    ],
)
async def test_workers_of_this_dialect_get_arguments_in_its_form(
    rig: Rig, handler: str, args: Any, shown: bytes
) -> None:
    reply = await rig.post("/jobs", {"graph": {"a": {"handler": handler, "args": args}}})
    assert reply.status in (200, 201, 202), reply.body
    worker = SeedWorker(rig)
    await worker.register((handler,))
    ((_, task),) = (await worker.look()).items()
    assert b64decode(task["Args"]) == shown


@pytest.mark.parametrize(
    "given",
    [b'{"x":  1}', b'"text"', b"17", b"\xff", b"", b"no JSON", b'{"base64": "aGk="}', None],
)
async def test_a_result_is_kept_byte_for_byte(keeping: Rig, given: bytes | None) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    await worker.register(("custom",))
    task_id = await client.submit("custom")
    await worker.look()
    assert await worker.complete(task_id, given) == 204
    assert await client.result(task_id) == given


@pytest.mark.parametrize(
    ("handler", "args"),
    [("fibonacci", b'{"n":-1}'), ("prime_factorization", b'{"n":1}'), ("fibonacci", b'{"n":"x"}')],
)
async def test_a_task_fails_with_the_reason_of_its_handler(
    rig: Rig, handler: str, args: bytes
) -> None:
    client = SeedClient(rig)
    task_id = await client.submit(handler, args)
    await work_elsewhere(rig, [handler], error="that cannot be")
    task = await client.when(task_id, "failed")
    assert (task["Error"], task["Result"]) == ("that cannot be", None)
    assert task["CompletedAt"] == task["completed_at"] > task["CreatedAt"]


# The life of a task


async def test_moments_are_null_until_there_are_any(rig: Rig) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    task_id = await client.submit("echo", b"x")
    task = await client.task(task_id)
    assert (task["StartedAt"], task["CompletedAt"]) == (None, None)
    assert not task.keys() & {"started_at", "completed_at"}
    await worker.register()
    task = await client.when(task_id, "running")
    assert task["StartedAt"] == task["started_at"] > task["CreatedAt"]
    assert task["CompletedAt"] is None
    assert "completed_at" not in task


async def test_a_worker_gets_as_many_tasks_as_it_has_slots(rig: Rig) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register(("echo",), slots=2)
    tasks = [await client.submit("echo", b"x", priority=priority) for priority in (1, 2, 3)]
    assert list(await worker.look(2)) == tasks[:2]
    assert (await worker.shown())["Status"] == "busy"
    assert await worker.complete(tasks[0], b"x") == 204
    await client.when(tasks[2], "running")
    assert list(await worker.look(2)) == tasks[1:]


async def test_the_highest_priority_is_first(rig: Rig) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    tasks = {each: await client.submit("echo", b"x", priority=each) for each in (0, 10, -5)}
    await worker.register()
    for priority in (10, 0, -5):
        assert list(await worker.look()) == [tasks[priority]]
        await worker.work()


async def test_a_task_that_is_cancelled_is_taken_from_its_worker(keeping: Rig) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    await worker.register()
    task_id = await client.submit("echo", b"x")
    await worker.look()
    reply = await keeping.post(f"/job/{int(task_id, 16)}/cancel")
    assert reply.status in (200, 202), reply.body
    task = await client.when(task_id, "failed")
    assert task["Error"] == "cancelled"
    assert (await worker.shown())["CurrentTasks"] == {}
    assert await worker.complete(task_id, b"x") == 403


async def test_a_failed_task_that_is_tried_again_leaves_its_id_to_the_first(keeping: Rig) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    await worker.register()
    await client.submit("echo", b"x", id="mine")
    await worker.look()
    assert await worker.complete("mine", error="no") == 204
    reply = await keeping.post("/job/1/retry")
    number = f"{reply.json['job_id']:016x}"
    assert (await client.task("mine"))["Status"] == "failed"
    assert list(await worker.look()) == [number]
    await worker.work()
    assert await client.result(number) == b"x"


async def test_the_same_id_with_the_same_body_is_the_same_task_also_after_a_restart(
    start: StartMaster,
) -> None:
    rig = await start()
    client = SeedClient(rig)
    assert await client.submit("echo", b"x", id="mine") == "mine"
    if rig.master.recorder is not None:
        await rig.stop()
        rig = await start()
        client = SeedClient(rig)
    assert await client.submit("echo", b"x", id="mine") == "mine"
    refused = await client.ask("echo", b"y", id="mine")
    assert (refused.status, refused.body) == (
        409,
        b"the id 'mine' was used for another task before\n",
    )
    assert len((await rig.get("/tasks")).json) == 1


@pytest.mark.parametrize(
    "task_id", ["0000000000000002", "000000ABCDef0123", "0000000000000002.a", "0000000000000002."]
)
async def test_an_id_that_the_master_may_make_up_is_refused(rig: Rig, task_id: str) -> None:
    reply = await SeedClient(rig).ask("echo", b"x", id=task_id)
    assert reply.status == 400
    assert b"16 hexadecimal digits" in reply.body
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await rig.get("/tasks")).json == []


@pytest.mark.parametrize(
    "task_id", ["000000000000002", "00000000000000002", "000000000000000g", "0000000000000002-a"]
)
async def test_an_id_that_only_looks_a_little_like_it_is_none_of_the_master_s(
    rig: Rig, task_id: str
) -> None:
    client = SeedClient(rig)
    assert await client.submit("echo", b"first", id=task_id) == task_id
    assert await client.submit("echo", b"second") == "0000000000000002"
    assert b64decode((await client.task(task_id))["Args"]) == b"first"
    assert b64decode((await client.task("0000000000000002"))["Args"]) == b"second"


async def test_long_arguments_are_listed_whole_and_in_slices(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    long = json.dumps(["x" * 300_000]).encode()
    ids = [await client.submit("custom", long) for _ in range(4)]
    await worker.register(("custom",), slots=4)
    await worker.look(4)
    (shown,) = (await rig.get("/workers")).json
    for tasks in ((await rig.get("/tasks")).json, shown["CurrentTasks"].values()):
        found = {task["ID"]: b64decode(task["Args"]) for task in tasks}
        assert found == dict.fromkeys(ids, long)
    monkeypatch.setattr(views, "REPLY_SLICE_S", 0.0)
    assert len(list(views.Viewer(rig.master).workers(rig.master.core.workers()))) == 4


async def test_ids_may_have_any_letters(keeping: Rig) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping, "wörker")
    worker.name = "w%C3%B6rker"
    reply = await keeping.post("/workers", {"id": "wörker", "capabilities": ["echo"]})
    assert reply.json["id"] == "wörker"
    assert await client.submit("echo", b"x", id="a/ü 1") == "a/ü 1"
    await client.when("a%2F%C3%BC%201", "running")
    assert await worker.complete("a%2F%C3%BC%201", b"x") == 204
    assert await client.result("a%2F%C3%BC%201") == b"x"


# Workers that come and go


async def test_a_silent_worker_is_offline_and_its_task_goes_to_another(keeping: Rig) -> None:
    client, first, second = SeedClient(keeping), SeedWorker(keeping), SeedWorker(keeping, "w2")
    await first.register()
    task_id = await client.submit("echo", b"x")
    await first.look()
    keeping.pass_over(rest_workers.OFFLINE_S)
    await second.register()
    assert list(await second.look()) == [task_id]
    assert await first.complete(task_id, b"late") == 403
    await until(lambda: keeping.master.core.worker("pull/rest:worker1").gone, "the worker's end")  # type: ignore[union-attr]
    assert (await first.shown())["Status"] == "offline"
    assert (await first.shown())["CurrentTasks"] == {}
    assert await first.beat() == 204
    assert (await first.shown())["Status"] == "idle"
    await second.work()
    assert await client.result(task_id) == b"x"


async def test_a_late_result_that_nobody_else_works_on_is_welcome(keeping: Rig) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    await worker.register()
    task_id = await client.submit("echo", b"x")
    await worker.look()
    keeping.pass_over(rest_workers.OFFLINE_S)
    await client.when(task_id, "pending")
    assert await worker.complete(task_id, b"x") == 204
    assert await client.result(task_id) == b"x"
    assert await worker.complete(task_id, b"another") == 204
    assert await client.result(task_id) == b"x"


async def test_beating_keeps_a_task(rig: Rig) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register()
    task_id = await client.submit("echo", b"x")
    await worker.look()
    for _ in range(3):
        rig.pass_over(rest_workers.OFFLINE_S / 3)
        assert await worker.beat() == 204
        assert list(await worker.look()) == [task_id]
    rig.pass_over(rest_workers.OFFLINE_S / 3)
    assert list(await worker.look()) == [task_id]
    assert rig.master.core.calls.stale_results == 0


async def test_looking_is_no_sign_of_life(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_workers, "OFFLINE_S", 0.2)
    worker = SeedWorker(rig)
    await worker.register()
    async with asyncio.timeout(PATIENCE_S):
        while (await worker.shown())["Status"] != "offline":
            await asyncio.sleep(0.01)


async def test_a_worker_that_registers_again_has_restarted(keeping: Rig) -> None:
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    await worker.register(("echo",))
    task_id = await client.submit("echo", b"x")
    await worker.look()
    await worker.register(("fibonacci",))
    await until_attempt(keeping, task_id, 2)
    assert list(await worker.look()) == [task_id]


async def test_registering_does_not_change_the_policy_of_a_handler(rig: Rig) -> None:
    policy = {"timeout": 30.0, "retries": 3, "pure": True}
    await rig.post("/worker", {"worker_name": "dte", "port": 1, "handlers": {"echo": policy}})
    worker = SeedWorker(rig)
    await worker.register(("echo",))
    await worker.beat()
    assert "echo" in rig.master.core.handlers.pure


async def test_a_restart_of_the_master_in_mid_task_loses_nothing(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register(slots=2)
    done = await client.submit("echo", b"x", id="done", metadata={"a": "b"})
    running = await client.submit("fibonacci", b'{"n":10}')
    waiting = await client.submit("custom", b"7", dependencies=[running])
    await worker.look(2)
    assert await worker.complete(done, b"x") == 204
    before = await client.task(done)
    await rig.stop()

    rig = await start_journaled()
    client, worker = SeedClient(rig), SeedWorker(rig)
    assert await client.task(done) == before
    assert list(await worker.look()) == [running], "it is at work, and need not beat first"
    assert (await worker.shown())["Status"] == "busy"
    async with asyncio.timeout(PATIENCE_S):  # It is read from the journal first.
        while (await client.task(waiting))["Dependencies"] != [running]:
            await asyncio.sleep(0.002)
    assert await worker.beat() == 204, "it registers only once"
    assert list(await worker.look()) == [running]
    await worker.work()
    assert await client.result(running) == b"Fibonacci(10) = 55"
    listed = (await rig.get("/tasks")).json
    assert [task["ID"] for task in listed] == [waiting, running, done]
    assert listed[2] == before


async def test_tasks_of_long_ago_are_read_from_the_journal(start_journaled: StartMaster) -> None:
    rig = await start_journaled(jobs_kept=1)
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register()
    tasks = []
    for count in range(3):
        task_id = await client.submit("fibonacci", b'{"n":10}', id=f"t{count}")
        await worker.work()
        tasks.append(await client.when(task_id, "completed"))
    graph = {"a": {"handler": "fibonacci", "args": [1]}, "b": {"handler": "echo", "args": [2]}}
    await rig.post("/jobs", {"graph": graph})
    await worker.work()
    await worker.work()
    whole = await client.when("0000000000000004", "completed")
    failed = await client.submit("echo", b"x")
    await worker.look()
    await worker.complete(failed, error="no")
    await client.when(failed, "failed")
    for task in tasks:
        assert await client.task(task["ID"]) == task
    assert await client.task("0000000000000004") == whole
    assert (whole["Handler"], b64decode(whole["Result"])) == ("graph", b'{"a":1,"b":2}')
    assert await worker.complete("t0", b"x") == 204
    assert await client.task("t0") == tasks[0]
    assert await SeedWorker(rig, "another").complete("t0", b"x") == 404
    after = await client.submit("echo", b"x", dependencies=["t0", "0000000000000004"])
    await worker.work()
    assert await client.result(after) == b"x"
    assert (await client.task(failed))["Error"] == "no"


async def test_a_result_is_taken_after_a_restart_before_its_worker_registers_again(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register()
    task_id = await client.submit("echo", b"x")
    await worker.look()
    await rig.stop()
    rig = await start_journaled()
    client, worker = SeedClient(rig), SeedWorker(rig)
    await client.when(task_id, "running")
    assert await worker.complete(task_id, b"x") == 204
    assert await client.result(task_id) == b"x"


async def test_an_unknown_worker_is_not_found(rig: Rig) -> None:
    task_id = await SeedClient(rig).submit("echo", b"x")
    reply = await rig.post(f"/workers/nobody/tasks/{task_id}/complete", {"status": "completed"})
    assert (reply.status, reply.body) == (404, b"Worker not found\n")


async def test_workers_of_other_dialects_are_shown(rig: Rig) -> None:
    body = {"worker_name": "dte", "port": 1, "handlers": ["echo"], "handler_slots": 1}
    await rig.post("/worker", body)
    (shown,) = (await rig.get("/workers")).json
    assert shown["ID"] == "dte"
    assert shown["Capabilities"] == ["echo"]
    assert shown["Resources"] == {"CPU": 0, "Memory": 0, "Disk": 0}
    assert (await rig.ask("PUT", "/workers/dte/heartbeat")).status == 204


# Bounds


async def test_a_result_that_is_too_long_fails_its_task(start_master: StartMaster) -> None:
    rig = await start_master(value_bytes_max=100)
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register()
    task_id = await client.submit("echo", b"x")
    await worker.look()
    assert await worker.complete(task_id, b"1" * 101) == 413
    assert "value_bytes_max" in (await client.when(task_id, "failed"))["Error"]


async def test_bounds_are_named(start_master: StartMaster) -> None:
    rig = await start_master(value_bytes_max=100, jobs_waiting_max=1, workers_max=1)
    client = SeedClient(rig)
    assert b"value_bytes_max" in (await client.ask("echo", b"x" * 200)).body
    assert (await client.ask("echo", b"x" * 200_000)).status == 413
    await client.submit("echo", b"x")
    reply = await client.ask("echo", b"x")
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert b"jobs_waiting_max" in reply.body
    await SeedWorker(rig).register()
    reply = await rig.post("/workers", {"id": "second"})
    assert reply.status == 429
    assert b"workers_max" in reply.body


@pytest.mark.parametrize("depth", [50, 200, 900, 970, 990, 5000])
async def test_deep_json_is_no_fault_of_the_master(keeping: Rig, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    client, worker = SeedClient(keeping), SeedWorker(keeping)
    reply = await keeping.post(
        "/tasks", b'{"name": "x", "handler": "echo", "metadata": {"a": %s}}' % deep
    )
    assert reply.status in (201, 400)
    assert (await client.ask("echo", deep)).status in (201, 400)
    assert (await client.ask("custom", deep)).status in (201, 400)
    await worker.register(("work",), slots=10)
    task_id = await client.submit("work")
    await client.when(task_id, "running")
    assert await worker.complete(task_id, deep) == 204
    assert await client.result(task_id) == deep
    assert (await keeping.get("/tasks")).status == 200
    assert (await keeping.get("/workers")).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b'{"duration": 9223372036854775807}',
        b'{"duration": 1e400}',
        b'{"duration": %s}' % (b"9" * 400),
        b'{"duration": true}',
        b'{"duration": "1s"}',
        b'{"duration": 1.5}',
        b"null",
        b"[]",
        b'{"n": [1]}',
        b'{"n": 1e308}',
        b"-" + b"9" * 5000,
        b'"\\ud800"',
    ],
)
async def test_odd_arguments_are_no_fault_of_the_master(rig: Rig, sent: bytes) -> None:
    client, worker = SeedClient(rig), SeedWorker(rig)
    await worker.register(slots=8)
    for handler in SeedWorker.CAPABILITIES:
        reply = await client.ask(handler, sent)
        assert reply.status in (201, 400)
        if reply.status == 201:
            for result in (b"1", b"[1]", b"Fibonacci(1) = 1", sent):
                task_id = await client.submit(handler, sent)
                await worker.look()
                assert await worker.complete(task_id, result) == 204
                task = await client.when(task_id, "completed")
                assert task["Result"] or result == b"null"
            await worker.complete(reply.json["id"], b"1")
