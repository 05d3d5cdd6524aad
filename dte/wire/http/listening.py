"""Opens the sockets that a server listens on."""

from __future__ import annotations

import errno
import socket

from tornado.netutil import bind_sockets


class CannotListen(OSError):
    """The address cannot be listened on; the text says which and why.

    Attributes:
        port_is_wrong: another port would do, not another host.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {error.strerror or error}")
        self.port_is_wrong = error.errno in (errno.EADDRINUSE, errno.EACCES)


def listen(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Sockets that listen on an address, and their port.

    Args:
        port: 0 for any free one.

    Raises:
        CannotListen: the address or the port cannot be had.
    """
    try:
        sockets = bind_sockets(port, host)
    except OSError as error:
        raise CannotListen(host, port, error) from None
    return sockets, sockets[0].getsockname()[1]
