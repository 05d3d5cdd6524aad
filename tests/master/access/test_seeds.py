"""Workers that can send no token, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from harness.http import Dial, Message, PlainClient

from dte.master.access import seeds
from dte.master.access.tokens import Role, TokenFile
from master.rig import Rig, StartMaster

SEED, STRANGER = "127.0.0.2", "127.0.0.3"
ARITHMETIC = {"worker_name": "seed", "port": 6000}


class Guarded:
    """A master with tokens that admits workers without one from `SEED`."""

    def __init__(self, rig: Rig, secrets: dict[Role, str]) -> None:
        self.rig = rig
        self.secrets = secrets
        self.seed = PlainClient(rig.port, SEED)
        self.stranger = PlainClient(rig.port, STRANGER)

    async def ask(self, role: Role, method: str, path: str, body: Any = None) -> Message:
        return await self.rig.ask(method, path, body, Authorization=f"Bearer {self.secrets[role]}")

    async def listed(self) -> dict[str, Any]:
        workers = (await self.ask(Role.ADMIN, "GET", "/worker")).json
        return {each["worker_name"]: each for each in workers}


Start = Callable[..., Any]


@pytest.fixture
def start(start_master: StartMaster, tmp_path: Path) -> Start:
    async def started(**bounds: Any) -> Guarded:
        file = TokenFile(str(tmp_path / "dte.tokens"))
        secrets = {role: file.new(role, role.value) for role in Role}
        known = {"tokens": file.path, "seeds": (ip_network(SEED),)} | bounds
        return Guarded(await start_master(**known), secrets)

    return started


async def test_a_worker_without_a_token_is_admitted_and_marked(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    master = await start()
    for _ in range(2):
        assert (await master.seed.post("/worker", ARITHMETIC)).status == 200
    own = {"worker_name": "worker-own", "port": 6001, "handlers": ["transfer"]}
    assert (await master.ask(Role.WORKER, "POST", "/worker", own)).status == 200
    listed = await master.listed()
    assert listed["seed"]["seed"] is True
    assert "seed" not in listed["worker-own"]
    assert len([each for each in caplog.messages if "seed came from 127.0.0.2:6000" in each]) == 1


async def test_from_elsewhere_a_worker_needs_a_token(start: Start) -> None:
    master = await start()
    assert (await master.stranger.post("/worker", ARITHMETIC)).status == 401


async def test_without_seeds_each_worker_needs_a_token(start: Start) -> None:
    master = await start(seeds=())
    assert (await master.seed.post("/worker", ARITHMETIC)).status == 401


@pytest.mark.parametrize(
    "more",
    [
        {"port": 6001},
        {"handlers": ["transfer"]},
        {"handlers": ["transfer"], "handler_slots": 4},
        {"arithmetic": False},
        {"replaced": ["echo"], "handlers": ["echo"]},
    ],
    ids=str,
)
async def test_it_does_arithmetic_at_its_port_alone(start: Start, more: dict[str, Any]) -> None:
    master = await start()
    reply = await master.seed.post("/worker", ARITHMETIC | more)
    assert reply.status == 403
    assert "dte token new worker" in reply.json["error"]
    assert await master.listed() == {}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/claim", {"worker": "seed", "handlers": ["transfer"], "slots": 1}),
        ("POST", "/result", {"worker": "seed", "results": [{"lease": 1, "result": 1}]}),
        ("POST", "/extend", {"worker": "seed", "leases": [1]}),
        ("GET", "/worker", None),
        ("GET", "/workers", None),
        ("GET", "/jobs", None),
        ("POST", "/submit", {"task": "1+2"}),
        ("POST", "/submit-task", {"task_type": "prime", "task_data": {}}),
        ("POST", "/add_task", {"func": "add", "args": [1, 2]}),
        ("POST", "/backup", None),
        ("GET", "/events", None),
        ("GET", "/stats", None),
        ("GET", "/status", None),
        ("POST", "/workers/../backup", None),
        ("POST", "//worker", ARITHMETIC),
    ],
)
async def test_nothing_else_is_served_without_a_token(
    start: Start, method: str, path: str, body: Any
) -> None:
    master = await start()
    assert (await master.seed.ask(method, path, body)).status in (401, 403, 404)


async def test_clients_there_may_be_served_without_a_token_beside_workers(start: Start) -> None:
    master = await start(open_clients=True)
    assert (await master.seed.post("/submit", {"task": "7"})).status == 200
    assert (await master.seed.post("/worker", ARITHMETIC)).status == 200
    assert (await master.stranger.post("/worker", ARITHMETIC)).status == 403


async def test_their_number_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "SEEDS_MAX", 2)
    master = await start(seeds=(ip_network("127.0.0.0/8"),))
    statuses = []
    for number in range(2, 5):
        client = PlainClient(master.rig.port, f"127.0.0.{number}")
        statuses.append((await client.post("/worker", ARITHMETIC)).status)
    assert statuses == [200, 200, 429]
    again = PlainClient(master.rig.port, "127.0.0.2")
    assert (await again.post("/worker", ARITHMETIC)).status == 200
    assert (await again.post("/get-task", {"worker_id": "p"})).status == 429


async def submit_task(master: Guarded, kind: str) -> int:
    body = {"task_type": kind, "task_data": {"limit": 10}}
    reply = await master.ask(Role.CLIENT, "POST", "/submit-task", body)
    assert reply.status == 201, reply.json
    return int(reply.json["task_id"])


async def test_a_worker_of_the_queue_gets_tasks_of_its_own_handlers_alone(start: Start) -> None:
    master = await start()
    await submit_task(master, "transfer")
    task = await submit_task(master, "prime")
    polled = (await master.seed.post("/get-task", {"worker_id": "w"})).json
    assert (polled["task_id"], polled["task_type"]) == (task, "prime")
    done = {"task_id": task, "worker_id": "w", "primes": [2, 3, 5, 7]}
    reply = await master.seed.post("/submit-result", done)
    assert reply.json["data"]["saved"] is True
    assert (await master.seed.post("/get-task", {"worker_id": "w"})).json == {"task": None}
    assert (await master.stranger.post("/get-task", {"worker_id": "w"})).status == 401


async def test_a_worker_of_the_scheduler_gets_tasks_of_its_own_handlers_alone(
    start: Start,
) -> None:
    master = await start()
    own = {"worker_name": "worker-own", "port": 6001, "handlers": ["transfer"]}
    assert (await master.ask(Role.WORKER, "POST", "/worker", own)).status == 200
    for func in ("transfer", "process_data"):
        body = {"func_name": func, "args": [1, 2]}
        assert (await master.ask(Role.CLIENT, "POST", "/add_task", body)).status == 201
    for prefix in ("", "/scheduler"):
        assert (await master.seed.post(f"{prefix}/register_worker/w")).status == 200
    assert (await master.seed.get("/get_task/w")).json["func"] == "process_data"
    assert (await master.seed.ask("PUT", "/heartbeat/w")).status == 200
    assert (await master.seed.ask("DELETE", "/unregister_worker/w")).status == 200


async def test_a_worker_of_resources_gets_no_tasks_of_handlers_that_others_have(
    start: Start,
) -> None:
    master = await start()
    own = {"worker_name": "worker-own", "port": 6001, "handlers": ["transfer"], "slots": 1}
    assert (await master.ask(Role.WORKER, "POST", "/worker", own)).status == 200
    for kind in ("transfer", "render"):
        body = {"name": kind, "handler": kind, "args": "e30="}
        assert (await master.ask(Role.CLIENT, "POST", "/tasks", body)).status in (200, 201)
    call = {"handler": "transfer", "args": [1]}
    assert (await master.ask(Role.CLIENT, "POST", "/jobs", call)).status == 201
    registered = {"id": "w", "capabilities": ["transfer"], "slots": 8}
    assert (await master.seed.post("/workers", registered)).status == 201
    assert (await master.seed.ask("PUT", "/workers/w/heartbeat")).status == 204
    tasks = (await master.seed.get("/workers/w")).json["CurrentTasks"]
    assert [each["Handler"] for each in tasks.values()] == ["render"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/workers", {"id": "w"}),
        ("PUT", "/workers/w/heartbeat", None),
        ("GET", "/workers/w", None),
        ("POST", "/workers/w/tasks/1/complete", {"status": "failed", "error": "x"}),
        ("POST", "/get-task", {"worker_id": "w"}),
        ("POST", "/heartbeat", {"worker_id": "w"}),
        ("POST", "/submit-result", {"task_id": 1, "worker_id": "w", "status": "failed"}),
        ("GET", "/get_task/w", None),
        ("PUT", "/heartbeat/w", None),
        ("DELETE", "/unregister_worker/w", None),
        ("POST", "/task_status", {"task_id": "1", "status": "FAILED", "worker_id": "w"}),
    ],
)
async def test_nobody_takes_the_name_of_a_worker_with_a_token(
    start: Start, method: str, path: str, body: Any
) -> None:
    master = await start()
    await submit_task(master, "prime")
    for each in (
        ("POST", "/workers", {"id": "w"}),
        ("POST", "/get-task", {"worker_id": "w"}),
        ("POST", "/register_worker/w", None),
    ):
        assert (await master.ask(Role.ADMIN, *each)).status in (200, 201)
    reply = await master.seed.ask(method, path, body)
    assert reply.status == 409
    job = (await master.ask(Role.CLIENT, "GET", "/job/1")).json
    assert job["state"] == "running"


async def test_without_tokens_all_is_as_before(
    start_master: StartMaster, serve_plainly: Any, dial: Dial
) -> None:
    rig = await start_master(seeds=(ip_network(SEED),))
    body = {"worker_name": "w", "port": 6001, "handlers": ["transfer"]}
    assert (await PlainClient(rig.port, SEED).post("/worker", body)).status == 200
    (listed,) = (await rig.get("/worker")).json
    assert "seed" not in listed
