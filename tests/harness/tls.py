"""Clients that speak TLS to a server of this machine, or are made to fail at it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from harness.certificates import Authority, Pair
from harness.http import HOST, Line, Message


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """The context of a client that trusts an authority, and shows a certificate if it has one."""
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


async def open_tls(port: int, context: ssl.SSLContext, **more: Any) -> Line:
    """A connection whose handshake is over."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, **more)
    return Line(reader, writer)


async def ask_tls(
    port: int, context: ssl.SSLContext, method: str, path: str, body: Any = None
) -> Message:
    """Ask once, on a connection of its own."""
    line = await open_tls(port, context)
    try:
        return await line.ask(method, path, body)
    finally:
        line.close()
