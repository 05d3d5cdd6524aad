"""The names of workers that are given none.

A worker's token is for workers whose names begin with its own, which the worker asks the master.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

import msgspec

from dte.core.errors import Unauthorized
from dte.wire.access import TLS_CERT, Access
from dte.wire.codec import Decoder, Malformed
from dte.worker.master_client import PAUSE_FIRST_S, MasterAway, MasterClient, Refused

log = logging.getLogger("dte.worker")

PAUSE_MAX_S = 5.0
WORKER = "worker"


class _Known(msgspec.Struct):
    """The reply to ``GET /session``: the name of a token, and its role."""

    name: str
    role: str


_known: Decoder[_Known] = Decoder(_Known)


def name_after(token: str) -> str:
    """The name of this process as a worker, after its token's; "" for no token."""
    own = f"{os.uname().nodename}-{os.getpid()}"
    return f"{token}-{own}" if token else own


async def await_token_name(master_url: str, stop: asyncio.Event) -> str:
    """Wait for the name of the worker's token that this process sends.

    Returns:
        "" if it sends none, or that of an admin, or if `stop` is set before the name is known.
    """
    if not has_token(master_url):
        return ""
    master, pause_s, said = MasterClient(master_url), PAUSE_FIRST_S, ""
    try:
        while not stop.is_set():
            try:
                return await _token_name(master)
            except MasterAway as error:
                reason = str(error)
            if reason != said:
                text = "cannot learn from %s for which names the token is: %s; trying again"
                log.warning(text, master_url, reason)
                said = reason
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
    finally:
        master.close()
    return ""


def has_token(master_url: str) -> bool:
    """True if this process sends a token, or will once its file can be read.

    A certificate that it shows may stand for a token, too.
    """
    try:
        access = Access(master_url)
        shows_certificate = access.address.is_secure and bool(os.environ.get(TLS_CERT))
        return bool(access.headers()) or shows_certificate
    except Unauthorized:
        return True


async def _token_name(master: MasterClient) -> str:
    try:
        known = _known.decode(await master.get("/session"))
    except (Malformed, Refused):
        return ""  # A master of an earlier release knows no tokens.
    return known.name if known.role == WORKER else ""
