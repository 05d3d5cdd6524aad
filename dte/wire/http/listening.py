"""Opens the sockets that a server listens on."""

from __future__ import annotations

import errno
import socket

from tornado.netutil import bind_sockets


class CannotListen(OSError):
    """A server cannot listen on its address. The text gives the address and the reason.

    Attributes:
        port_is_wrong: another port would help; otherwise another host would.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {error.strerror or error}")
        self.port_is_wrong = error.errno in (errno.EADDRINUSE, errno.EACCES)


def listen(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Open listening sockets for an address, and return them with their port.

    Args:
        port: 0 selects a free port.

    Raises:
        CannotListen: the address or the port is not available.
    """
    try:
        sockets = bind_sockets(port, host)
    except OSError as error:
        raise CannotListen(host, port, error) from None
    return sockets, sockets[0].getsockname()[1]
