"""Clients that submit a formula and wait for its answer, again and again, each on its connection.

A program of its own, so that it shares no interpreter with what it measures, and written on
sockets, as a client library takes longer than the server. Each submission has a key, as those of
`dte.Client` have. Run as: load.py PORT CLIENTS REQUESTS; prints the seconds that it took, and
those of each request, as JSON. BENCH_TOKEN is a token to be sent, BENCH_CA the file of an authority
for TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time

from harness.http import body_of

ANSWER_OFFSET = -3.5
REQUEST = (
    "POST /submit?wait=20 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Idempotency-Key: {key}\r\n{token}Content-Length: {length}\r\n\r\n{body}"
)
TOKEN, CA = os.environ.get("BENCH_TOKEN", ""), os.environ.get("BENCH_CA", "")
SHOWN = f"Authorization: Bearer {TOKEN}\r\n" if TOKEN else ""


class Submitter(asyncio.Protocol):
    """One client.

    Args:
        numbers: what its formulas begin with.
        latencies_s: where it puts how long each took.
    """

    def __init__(self, numbers: range, latencies_s: list[float]) -> None:
        self._numbers = iter(numbers)
        self._latencies_s = latencies_s
        self._number = 0
        self._began = 0.0
        self._received = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int) -> None:
        """Connect to a server of this machine."""
        context = ssl.create_default_context(cafile=CA) if CA else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port, ssl=context)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def submit(self) -> None:
        """Send the next formula, or leave after the last."""
        number = next(self._numbers, None)
        if number is None:
            self._transport.close()
            self.over.set_result(None)
            return
        body = f'{{"task": "{number}+(2*3)/4-5"}}'
        key = f"{time.time_ns():x}-{number}"
        request = REQUEST.format(key=key, token=SHOWN, length=len(body), body=body).encode()
        self._number, self._began = number, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = body_of(self._received)
        if body is None:
            return
        self._latencies_s.append(time.perf_counter() - self._began)
        self._received = b""
        if json.loads(body).get("answer") != self._number + ANSWER_OFFSET:
            self.over.set_exception(ValueError(f"not the answer: {body[:200]!r}"))
        else:
            self.submit()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error or ConnectionError("the server closed the connection"))


async def load(port: int, clients: int, requests: int) -> tuple[float, list[float]]:
    """Submit a number of formulas, from some clients at a time."""
    latencies_s: list[float] = []
    submitters = [
        Submitter(range(client, requests, clients), latencies_s) for client in range(clients)
    ]
    for submitter in submitters:
        await submitter.connect(port)
    started = time.perf_counter()
    for submitter in submitters:
        submitter.submit()
    await asyncio.gather(*(submitter.over for submitter in submitters))
    return time.perf_counter() - started, latencies_s


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(*map(int, sys.argv[1:])))))
