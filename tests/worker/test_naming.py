"""A worker without a name has one of its token, which it asks the master for."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from harness.until import until

from dte.worker import naming, server
from dte.worker.master_client import MasterClient
from dte.worker.naming import await_token_name, name_after
from dte.worker.server import WorkerSettings, serve

from .fakes import FakeMaster

OWN = f"{os.uname().nodename}-{os.getpid()}"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DTE_TOKEN", "DTE_TOKEN_FILE", "DTE_TLS_CERT"):
        monkeypatch.delenv(name, raising=False)


def knows(fake_master: FakeMaster, status: int = 200, **said: Any) -> None:
    fake_master.replies["/session"] = (status, {"name": "fleet", "role": "worker"} | said)


async def token_name(fake_master: FakeMaster) -> str:
    return await await_token_name(fake_master.url, asyncio.Event())


def test_a_name_says_host_and_process() -> None:
    assert name_after("") == OWN
    assert name_after("fleet") == f"fleet-{OWN}"


async def test_a_worker_without_a_token_asks_nobody(fake_master: FakeMaster) -> None:
    assert await token_name(fake_master) == ""
    assert fake_master.server.requests == []


async def test_a_certificate_may_stand_for_a_token(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_TLS_CERT", "worker.pem")
    assert await token_name(fake_master) == "", "it is not shown over plain HTTP"
    monkeypatch.setattr(naming, "MasterClient", lambda url: MasterClient(fake_master.url))
    knows(fake_master)
    assert await await_token_name("https://master", asyncio.Event()) == "fleet"


async def test_the_master_says_for_which_names_a_token_is(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_TOKEN", "dte_w_secret")
    knows(fake_master)
    assert await token_name(fake_master) == "fleet"
    (asked,) = fake_master.server.requests
    assert (asked.method, asked.path) == ("GET", "/session")
    assert asked.headers["authorization"] == "Bearer dte_w_secret"


@pytest.mark.parametrize(
    ("status", "said"), [(200, {"role": "admin"}), (404, {}), (200, {"name": None})]
)
async def test_any_other_token_says_nothing_of_names(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch, status: int, said: dict[str, Any]
) -> None:
    monkeypatch.setenv("DTE_TOKEN", "dte_a_secret")
    knows(fake_master, status, **said)
    assert await token_name(fake_master) == ""


async def test_a_worker_waits_for_its_master_and_its_token(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DTE_TOKEN", "dte_w_secret")
    for status in (503, 401):
        caplog.clear()
        knows(fake_master, status)
        found = asyncio.create_task(token_name(fake_master))
        asked = len(fake_master.server.requests)
        await until(
            lambda asked=asked: len(fake_master.server.requests) > asked + 1, "it asks again"
        )
        knows(fake_master)
        assert await found == "fleet"
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "dte_w_secret" not in caplog.text


async def test_a_worker_that_waits_for_its_name_can_be_stopped(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_TOKEN", "dte_w_secret")
    knows(fake_master, 503)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(WorkerSettings(fake_master.url, pull=True), stop))
    await until(lambda: fake_master.server.requests, "it asks")
    stop.set()
    await serving
    assert {each.path for each in fake_master.server.requests} == {"/session"}


async def test_a_worker_has_the_name_of_its_token_unless_it_is_given_one(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_TOKEN", "dte_w_secret")
    monkeypatch.setattr(server, "DRAIN_S", 0.0)
    knows(fake_master)
    for given, name in (("", f"fleet-{OWN}"), ("fleet-1", "fleet-1")):
        stop = asyncio.Event()
        settings = WorkerSettings(fake_master.url, name=given, host="127.0.0.1", port=0)
        serving = asyncio.create_task(serve(settings, stop))
        await until(
            lambda name=name: any(
                each["worker_name"] == name for each in fake_master.said("/worker")
            ),
            "it is announced",
        )
        stop.set()
        await serving
