from __future__ import annotations

import asyncio

import pytest
from harness.http import Line, Message

from dte.worker.master_client import MasterAway, MasterClient

from .fakes import FakeMaster

SHORT_S = 0.1


async def test_a_long_request_is_waited_for_longer_than_a_short_one(
    fake_master: FakeMaster,
) -> None:
    """A report of many megabytes that is still being read is not sent again."""
    may_reply = asyncio.Event()
    good = fake_master.server.conduct

    async def late(request: Message, line: Line) -> None:
        await may_reply.wait()
        await good(request, line)

    fake_master.server.conduct = late
    long, short = MasterClient(fake_master.url), MasterClient(fake_master.url)
    report = b'{"worker":"w"}'
    sending = asyncio.create_task(long.post("/result", report.ljust(30_000_000), SHORT_S))
    with pytest.raises(MasterAway, match=f"no reply within {SHORT_S} s"):
        await short.post("/result", report, SHORT_S)
    may_reply.set()
    assert await sending
    assert len(fake_master.said("/result")) == 2
