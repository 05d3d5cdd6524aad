"""Opens the sockets that a server listens on."""

from __future__ import annotations

import errno
import os
import socket

from tornado.netutil import bind_sockets

EVERY_ADDRESS = "*"
"""The host that stands for every address of this machine, of IPv4 and IPv6."""
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


def listen(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Open listening sockets for an address, and return them with their port.

    Args:
        host: an address or a name; `EVERY_ADDRESS` or "" for every address.
        port: 0 selects a free port.

    Raises:
        CannotListen: the address or the port is not available.
    """
    try:
        every = host in ("", EVERY_ADDRESS)
        sockets = _every_address(port) if every else bind_sockets(port, host)
    except OSError as error:
        raise CannotListen(host, port, error) from None
    return sockets, sockets[0].getsockname()[1]


def _every_address(port: int) -> list[socket.socket]:
    """Listen on one port of all addresses: of IPv4, and of IPv6 unless that is switched off."""
    for _ in range(TRIES_MAX):
        ipv4 = _listening(socket.AF_INET, "0.0.0.0", port)
        try:
            return [ipv4, _listening(socket.AF_INET6, "::", ipv4.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [ipv4]
            ipv4.close()
            taken = error
        if port:
            break
    raise taken


def _listening(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    made.setblocking(False)
    return made
