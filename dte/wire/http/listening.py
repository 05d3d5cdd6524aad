"""Opens the sockets that a server listens on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

Address = tuple[int, Any]
"""The family of an address, and what a socket of it binds to."""
EVERY_ADDRESS = "*"
"""The host that stands for every address of this machine, of IPv4 and IPv6."""
LOOPBACK = "localhost"
"""The host that stands for the addresses at which only this machine reaches itself."""
BACKLOG = 128
TRIES_MAX = 20
"""Ports that are tried until one is free for both families."""


class CannotListen(OSError):
    """A server cannot listen on its address. The text gives the address and the reason.

    Attributes:
        port_is_wrong: another port would help; otherwise another host would.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or error
        super().__init__(f"cannot listen on {place}: {reason}")
        self.port_is_wrong = error.errno in (errno.EADDRINUSE, errno.EACCES)


def listen(host: str | Sequence[str], port: int) -> tuple[list[socket.socket], int]:
    """Open listening sockets for an address, and return them with their port.

    Args:
        host: an address or a name, or several; `EVERY_ADDRESS` or "" for every address, `LOOPBACK`
            for 127.0.0.1 and ::1.
        port: 0 selects a free port.

    Raises:
        CannotListen: the address or the port is not available.
    """
    hosts = [host] if isinstance(host, str) else host
    try:
        addresses = {address: None for each in hosts for address in _addresses(each, port)}
        sockets = _listen_on_all(list(addresses), port)
    except OSError as error:
        raise CannotListen(",".join(hosts), port, error) from None
    except UnicodeError:
        no_name = OSError(socket.EAI_NONAME, "that is not the name of a host")
        raise CannotListen(",".join(hosts), port, no_name) from None
    return sockets, sockets[0].getsockname()[1]


def is_local(host: str) -> bool:
    """True if only this machine reaches a server that listens on a host.

    It is also True for a host that has no address, on which no server can listen.
    """
    try:
        found = [address[0] for _, address in _addresses(host, 0)]
    except (OSError, UnicodeError):
        return True
    return all(ip_address(each.partition("%")[0]).is_loopback for each in found)


def _addresses(host: str, port: int) -> list[Address]:
    """The addresses of a host, those of IPv4 first."""
    if host in ("", EVERY_ADDRESS):
        return [(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port))]
    if host == LOOPBACK:
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return sorted({(family, address) for family, _, _, _, address in found})


def _listen_on_all(addresses: list[Address], port: int) -> list[socket.socket]:
    """Listen on one port of all addresses; those of IPv6 are left out if it is switched off."""
    for _ in range(TRIES_MAX):
        sockets: list[socket.socket] = []
        try:
            for family, (host, _, *rest) in addresses:
                one_port = sockets[0].getsockname()[1] if sockets else port
                try:
                    sockets.append(_listening(family, (host, one_port, *rest)))
                except OSError as error:
                    may_be_off = sockets and family == socket.AF_INET6
                    if not may_be_off or error.errno == errno.EADDRINUSE:
                        raise
        except OSError as error:
            for each in sockets:
                each.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
            taken = error  # The free port of one family was taken in the other.
        else:
            return sockets
    raise taken


def _listening(family: int, address: Any) -> socket.socket:
    made = socket.create_server(address, family=family, backlog=BACKLOG)
    made.setblocking(False)
    return made
