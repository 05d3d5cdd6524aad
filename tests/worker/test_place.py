from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dte.wire.http.listening import LOOPBACK
from dte.worker import place
from dte.worker.place import await_hosts, hosts_towards

ELSEWHERE = "192.0.2.1"
"""Nobody has this address: it is for documents."""


def own_address() -> str:
    """The address of this machine on the way elsewhere; the test is skipped if there is no way."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "[::1]"])
async def test_a_worker_listens_to_this_machine_alone_if_its_master_is_there(host: str) -> None:
    assert await hosts_towards(f"http://{host}:5000") == (LOOPBACK,)


@pytest.mark.parametrize("url", [f"http://{ELSEWHERE}:5000", f"https://{ELSEWHERE}/dte"])
async def test_a_worker_listens_on_the_address_that_leads_to_its_master(url: str) -> None:
    assert await hosts_towards(url) == (own_address(),)


async def test_a_worker_listens_on_each_way_to_its_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows on which of them it will reach the master."""
    loop = asyncio.get_running_loop()

    async def found(*asked: Any, **more: Any) -> list[tuple[Any, ...]]:
        places = ["127.0.0.1", ELSEWHERE, ELSEWHERE]
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (each, 5000)) for each in places]

    monkeypatch.setattr(loop, "getaddrinfo", found)
    assert await hosts_towards("http://master:5000") == (LOOPBACK, own_address())


async def test_a_worker_waits_for_the_name_of_its_master(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place, "RETRY_FIRST_S", 0.001)
    loop, asked = asyncio.get_running_loop(), []
    find = loop.getaddrinfo

    async def late(host: str, *more: Any, **options: Any) -> Any:
        asked.append(host)
        if len(asked) < 4:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return await find("127.0.0.1", *more, **options)

    monkeypatch.setattr(loop, "getaddrinfo", late)
    assert await await_hosts("http://master:5000", asyncio.Event()) == (LOOPBACK,)
    assert asked == ["master"] * 4
    (said,) = caplog.messages
    assert "http://master:5000" in said
    assert "--host" in said


async def test_a_worker_that_is_ended_waits_no_longer() -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(await_hosts("http://nobody.invalid", stop))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(20):
        assert await waiting == ()
