"""What proxies say of the requests that they pass on."""

from __future__ import annotations

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from harness.http import HOST, Dial, Line, Message

from dte.master.http.forwarded import Proxies
from dte.master.networks import Networks
from master.rig import Hire, Rig, StartMaster

PROXY = (ip_network("127.0.0.2"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def applied(peer: str, **headers: str) -> Any:
    context = SimpleNamespace(
        address=(peer, 1), remote_ip=peer, protocol="http", _orig_protocol="http"
    )
    named = {f"X-Forwarded-{name}": value for name, value in headers.items()}
    Proxies(Networks(PROXY)).apply(context, named)
    return context


@pytest.mark.parametrize(
    ("peer", "given", "client"),
    [
        ("127.0.0.2", "", "127.0.0.2"),
        ("127.0.0.2", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.2", "1.1.1.1, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.2", "1.1.1.1, 192.0.2.7, 10.1.2.3", "192.0.2.7"),
        ("127.0.0.2", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("127.0.0.2", "1.1.1.1, nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.2", "192.0.2.7:4711", "192.0.2.7"),
        ("127.0.0.2", "[2001:db8::1]:4711", "2001:db8::1"),
        ("127.0.0.2", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.2", "::ffff:192.0.2.7", "192.0.2.7"),
        ("127.0.0.2", "192.0.2.7,", "127.0.0.2"),
        ("::ffff:127.0.0.2", "192.0.2.7", "192.0.2.7"),
        ("fd00::1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.3", "192.0.2.7", "127.0.0.3"),
        ("192.0.2.1", "192.0.2.7", "192.0.2.1"),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_clients(
    peer: str, given: str, client: str
) -> None:
    assert applied(peer, For=given).remote_ip == client


def test_only_proxies_say_for_which_host_a_request_is() -> None:
    said = {"Host": "evil.example, dte.example", "Proto": "HTTPS"}
    context = applied("10.0.0.1", **said)
    assert (context.forwarded_host, context.protocol) == ("dte.example", "https")
    context = applied("192.0.2.1", **said)
    assert (context.forwarded_host, context.protocol) == (None, "http")
    context = applied("10.0.0.1", Proto="gopher")
    assert (context.forwarded_host, context.protocol) == (None, "http")


async def ask_as(line: Line, client: str, method: str, path: str, body: Any = None) -> Message:
    return await line.ask(method, path, body, X_Forwarded_For=client)


async def worker_addresses(rig: Rig) -> set[str]:
    return {worker["address"] for worker in (await rig.get("/worker")).json}


async def test_a_worker_behind_a_proxy_is_where_the_proxy_says(
    start_master: StartMaster, dial: Dial
) -> None:
    """Each request on a connection of a proxy may be another client's."""
    rig = await start_master(trust_proxy=PROXY, no_auth=True)
    line = await dial(rig.port, source="127.0.0.2")
    for number in (7, 8):
        body = {"worker_name": "w", "port": 6000}
        assert (await ask_as(line, f"192.0.2.{number}", "POST", "/worker", body)).status == 200
    assert await worker_addresses(rig) == {"192.0.2.7:6000", "192.0.2.8:6000"}


@pytest.mark.parametrize("trusted", [(), (ip_network("10.0.0.0/8"),)])
async def test_who_is_no_proxy_is_not_believed(
    start_master: StartMaster, dial: Dial, hire: Hire, trusted: Any
) -> None:
    rig = await start_master(trust_proxy=trusted, no_auth=True)
    line = await dial(rig.port)
    body = {"worker_name": "w", "port": 6000}
    assert (await ask_as(line, "192.0.2.7", "POST", "/worker", body)).status == 200
    assert await worker_addresses(rig) == {f"{HOST}:6000"}


async def test_a_proxys_connections_are_no_single_clients(
    start_master: StartMaster, dial: Dial
) -> None:
    proxy = (ip_network("127.0.0.2"),)
    rig = await start_master(trust_proxy=proxy, connections_max=4, no_auth=True)
    lines = [await dial(rig.port, source="127.0.0.2") for _ in range(4)]
    for line in lines:
        assert (await ask_as(line, "192.0.2.7", "GET", "/jobs")).status == 200


async def test_the_shares_of_clients_behind_a_proxy_are_their_own(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(
        trust_proxy=(ip_network("127.0.0.2"),), jobs_waiting_max=2, no_auth=True
    )
    line = await dial(rig.port, source="127.0.0.2")
    statuses = [
        (await ask_as(line, client, "POST", "/submit", {"task": "1+2"})).status
        for client in ("192.0.2.7", "192.0.2.7", "192.0.2.8")
    ]
    assert statuses == [200, 429, 200]


async def test_without_tokens_nobody_from_elsewhere_is_served(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(trust_proxy=PROXY)
    for client, path, status in (
        ("192.0.2.7", "/jobs", 401),
        ("192.0.2.7", "/live", 200),
        ("127.0.0.1", "/jobs", 200),
    ):
        line = await dial(rig.port, source="127.0.0.2")
        assert (await ask_as(line, client, "GET", path)).status == status
