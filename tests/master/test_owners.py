"""Owners: by address, and on the routes that use bounds that all share."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from harness.http import Dial, Line, Message, open_line
from harness.until import until

from dte.core.shares import OWN_USER
from dte.master.owners import owner_of
from master.rig import Rig, StartMaster, check_bound


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("127.0.0.1", OWN_USER),
        ("127.9.9.9", OWN_USER),
        ("::1", OWN_USER),
        ("::ffff:127.0.0.1", OWN_USER),
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nowhere", "nowhere"),
        ("", ""),
    ],
)
def test_an_owner_is_an_address_and_the_machine_itself_is_its_own_user(
    address: str, owner: str
) -> None:
    assert owner_of(address) == owner


# From another address of this machine: no packet leaves it


def other_address() -> str | None:
    """An address of this machine besides those of its loopback; None if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # It only chooses the address to send from.
        address = str(probe.getsockname()[0])
        return address if owner_of(address) else None
    return None


ADDRESS = other_address()
needs_address = pytest.mark.skipif(ADDRESS is None, reason="this machine has only its loopback")


class Stranger:
    """A client at another address."""

    def __init__(self, port: int, cleanup: AsyncExitStack) -> None:
        self._port = port
        self._cleanup = cleanup

    async def dial(self) -> Line:
        assert ADDRESS is not None
        line = await open_line(self._port, ADDRESS, ADDRESS)
        self._cleanup.callback(line.close)
        return line

    async def ask(self, method: str, path: str, body: Any = None, **headers: Any) -> Message:
        return await (await self.dial()).ask(method, path, body, **headers)

    async def post(self, path: str, body: Any = None, **headers: Any) -> Message:
        return await self.ask("POST", path, body, **headers)


async def open_to_all(
    start_master: StartMaster, cleanup: AsyncExitStack, **bounds: Any
) -> tuple[Rig, Stranger]:
    rig = await start_master(host="0.0.0.0", no_auth=True, **bounds)
    return rig, Stranger(rig.port, cleanup)


TASK = {"name": "n", "handler": "h"}
SUBMITS = {
    "formula": ("/submit", {"task": "1+2"}),
    "formulas": ("/submit", {"tasks": ["1+2"]}),
    "formula with a priority": ("/submit", {"task": "1+2", "priority": 5}),
    "call": ("/jobs", {"handler": "f"}),
    "jobs": ("/jobs", {"jobs": [{"handler": "f"}, {"formula": "f(1)"}]}),
    "rest": ("/tasks", TASK),
    "queue": ("/submit-task", {"task_type": "f"}),
    "scheduler": ("/add_task", {"func_name": "process_data", "args": [1, 2]}),
}


@needs_address
@pytest.mark.parametrize("kind", SUBMITS)
async def test_each_way_to_submit_uses_the_share_of_the_address(
    kind: str, start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    rig, stranger = await open_to_all(start_master, cleanup, jobs_waiting_max=4)
    path, body = SUBMITS[kind]
    for _ in range(2 if kind != "jobs" else 1):
        assert (await stranger.post(path, body)).status in (200, 201)
    reply = await stranger.post(path, body)
    assert reply.status == 429, reply.body
    assert b"half of 4 (jobs_waiting_max)" in reply.body
    assert ADDRESS is not None
    assert ADDRESS.encode() in reply.body
    for _ in range(2 if kind != "jobs" else 1):
        assert (await rig.post(path, body)).status in (200, 201), "others have room"
    assert {job.owner for job in rig.master.core.jobs.newest(9)} == {ADDRESS, OWN_USER}


@needs_address
async def test_a_retried_job_is_whose_who_retries_it(
    start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    rig, stranger = await open_to_all(start_master, cleanup, jobs_waiting_max=2)
    number = await rig.accept(handler="f")
    await rig.cancel(number)
    assert (await stranger.post(f"/job/{number}/retry")).status == 201
    check_bound(await stranger.post(f"/job/{number}/retry"), 429, "half of 2")


WORKERS = {
    "pushed": lambda n: ("POST", "/worker", {"worker_name": "w", "port": n, "incarnation": "a"}),
    "pulling": lambda n: ("POST", "/claim", {"worker": f"w{n}", "handlers": ["f"], "wait": 0}),
    "rest": lambda n: ("POST", "/workers", {"id": f"w{n}"}),
    "queue": lambda n: ("POST", "/heartbeat", {"worker_id": f"w{n}"}),
    "queue that polls": lambda n: ("POST", "/get-task", {"worker_id": f"w{n}"}),
    "scheduler": lambda n: ("POST", f"/register_worker/w{n}", None),
    "scheduler that polls": lambda n: ("GET", f"/get_task/w{n}", None),
}


@needs_address
@pytest.mark.parametrize("kind", WORKERS)
async def test_each_way_to_register_a_worker_uses_the_share_of_the_address(
    kind: str, start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    rig, stranger = await open_to_all(start_master, cleanup, workers_max=4)
    for number in range(1, 3):
        assert (await stranger.ask(*WORKERS[kind](number))).status < 300
    reply = await stranger.ask(*WORKERS[kind](3))
    assert reply.status == 429, reply.body
    assert b"half of 4 (workers_max)" in reply.body
    assert (await stranger.ask(*WORKERS[kind](2))).status < 300, "it is known already"
    assert (await rig.ask(*WORKERS[kind](4))).status < 300, "others have room"


@needs_address
async def test_streams_and_webhooks_have_shares(
    start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    bounds = {"streams_max": 2, "webhooks_max": 4, "webhook_to": "127.0.0.1:9"}
    rig, stranger = await open_to_all(start_master, cleanup, **bounds)
    line = await stranger.dial()
    await line.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: len(rig.master.events) == 1, "it listens")
    check_bound(await stranger.ask("GET", "/events"), 429, "half of 2 (streams_max)")
    rig.master.webhooks._shares.add(str(ADDRESS), 2)
    told = {"handler": "f", "notify": "http://127.0.0.1:9/"}
    check_bound(await stranger.post("/jobs", told), 429, "half of 4 (webhooks_max)")
    assert (await rig.post("/jobs", told)).status == 201


@needs_address
async def test_half_of_the_connections_are_there_for_others(
    start_master: StartMaster, cleanup: AsyncExitStack, dial: Dial
) -> None:
    rig, stranger = await open_to_all(start_master, cleanup, connections_max=4)
    lines = [await stranger.dial() for _ in range(2)]
    await until(lambda: len(rig.server._http._open) == 2, "they are accepted")
    refused = await stranger.dial()
    reply = await asyncio.wait_for(refused.read("GET"), 20)
    assert reply is not None
    check_bound(reply, 429, "half of 4 (connections_max)")
    others = [await dial(rig.port) for _ in range(2)]
    for line in (*lines, *others):
        assert (await line.ask("GET", "/jobs")).status == 200
    lines[0].close()
    await until(lambda: len(rig.server._http._open) == 3, "it is closed")
    assert (await stranger.ask("GET", "/jobs")).status == 200


@needs_address
async def test_bodies_and_replies_are_counted_for_their_owner(
    start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    rig, stranger = await open_to_all(start_master, cleanup, bodies_bytes_max=200_000)
    task = {"task": "1" * 120_000}
    check_bound(await stranger.post("/submit", task), 429, "half of 200000")
    assert (await rig.post("/submit", task)).status == 400, "it is read"
    assert rig.server._http._replies._shares.used(str(ADDRESS)) == 0


@needs_address
async def test_after_a_restart_an_owner_s_jobs_are_still_its_own(
    start_master: StartMaster, cleanup: AsyncExitStack, tmp_path: Path
) -> None:
    options = {"jobs_waiting_max": 4, "journal": str(tmp_path / "dte.db")}
    rig, stranger = await open_to_all(start_master, cleanup, **options)
    for _ in range(2):
        assert (await stranger.post("/jobs", {"handler": "f"})).status == 201
    await rig.stop()
    rig, stranger = await open_to_all(start_master, cleanup, **options)
    check_bound(await stranger.post("/jobs", {"handler": "f"}), 429, "half of 4")
    assert (await rig.post("/jobs", {"handler": "f"})).status == 201
