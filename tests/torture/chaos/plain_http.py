"""HTTP by hand, so that what is counted does not rely on any client's code."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from harness.machine import HOST


class NoReply(Exception):
    """No whole reply came: refused, reset, closed or silent. Whether it arrived is not known."""


class Garbled(Exception):
    """A whole reply came, and it is not HTTP with JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    status: int
    value: Any


async def request(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    timeout_s: float = 5.0,
) -> Reply:
    """Ask a server of this machine, on a connection of its own.

    Args:
        body: what to send as JSON; None for nothing.
        key: the request's `Idempotency-Key`.
        timeout_s: how long to wait for the whole reply.

    Raises:
        NoReply: it did not come.
        Garbled: it makes no sense.
    """
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
    head.append(f"Content-Length: {len(content)}")
    if key is not None:
        head.append(f"Idempotency-Key: {key}")
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _exchange(port, "\r\n".join([*head, "", ""]).encode() + content)
    except (OSError, TimeoutError) as error:
        raise NoReply(repr(error)) from None
    return _parsed(raw)


async def _exchange(port: int, sent: bytes) -> bytes:
    """Everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 24)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.transport.abort()


def _parsed(raw: bytes) -> Reply:
    head, separator, content = raw.partition(b"\r\n\r\n")
    if not separator:
        raise NoReply("it ends within its head")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    try:
        missing = int(fields["content-length"]) - len(content)
        if missing > 0:
            raise NoReply(f"{missing} bytes are missing")
        if missing < 0:
            raise Garbled(f"{-missing} bytes too many: {raw[:500]!r}")
        return Reply(int(first.split()[1]), json.loads(content))
    except (ValueError, LookupError) as error:
        raise Garbled(f"{error!r}: {raw[:500]!r}") from None
