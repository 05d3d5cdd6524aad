"""Finds the addresses on which a worker listens that was given none.

The master calls a worker back at the address from which it announced itself. So the worker listens
on this machine's own addresses if its master is there, and otherwise on the one from which it
reaches its master, on no other network.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from dte.wire.http.listening import LOOPBACK

log = logging.getLogger("dte.worker")

RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0
NO_WAY = (
    "cannot find the address that leads to the master at %s: %s; trying again; to listen on "
    "another, give --host"
)


async def hosts_towards(master_url: str) -> tuple[str, ...]:
    """The hosts on which a worker of a master listens.

    Raises:
        OSError: the master's name has no address, or no route leads to it.
    """
    parts = urlsplit(master_url)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)
    except UnicodeError as error:
        raise OSError(str(error)) from None
    hosts: dict[str, None] = {}
    failure = OSError(f"{parts.hostname} has no address")
    for family, kind, protocol, _, address in found:
        try:
            host = _source(family, kind, protocol, address)
        except OSError as error:
            failure = error
        else:
            hosts[LOOPBACK if ip_address(host.partition("%")[0]).is_loopback else host] = None
    if not hosts:
        raise failure
    return tuple(hosts)


async def await_hosts(master_url: str, stop: asyncio.Event) -> tuple[str, ...]:
    """Wait for the hosts on which a worker listens; none if `stop` is set before they are known."""
    pause_s, said = RETRY_FIRST_S, ""
    while not stop.is_set():
        try:
            return await hosts_towards(master_url)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason != said:
            log.warning(NO_WAY, master_url, reason)
            said = reason
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()
        pause_s = min(2 * pause_s, RETRY_MAX_S)
    return ()


def _source(family: int, kind: int, protocol: int, address: object) -> str:
    """The address of this machine from which a datagram to another would be sent; sends none."""
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # type: ignore[arg-type]
        host, _, *scope = probe.getsockname()
    is_scoped = family == socket.AF_INET6 and scope[-1] and "%" not in host
    return f"{host}%{scope[-1]}" if is_scoped else str(host)
