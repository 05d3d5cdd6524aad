"""Cancels that meet the end of their job: a cancel that is confirmed wins, over restarts too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from harness.http import Message

from .calling import claim, copied, report
from .rig import Rig, StartMaster

CANCELS = 300
AT_ONCE = 30


async def cancel_at_the_end(rig: Rig, call: dict[str, Any], path: str, place: int) -> Message:
    """Cancel a job while its worker reports: before, after, or a few turns of the loop around."""
    number, turns = call["job_id"], place % 7

    async def later(request: Any) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await request

    cancel = rig.post(path.format(number))
    result = report(rig, call["lease"], result=place)
    if place % 2:
        reply, _ = await asyncio.gather(cancel, later(result))
    else:
        _, reply = await asyncio.gather(result, later(cancel))
    assert isinstance(reply, Message)
    return reply


async def running(rig: Rig, count: int) -> list[dict[str, Any]]:
    """The calls of jobs, which a worker has; after each of the jobs comes another."""
    for _ in range(count):
        number = await rig.accept(handler="echo", args=[0])
        await rig.accept(handler="after", after=[number])
    calls = await claim(rig, slots=count, wait=20)
    while len(calls) < count:
        calls += await claim(rig, slots=count, wait=20)
    return calls


async def test_each_of_300_cancels_near_the_end_is_refused_or_wins(
    start_master: StartMaster, tmp_path: Path
) -> None:
    rig = await start_master(journal=str(tmp_path / "journal.db"))
    said: dict[int, int] = {}
    for _ in range(CANCELS // AT_ONCE):
        calls = await running(rig, AT_ONCE)
        replies = await asyncio.gather(
            *(
                cancel_at_the_end(rig, call, "/job/{}/cancel", place)
                for place, call in enumerate(calls)
            )
        )
        said |= {call["job_id"]: reply.status for call, reply in zip(calls, replies, strict=True)}
    await check(rig, said)
    await check(
        await start_master(journal=copied(rig.master.settings.journal, tmp_path / "copy.db")), said
    )


async def check(rig: Rig, said: dict[int, int]) -> None:
    """Check that jobs ended as the replies to their cancels say, and what came of those after."""
    assert len(said) == CANCELS
    assert set(said.values()) == {200, 409}, "some cancels came before the end, others after it"
    for number, status in said.items():
        state = (await rig.job(number, wait_s=20))["state"]
        if status == 200:
            after = await rig.job(number + 1, wait_s=20)
            assert (state, after["state"]) == ("cancelled", "failed")
        else:
            after = await rig.job(number + 1)
            assert (state, after["state"]) == ("succeeded", "waiting")


async def test_a_cancel_of_the_schedulers_clients_near_the_end_is_refused_or_wins(
    start_master: StartMaster, tmp_path: Path
) -> None:
    rig = await start_master(journal=str(tmp_path / "journal.db"))
    calls = await running(rig, AT_ONCE)
    replies = await asyncio.gather(
        *(
            cancel_at_the_end(rig, call, "/cancel_task/{}", place)
            for place, call in enumerate(calls)
        )
    )
    for call, reply in zip(calls, replies, strict=True):
        job = await rig.job(call["job_id"], wait_s=20)
        confirmed = "requested" in reply.json["message"]
        assert job["state"] == ("cancelled" if confirmed else "succeeded")
