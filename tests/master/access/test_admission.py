"""A worker's token says how it may be named and which handlers it has; no other's is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness.http import Message
from harness.until import until
from tornado.ioloop import IOLoop

from dte.master.access.tokens import Role, TokenFile
from master.rig import Rig, StartMaster

Tokens = dict[str, str]
"""The secrets of tokens, by name."""


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    return {
        "w": file.new(Role.WORKER, "w"),
        "w-1": file.new(Role.WORKER, "w-1"),
        "mail": file.new(Role.WORKER, "mail", handlers=("mail.*", "echo")),
        "client": file.new(Role.CLIENT, "client"),
        "root": file.new(Role.ADMIN, "root"),
    }


@pytest.fixture
def secret(tokens: Tokens) -> str:
    return tokens["w"]


@pytest.fixture
def client(tokens: Tokens) -> str:
    return tokens["client"]


@pytest.fixture
def rig(io_loop: IOLoop, start_master: StartMaster, tmp_path: Path, tokens: Tokens) -> Rig:
    return io_loop.run_sync(lambda: start_master(tokens=str(tmp_path / "dte.tokens")))


async def ask(
    rig: Rig, path: str, body: Any, token: str, session: str = "", method: str = "POST"
) -> Message:
    shown = {"X-Dte-Session": session} if session else {}
    return await rig.ask(method, path, body, Authorization=f"Bearer {token}", **shown)


async def claim(rig: Rig, token: str, session: str = "", **said: Any) -> Message:
    body = {"worker": "w", "handlers": ["echo"], "wait": 0, "incarnation": "a"} | said
    return await ask(rig, "/claim", body, token, session)


async def claimed(rig: Rig, token: str, client: str) -> tuple[str, int]:
    """A worker with a call: its session, and its lease."""
    await ask(rig, "/jobs", {"handler": "echo", "args": [1]}, client)
    reply = (await claim(rig, token, wait=20)).json
    return reply["session"], reply["calls"][0]["lease"]


async def report(rig: Rig, token: str, lease: int, session: str = "") -> Message:
    body = {"worker": "w", "results": [{"lease": lease, "result": 1}]}
    return await ask(rig, "/result", body, token, session)


@pytest.mark.parametrize("name", ["w", "w-2", "w-host-77"])
async def test_a_token_serves_workers_of_its_name(rig: Rig, secret: str, name: str) -> None:
    assert (await claim(rig, secret, worker=name)).status == 200
    said = {"worker_name": name, "port": 6_000}
    assert (await ask(rig, "/worker", said, secret)).status == 200


@pytest.mark.parametrize("name", ["v", "wx", "W", "w_1", "v-w"])
async def test_a_token_serves_no_other_names(rig: Rig, secret: str, name: str) -> None:
    for path, body in (
        ("/claim", {"worker": name}),
        ("/worker", {"worker_name": name}),
        ("/get-task", {"worker_id": name}),
        ("/heartbeat", {"worker_id": name}),
        (f"/register_worker/{name}", None),
        ("/workers", {"id": name}),
        ("/workers/{name}/tasks/1/complete", {"status": "completed"}),
    ):
        reply = await ask(rig, path, body, secret)
        assert reply.status == 403, path
        assert b"w-" in reply.body
    assert not rig.master.core.workers()


async def test_every_worker_with_a_token_needs_its_session(
    rig: Rig, secret: str, client: str
) -> None:
    session, lease = await claimed(rig, secret, client)
    assert (await report(rig, secret, lease)).status == 403
    assert (await report(rig, secret, lease, "x" * 43)).json["stale"] == [lease]
    assert (await report(rig, client, lease, session)).status == 403
    assert (await report(rig, secret, lease, session)).json["accepted"] == [lease]


async def test_a_restart_opens_a_session_at_once_and_its_old_leases_are_requeued(
    rig: Rig, secret: str, client: str
) -> None:
    session, lease = await claimed(rig, secret, client)
    again = (await claim(rig, secret, incarnation="b", wait=20)).json
    assert again["session"] != session
    assert len(again["calls"]) == 1
    assert (await report(rig, secret, lease, session)).json["stale"] == [lease]
    assert (await claim(rig, secret, session)).status == 409, "the first does not take it back"
    new = again["calls"][0]["lease"]
    assert (await report(rig, secret, new, again["session"])).json["accepted"] == [new]


async def test_a_worker_without_an_incarnation_keeps_its_session_by_showing_it(
    rig: Rig, secret: str, client: str
) -> None:
    await ask(rig, "/jobs", {"handler": "echo", "args": [1]}, client)
    first = (await claim(rig, secret, wait=20, incarnation="")).json
    second = (await claim(rig, secret, first["session"], incarnation="")).json
    assert second["session"] == first["session"]
    (call,) = first["calls"]
    reply = await report(rig, secret, call["lease"], first["session"])
    assert reply.json["accepted"] == [call["lease"]]


async def test_another_token_takes_over_no_worker(
    rig: Rig, secret: str, client: str, tokens: Tokens
) -> None:
    """Both tokens are for the name."""
    session, lease = await claimed(rig, secret, client)
    other = tokens["root"]
    await claim(rig, other, worker="w-2")
    assert (await claim(rig, secret, worker="w-2", incarnation="b")).status == 409
    for draining in (False, True):
        assert (await claim(rig, secret, worker="w-2", draining=draining)).status == 409
    assert (await ask(rig, "/get-task", {"worker_id": "w-2"}, other)).status == 200
    for path in ("/get-task", "/heartbeat"):
        assert (await ask(rig, path, {"worker_id": "w-2"}, secret)).status == 409
    assert (await ask(rig, "/workers", {"id": "w-2"}, other)).status == 201
    assert (await ask(rig, "/workers", {"id": "w-2"}, secret)).status == 409
    beat = await ask(rig, "/workers/w-2/heartbeat", None, secret, method="PUT")
    assert beat.status == 409
    assert (await report(rig, other, lease, "")).status == 403
    assert (await report(rig, secret, lease, session)).json["accepted"] == [lease]


@pytest.mark.parametrize("thief", ["w-1", "root"])
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_session_counts_with_its_own_token_alone(
    start_master: StartMaster, tmp_path: Path, tokens: Tokens, thief: str, restarts: bool
) -> None:
    bounds = {"tokens": str(tmp_path / "dte.tokens"), "journal": str(tmp_path / "dte.db")}
    rig = await start_master(**bounds)
    session, lease = await claimed(rig, tokens["w"], tokens["client"])
    if restarts:
        await rig.stop()
        rig = await start_master(**bounds)
        await until(lambda: rig.master.core.calls.leases.get(lease), "the job is read")
    refused = await report(rig, tokens[thief], lease, session)
    assert refused.status == 403
    assert "another token" in refused.json["error"]
    body = {"worker": "w", "leases": [lease], "progress": {str(lease): {"fraction": 0.5}}}
    assert (await ask(rig, "/extend", body, tokens[thief], session)).status == 403
    extended = (await ask(rig, "/extend", body, tokens["w"], session)).json["extended"]
    assert extended == [lease]
    assert (await report(rig, tokens["w"], lease, session)).json["accepted"] == [lease]


async def test_a_batch_of_a_session_is_its_own_token_s(
    rig: Rig, secret: str, client: str, tokens: Tokens
) -> None:
    await ask(rig, "/submit", {"task": "1+2"}, client)
    reply = (await claim(rig, secret, slots=0, batch_max=5, wait=20)).json
    result = {"lease": reply["batches"][0]["lease"], "results": [3]}
    body = {"worker": "w", "batches": [result]}
    assert (await ask(rig, "/result", body, tokens["w-1"], reply["session"])).status == 403
    assert (await ask(rig, "/result", body, secret)).json["accepted"] == []
    taken = await ask(rig, "/result", body, secret, reply["session"])
    assert taken.json["accepted"] == [result["lease"]]


@pytest.mark.parametrize("name", ["w-1", "w-1-host-77"])
async def test_a_name_is_for_the_token_with_the_longest_name_that_fits(
    rig: Rig, secret: str, tokens: Tokens, name: str
) -> None:
    """No worker of it has come yet."""
    for path, body in (
        ("/claim", {"worker": name}),
        ("/worker", {"worker_name": name}),
        ("/get-task", {"worker_id": name}),
        ("/heartbeat", {"worker_id": name}),
        (f"/register_worker/{name}", None),
        ("/workers", {"id": name}),
        (f"/workers/{name}/tasks/1/complete", {"status": "completed"}),
    ):
        reply = await ask(rig, path, body, secret)
        assert reply.status == 403, path
        assert f"{name} is a name for workers of the token w-1".encode() in reply.body
    assert not rig.master.core.workers()
    assert (await claim(rig, tokens["w-1"], worker=name)).status == 200
    beat = await ask(rig, f"/workers/{name}/heartbeat", None, secret, method="PUT")
    assert beat.status == 403
    assert (await ask(rig, f"/workers/{name}", None, secret, method="GET")).status == 403
    assert (await claim(rig, tokens["root"], worker="w-2")).status == 200


async def test_a_worker_has_no_more_handlers_than_its_token(rig: Rig, tokens: Tokens) -> None:
    mail = tokens["mail"]
    refused = await claim(rig, mail, worker="mail", handlers=["mail.send", "transfer"])
    assert refused.status == 403
    assert "'transfer'" in refused.json["error"]
    assert not rig.master.core.workers()
    named = {name: {} for name in ("mail.send", "echo", "sleep")}
    assert (await claim(rig, mail, worker="mail", handlers=named)).status == 200
    (worker,) = rig.master.core.workers()
    assert worker.announcement.handlers.keys() == {"mail.send", "echo"}, "sleep is built in"
    await ask(rig, "/workers", {"id": "mail-2", "capabilities": ["mail.send"]}, mail)
    known = rig.master.core.worker("pull/rest:mail-2")
    assert known is not None
    assert known.announcement.tasks == frozenset(), "nor tasks of any other handler"


async def test_an_admin_may_name_a_worker_as_it_likes(rig: Rig, tokens: Tokens) -> None:
    assert (await claim(rig, tokens["root"], worker="anything")).status == 200


async def test_a_worker_that_is_given_a_name_has_one_of_its_token(rig: Rig, secret: str) -> None:
    reply = await ask(rig, "/workers", {"capabilities": ["echo"]}, secret)
    assert reply.json["id"].startswith("w-")
    await until(lambda: rig.master.core.workers(), "it is known")
