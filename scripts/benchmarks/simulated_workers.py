"""Many workers in one process, for more workers than the machine has cores.

They announce themselves as real workers do, and do batches with their arithmetic, each at a port of
its own. As they share a core, they speak HTTP on sockets, which takes less time than a server does:
the master is what is measured. Run as: simulated_workers.py MASTER_URL COUNT
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time

from harness.http import body_of

from dte.wire.codec import Decoder, encode
from dte.wire.messages.batches import Announce, Batch, BatchResult
from dte.worker.announcer import Announcer
from dte.worker.arithmetic import compute_all
from dte.worker.server import BATCH_MAX, REQUESTS_MAX, WorkerSettings

STARTS_A_SECOND = 200

_batch: Decoder[Batch] = Decoder(Batch)


class SimulatedWorker(asyncio.Protocol):
    """A connection from the master, on which it posts batches."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):  # The master asks who is at this address.
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self._received += data
        body = body_of(self._received)
        if body is None:
            return
        self._received = b""
        started = time.monotonic()
        batch = _batch.decode(body)
        results, errors = compute_all(batch.operations, batch.op1, batch.op2)
        reply = encode(BatchResult(batch.lease, results, errors, time.monotonic() - started))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(reply), reply)
        )


async def serve(master_url: str, count: int) -> None:
    """Be a number of workers of a master, until SIGTERM."""
    loop = asyncio.get_running_loop()
    heartbeat_s = WorkerSettings().heartbeat_s
    announcers = []
    for number in range(count):
        server = await loop.create_server(SimulatedWorker, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        incarnation = secrets.token_hex(8)
        said = Announce(f"simulated-{number}", port, REQUESTS_MAX, BATCH_MAX, incarnation)
        announcers.append(Announcer(master_url, said, heartbeat_s))
        await asyncio.sleep(1 / STARTS_A_SECOND)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
