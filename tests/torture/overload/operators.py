"""An operator's requests beside those of clients."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import cycle

from harness.http import HOST, request_bytes
from torture.overload.large_journal import make_large_journal
from torture.overload.load import FORMULA, MB, STEP, Asker
from torture.overload.scenario import Scenario


async def backup(port: int, seconds: float) -> Counter[str]:
    """Backups one after another, at least one whole, while 4 clients submit and wait."""
    request = request_bytes("POST", "/submit?wait=10", FORMULA)
    counts: Counter[str] = Counter()
    asking = [asyncio.create_task(Asker(port, cycle([request]), counts).run()) for _ in range(4)]
    backups: Counter[str] = Counter()
    end = time.monotonic() + seconds
    try:
        while not backups or time.monotonic() < end:
            backups[f"backup {await asyncio.to_thread(_take_backup, port)}"] += 1
        return counts + backups
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _take_backup(port: int) -> str:
    """The size of a whole backup in MB, or why there is none."""
    connection = HTTPConnection(HOST, port, timeout=600)
    with closing(connection):
        try:
            connection.request("POST", "/backup")
            reply = connection.getresponse()
            size = sum(map(len, iter(lambda: reply.read(STEP), b"")))
        except (OSError, HTTPException) as error:
            return type(error).__name__
    return f"of {size // MB} MB" if reply.status == HTTPStatus.OK else str(reply.status)


SCENARIOS = [
    Scenario(
        "backup of a journal of 1.1 GB while 4 clients submit",
        backup,
        make_journal=make_large_journal,
        health_p99_ms=20,
    ),
]
