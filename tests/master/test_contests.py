"""The port of a machine is one worker's, however a worker there is called."""

from __future__ import annotations

import pytest
from harness.http import ServePlainly

from dte.core.errors import Conflict
from dte.core.workers.worker import Announcement
from dte.master.contests import place_of
from master import fakes
from master.rig import Rig

TOKEN, OTHER = "token:t", "token:u"


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("10.0.0.1:6000", "https://10.0.0.1:6000", True),
        ("127.0.0.1:6000", "::1:6000", True),
        ("127.0.0.1:6000", "https://::1:6000", True),
        ("127.0.0.1:6000", "127.0.0.2:6000", True),
        ("127.0.0.1:6000", "::ffff:127.0.0.1:6000", True),
        ("10.0.0.1:6000", "::ffff:10.0.0.1:6000", True),
        ("fd00::1:6000", "fd00:0:0::1:6000", True),
        ("fe80::1%eth0:6000", "fe80::1:6000", True),
        ("worker:6000", "https://worker:6000", True),
        ("10.0.0.1:6000", "10.0.0.1:6001", False),
        ("10.0.0.1:6000", "10.0.0.2:6000", False),
        ("10.0.0.1:6000", "127.0.0.1:6000", False),
        ("fd00::1:6000", "fd00::2:6000", False),
        ("worker:6000", "another:6000", False),
    ],
)
def test_addresses_of_one_place(address: str, other: str, is_same: bool) -> None:
    assert (place_of(address) == place_of(other)) is is_same


def said(address: str, **more: str) -> Announcement:
    fields = {"owner": TOKEN, "session": "a", "incarnation": "a"} | more
    return Announcement(name="w", address=address, **fields)  # type: ignore[arg-type]


def addresses(rig: Rig) -> list[str]:
    return [worker.announcement.address for worker in rig.master.core.workers()]


@pytest.mark.parametrize("owner", [OTHER, "", "seed:"])
@pytest.mark.parametrize("address", ["https://127.0.0.1", "::1", "https://::1", "127.0.0.2"])
async def test_nobody_else_gets_the_port_of_a_worker_by_another_address(
    rig: Rig, serve_plainly: ServePlainly, owner: str, address: str
) -> None:
    port = (await serve_plainly(fakes.good)).port
    own = said(f"127.0.0.1:{port}")
    await rig.master.workers.announce(own)
    other = {"owner": owner, "session": "b", "incarnation": "b"}
    for more in ({}, {"session": ""}, {"session": "", "incarnation": ""}):
        with pytest.raises(Conflict):
            await rig.master.workers.announce(said(f"{address}:{port}", **other | more))
    assert addresses(rig) == [own.address]
    await rig.master.workers.announce(own)


async def test_a_restart_with_tls_replaces_the_worker_at_once(rig: Rig) -> None:
    await rig.master.workers.announce(said("127.0.0.1:1"))
    await rig.master.workers.announce(said("https://127.0.0.1:1", session="b", incarnation="b"))
    assert addresses(rig) == ["https://127.0.0.1:1"]


async def test_a_worker_without_a_session_is_no_bar_to_another_at_its_port(rig: Rig) -> None:
    for address in ("127.0.0.1:1", "https://127.0.0.1:1"):
        await rig.master.workers.announce(said(address, session="", owner=""))
    assert len(addresses(rig)) == 2


async def test_workers_at_other_ports_are_no_bar(rig: Rig) -> None:
    await rig.master.workers.announce(said("127.0.0.1:1"))
    await rig.master.workers.announce(said("https://127.0.0.1:2", owner=OTHER, session="b"))
    assert len(addresses(rig)) == 2
