"""Logs in JSON, and events, say which token did what."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from harness.http import open_line, request_bytes
from harness.until import until
from tornado.ioloop import IOLoop

from dte import logs
from dte.logs import AUDIT
from dte.master.access.tokens import Role, TokenFile
from master.rig import Rig, StartMaster


@pytest.fixture
def office(
    io_loop: IOLoop, start_master: StartMaster, tmp_path: Path
) -> tuple[Rig, dict[str, str]]:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    secrets = {name: file.new(Role.ADMIN, name) for name in ("shop", "boss")}
    return io_loop.run_sync(lambda: start_master(tokens=file.path)), secrets


async def test_submits_retries_and_cancels_name_their_token(
    office: tuple[Rig, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    rig, secrets = office
    shop, boss = ({"Authorization": f"Bearer {secrets[name]}"} for name in ("shop", "boss"))
    caplog.set_level(logging.INFO, AUDIT)
    await rig.ask("POST", "/submit", {"tasks": ["x(1)", "x(2)"]}, **shop)
    await rig.ask("POST", "/job/1/cancel", {}, **boss)
    await rig.ask("POST", "/job/1/retry", {}, **shop)
    records = [record for record in caplog.records if record.name == AUDIT]
    shown = [json.loads(logs.JsonFormatter().format(record)) for record in records]
    keys = ("token", "action", "job", "jobs", "retry_of")
    assert [{key: each[key] for key in keys if key in each} for each in shown] == [
        {"token": "shop", "action": "submit", "job": 1, "jobs": 2},
        {"token": "boss", "action": "cancel", "job": 1},
        {"token": "shop", "action": "retry", "job": 3, "jobs": 1, "retry_of": 1},
    ]
    assert not any(
        secret in record.getMessage() for record in records for secret in secrets.values()
    )


async def test_events_name_the_token_that_submitted_or_cancelled(
    office: tuple[Rig, dict[str, str]],
) -> None:
    rig, secrets = office
    shop, boss = ({"Authorization": f"Bearer {secrets[name]}"} for name in ("shop", "boss"))
    await rig.ask("POST", "/submit", {"task": "x(1)"}, **shop)
    await rig.ask("POST", "/job/1/cancel", {}, **boss)
    line = await open_line(rig.port)
    await line.send(request_bytes("GET", "/events?last_event_id=1", **boss))
    async with asyncio.timeout(20):
        text = (await line.reader.readuntil(b'"token":"boss"}')).decode()
    jobs = [json.loads(each[6:]) for each in text.splitlines() if each.startswith("data: ")]
    named = [(job.get("state"), job.get("token")) for job in jobs if "node" not in job]
    assert ("waiting", "shop") in named
    assert ("cancelled", "boss") in named
    line.close()


JOINS: dict[str, tuple[str, Any]] = {
    "is called": ("/worker", {"worker_name": "rack-1", "port": 1, "incarnation": "a"}),
    "claims": ("/claim", {"worker": "rack-1", "wait": 0, "incarnation": "a"}),
    "has a mailbox": ("/workers", {"id": "rack-1"}),
    "polls": ("/get-task", {"worker_id": "rack-1"}),
    "beats": ("/heartbeat", {"worker_id": "rack-1"}),
    "registers and polls": ("/register_worker/rack-1", None),
}


def of_workers(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """The records about workers, as JSON."""
    shown = [json.loads(logs.JsonFormatter().format(record)) for record in caplog.records]
    return [each for each in shown if each.get("worker") == "rack-1"]


@pytest.mark.parametrize("kind", JOINS)
async def test_a_worker_that_joins_and_one_that_is_dropped_name_their_token(
    start_master: StartMaster, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO)
    file = TokenFile(str(tmp_path / "dte.tokens"))
    rack = {"Authorization": f"Bearer {file.new(Role.WORKER, 'rack')}"}
    rig = await start_master(tokens=file.path)
    path, body = JOINS[kind]
    for _ in range(2):
        assert (await rig.ask("POST", path, body, **rack)).status < 300
    joined = [each for each in of_workers(caplog) if "joined" in each["message"]]
    # To register again means to have restarted.
    assert [each["token"] for each in joined] == ["rack"] * (2 if kind == "has a mailbox" else 1)
    file.remove("rack")
    await until(lambda: not rig.master.core.workers(), "it is dropped")
    dropped = [each for each in of_workers(caplog) if "is dropped" in each["message"]]
    assert [each["token"] for each in dropped] == ["rack"]


async def test_a_worker_that_leaves_or_is_silent_names_its_token(
    start_master: StartMaster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = TokenFile(str(tmp_path / "dte.tokens"))
    rack = {"Authorization": f"Bearer {file.new(Role.WORKER, 'rack')}"}
    rig = await start_master(tokens=file.path)
    said = {"worker": "rack-1", "wait": 0, "incarnation": "a"}
    session = (await rig.ask("POST", "/claim", said, **rack)).json["session"]
    shown = rack | {"X-Dte-Session": session}
    await rig.ask("POST", "/claim", said | {"draining": True}, **shown)
    await rig.ask("POST", "/register_worker/rack-1", None, **rack)
    await rig.ask("DELETE", "/unregister_worker/rack-1", None, **rack)
    await rig.ask("POST", "/worker", {"worker_name": "rack-1", "port": 1, "failing": "no"}, **rack)
    await rig.ask("POST", "/heartbeat", {"worker_id": "rack-1"}, **rack)
    rig.pass_over(1000)
    logged = lambda: " ".join(each["message"] for each in of_workers(caplog))  # noqa: E731
    await until(lambda: "rack-1 is gone" in logged(), "it is gone")
    assert {each["token"] for each in of_workers(caplog)} == {"rack"}
    for what in ("is leaving", "has left", "cannot start processes", "is gone"):
        assert what in logged()


async def test_tokens_that_are_new_or_gone_are_in_the_audit(
    start_master: StartMaster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = TokenFile(str(tmp_path / "dte.tokens"))
    secrets = [file.new(Role.CLIENT, "shop"), file.new(Role.WORKER, "rack")]
    rig = await start_master(tokens=file.path)
    rig.master.access.tokens.admit(Role.ADMIN, "own")

    def records() -> list[tuple[str, str, str]]:
        """The name, the action and the role of each."""
        found = [vars(record) for record in caplog.records if record.name == AUDIT]
        return [(each["token"], each["action"], each["role"]) for each in found]

    file.remove("shop")
    file.remove("rack")
    secrets += [file.new(Role.READER, "shop"), file.new(Role.ADMIN, "boss")]
    await until(lambda: len(records()) == 4, "the change is read")
    assert records() == [
        ("rack", "token_gone", "worker"),
        ("shop", "token_gone", "client"),
        ("shop", "token_new", "reader"),
        ("boss", "token_new", "admin"),
    ]
    line = next(each for each in caplog.messages if each.startswith("tokens in"))
    assert "own" not in line, "a token of the process is in no file"
    assert not any(secret in caplog.text for secret in secrets)


@pytest.mark.parametrize(("log_format", "logged"), [("json", True), ("text", False)])
def test_only_logs_in_json_have_the_audit(
    log_format: str, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    logs.configure("info", log_format)
    assert logging.getLogger(AUDIT).isEnabledFor(logging.INFO) is logged
