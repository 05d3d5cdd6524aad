"""Connections to workers, kept for the next request."""

from __future__ import annotations

from dte.wire.connection import ConnectionFailed, KeptAliveConnection


class ConnectionPool:
    """Idle connections by address; each request has one of its own."""

    def __init__(self) -> None:
        self._idle: dict[str, list[KeptAliveConnection]] = {}

    async def post(self, address: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a request to a worker; the status and the body of its reply.

        Raises:
            ConnectionFailed: no whole reply came. Other idle connections to it are closed, as they
                were opened to the same process.
        """
        connection = self._take(address)
        try:
            status, _, reply = await connection.request("POST", path, body)
        except ConnectionFailed:
            self._close_idle(address)
            raise
        self._keep(address, connection)
        return status, reply

    def close(self) -> None:
        """Close what is idle."""
        for address in list(self._idle):
            self._close_idle(address)

    def _take(self, address: str) -> KeptAliveConnection:
        """An idle connection to a worker, or a new one."""
        idle = self._idle.get(address)
        if not idle:
            host, _, port = address.rpartition(":")
            return KeptAliveConnection(host, int(port))
        connection = idle.pop()
        if not idle:
            del self._idle[address]
        return connection

    def _keep(self, address: str, connection: KeptAliveConnection) -> None:
        if not connection.is_open:
            return  # The worker answers one request a connection.
        idle = self._idle.setdefault(address, [])
        idle.append(connection)
        connection.on_close = lambda: self._forget(address, connection)

    def _forget(self, address: str, connection: KeptAliveConnection) -> None:
        """The worker has closed an idle connection."""
        idle = self._idle.get(address, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(address, None)

    def _close_idle(self, address: str) -> None:
        for connection in self._idle.pop(address, []):
            connection.close()
