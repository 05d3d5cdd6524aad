"""Logs in JSON, and events, say which token did what."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from harness.http import open_line, request_bytes
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


@pytest.mark.parametrize(("log_format", "logged"), [("json", True), ("text", False)])
def test_only_logs_in_json_have_the_audit(
    log_format: str, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    logs.configure("info", log_format)
    assert logging.getLogger(AUDIT).isEnabledFor(logging.INFO) is logged
