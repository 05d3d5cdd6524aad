"""Once tokens are in use, a worker whose token is valid no longer, or that has none, gets nothing.

What it had goes to others, and a restart does not bring it back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from harness.http import Line, Message, PlainServer, ServePlainly
from harness.until import until

from dte.core.errors import Forbidden
from dte.core.workers.worker import Announcement
from dte.master.access.tokens import Role, TokenFile
from master import fakes
from master.rig import Rig, StartMaster

SEED = "127.0.0.0/8"
LEFT: dict[str, tuple[str, Any]] = {
    "announces itself once": ("/worker", {"worker_name": "w", "port": 1}),
    "announces itself again": ("/worker", {"worker_name": "w", "port": 1, "incarnation": "a"}),
    "claims": ("/claim", {"worker": "w", "handlers": ["echo"], "wait": 0}),
    "has a mailbox": ("/workers", {"id": "w", "capabilities": ["echo"]}),
    "polls": ("/get-task", {"worker_id": "w"}),
    "registers and polls": ("/register_worker/w", None),
}
"""Requests that make a worker known."""


class Office:
    """A master whose tokens a test may change."""

    def __init__(self, start: StartMaster, folder: Path) -> None:
        self._start = start
        self.file = TokenFile(str(folder / "dte.tokens"))
        self._bounds = {"tokens": self.file.path, "journal": str(folder / "dte.db")}
        self.rig: Rig

    async def open(self, **bounds: Any) -> None:
        self.rig = await self._start(**self._bounds | bounds)

    async def reopen(self, **bounds: Any) -> None:
        await self.rig.stop()
        await self.open(**bounds)

    async def ask(self, path: str, body: Any, token: str = "", session: str = "") -> Message:
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        if session:
            shown["X-Dte-Session"] = session
        return await self.rig.ask("POST", path, body, **shown)

    @property
    def names(self) -> list[str]:
        return [worker.announcement.name for worker in self.rig.master.core.workers()]

    async def until_dropped(self) -> None:
        await until(lambda: not self.names, "the worker is dropped")


@pytest.fixture
def office(start_master: StartMaster, tmp_path: Path) -> Office:
    return Office(start_master, tmp_path)


def removed(office: Office) -> None:
    office.file.remove("w")


def replaced(office: Office) -> None:
    office.file.remove("w")
    office.file.new(Role.WORKER, "w")


def restricted(office: Office) -> None:
    """The same secret has other rights."""
    path = Path(office.file.path)
    text = path.read_text().replace('"role": "worker",', '"role": "worker", "handlers": ["b"],')
    assert "handlers" in text
    path.write_text(text)


@pytest.mark.parametrize("known", LEFT)
async def test_a_worker_from_before_the_tokens_is_dropped(office: Office, known: str) -> None:
    await office.open()
    assert (await office.ask(*LEFT[known])).status < 300
    assert office.names == ["w"]
    office.file.new(Role.CLIENT, "shop")
    await office.until_dropped()


@pytest.mark.parametrize("known", LEFT)
async def test_no_restart_with_tokens_brings_back_a_worker_from_before(
    office: Office, known: str
) -> None:
    await office.open()
    await office.ask(*LEFT[known])
    await office.rig.stop()
    office.file.new(Role.CLIENT, "shop")
    await office.open()
    await office.until_dropped()
    await office.rig.stop()
    Path(office.file.path).unlink()
    await office.open()
    assert not office.names, "nor has the journal it any more"


async def test_a_worker_from_before_the_tokens_gets_nothing_of_the_first_job_after_a_restart(
    office: Office, serve_plainly: ServePlainly
) -> None:
    worker = await serve_plainly(fakes.good)
    await office.open()
    said = {"worker_name": "w", "port": worker.port, "handlers": ["transfer"]}
    await office.ask("/worker", said)
    await office.rig.stop()
    shop = office.file.new(Role.CLIENT, "shop")
    await office.open()
    for path, body in (("/jobs", {"handler": "transfer"}), ("/submit", {"task": "1+2"})):
        assert (await office.ask(path, body, shop)).status < 300
    await office.until_dropped()
    assert not worker.requests


@pytest.mark.parametrize("change", [removed, replaced, restricted])
@pytest.mark.parametrize("known", LEFT)
async def test_a_worker_ends_with_its_token(
    office: Office, known: str, change: Callable[[Office], None]
) -> None:
    secret = office.file.new(Role.WORKER, "w")
    await office.open()
    assert (await office.ask(*LEFT[known], secret)).status < 300
    change(office)
    await office.until_dropped()


@pytest.mark.parametrize("known", LEFT)
@pytest.mark.parametrize("change", [removed, replaced])
async def test_no_restart_brings_back_a_worker_whose_token_is_gone(
    office: Office, known: str, change: Callable[[Office], None]
) -> None:
    secret = office.file.new(Role.WORKER, "w")
    office.file.new(Role.CLIENT, "shop")
    await office.open()
    await office.ask(*LEFT[known], secret)
    await office.rig.stop()
    change(office)
    await office.open()
    await office.until_dropped()


async def test_a_worker_ends_when_its_token_expires(office: Office) -> None:
    secret = office.file.new(Role.WORKER, "w", expires_at=time.time() + 3600)
    await office.open()
    await office.ask(*LEFT["announces itself once"], secret)
    master = office.rig.master
    now_s = master.admission._wall_s
    master.admission._wall_s = lambda: now_s() + 3600
    await office.until_dropped()


@pytest.mark.parametrize("known", LEFT)
async def test_workers_of_valid_tokens_stay_whatever_happens_to_others(
    office: Office, known: str
) -> None:
    secret = office.file.new(Role.WORKER, "w")
    other = office.file.new(Role.WORKER, "other")
    await office.open()
    await office.ask(*LEFT[known], secret)
    await office.ask("/claim", {"worker": "other", "wait": 0}, other)
    office.file.remove("other")
    await until(lambda: "other" not in office.names, "the other is dropped")
    assert office.names == ["w"]


@pytest.mark.parametrize("known", ["announces itself once", "has a mailbox"])
async def test_a_restart_keeps_the_workers_of_valid_tokens(office: Office, known: str) -> None:
    secret = office.file.new(Role.WORKER, "w")
    other = office.file.new(Role.WORKER, "other")
    await office.open()
    await office.ask(*LEFT[known], secret)
    await office.reopen()
    await office.ask("/claim", {"worker": "other", "wait": 0}, other)
    office.file.remove("other")
    await until(lambda: "other" not in office.names, "the other is dropped")
    assert office.names == ["w"]


async def test_seeds_stay_as_long_as_they_may_come(office: Office) -> None:
    office.file.new(Role.CLIENT, "shop")
    other = office.file.new(Role.WORKER, "other")
    await office.open(seeds=(ip_network(SEED),))
    await office.ask("/worker", {"worker_name": "seed", "port": 6000})
    await office.ask("/get-task", {"worker_id": "poller"})
    await office.ask("/claim", {"worker": "other", "wait": 0}, other)
    office.file.remove("other")
    await until(lambda: "other" not in office.names, "the other is dropped")
    assert sorted(office.names) == ["poller", "seed"]
    await office.reopen(seeds=(ip_network("10.0.0.0/8"),))
    await office.until_dropped()


async def test_a_master_that_needs_no_token_keeps_all_workers(office: Office) -> None:
    await office.open(no_auth=True)
    await office.ask(*LEFT["announces itself once"])
    office.file.new(Role.CLIENT, "shop")
    admission = office.rig.master.admission
    for _ in range(2):
        admission._look_at = float("-inf")
        assert not admission.lapsed(office.rig.master.clock.now())
    assert office.names == ["w"]


async def test_a_call_of_a_worker_without_its_token_goes_to_another(
    office: Office, serve_plainly: ServePlainly
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: Message, line: Line) -> None:
        asked.set()
        await ended.wait()
        await line.reply(*fakes.answer(request))

    worker: PlainServer = await serve_plainly(slow)
    secret = office.file.new(Role.WORKER, "w")
    other = office.file.new(Role.WORKER, "other")
    shop = office.file.new(Role.CLIENT, "shop")
    await office.open()
    said = {"worker_name": "w", "port": worker.port, "handlers": ["transfer"]}
    await office.ask("/worker", said, secret)
    await office.ask("/submit", {"task": "1+2"}, shop)
    await asked.wait()
    await office.ask("/claim", {"worker": "w-2", "handlers": ["echo"], "wait": 0}, secret)
    office.file.remove("w")
    await office.until_dropped()
    body = {"worker": "other", "batch_max": 1, "slots": 0, "wait": 20}
    (batch,) = (await office.ask("/claim", body, other)).json["batches"]
    ended.set()
    assert batch["op1"] == [1]
    refused = await office.ask("/result", {"worker": "w-2", "results": []}, secret)
    assert refused.status == 401


async def test_a_call_of_a_worker_that_claims_goes_to_another_with_its_token(
    office: Office,
) -> None:
    secret = office.file.new(Role.WORKER, "w")
    other = office.file.new(Role.WORKER, "other")
    shop = office.file.new(Role.CLIENT, "shop")
    await office.open()
    await office.ask("/jobs", {"handler": "transfer", "args": [7]}, shop)
    body = {"worker": "w", "handlers": ["transfer"], "slots": 1, "wait": 20}
    first = (await office.ask("/claim", body, secret)).json
    (call,) = first["calls"]
    waiting = asyncio.ensure_future(office.ask("/claim", body, secret, first["session"]))
    await until(
        lambda: office.rig.master.core.workers()[0].claim is not None, "its next claim waits"
    )
    office.file.remove("w")
    await office.until_dropped()
    assert (await waiting).json["calls"] == [], "a claim that waits is answered"
    (again,) = (await office.ask("/claim", body | {"worker": "other"}, other)).json["calls"]
    assert again["args"] == [7]
    report = {"worker": "w", "results": [{"lease": call["lease"], "result": 1}]}
    assert (await office.ask("/result", report, secret, first["session"])).status == 401


async def test_a_new_token_gets_its_names_from_workers_of_another(office: Office) -> None:
    secret = office.file.new(Role.WORKER, "w")
    await office.open()
    for name in ("w", "w-1", "w-1-host", "w-10"):
        await office.ask("/claim", {"worker": name, "wait": 0}, secret)
    office.file.new(Role.WORKER, "w-1")
    office.file.new(Role.CLIENT, "w-10")
    await until(lambda: len(office.names) == 2, "two are dropped")
    assert office.names == ["w", "w-10"]


async def test_a_token_that_ends_while_its_request_is_read_admits_no_worker(
    office: Office,
) -> None:
    office.file.new(Role.WORKER, "w")
    await office.open()
    admission = office.rig.master.admission
    before = admission._tokens.named("w", 0.0)
    replaced(office)
    await until(lambda: admission._tokens.named("w", 0.0) != before, "the token is another")
    said = Announcement("w", "127.0.0.1:1", owner="token:w")
    with pytest.raises(Forbidden, match="replaced"):
        admission.admit(said, before)
