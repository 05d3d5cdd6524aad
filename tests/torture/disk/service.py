"""The life of a whole master on a port, with clients and a worker on the same loop."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from harness.http import HOST, Line, Message, PlainClient, PlainServer
from master.fakes import batch
from torture.disk.life import JOURNAL, POISON, POISONED, SENT, TOLD, read_told, tell

from dte.master.server import MasterServer
from dte.master.settings import Settings

CLIENTS = 3
WAIT_S = 20


def serve(folder: Path) -> None:
    """Submit what clients do not know to be accepted, and wait until it is all done."""
    asyncio.run(_serve(folder))


async def _serve(folder: Path) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    server = MasterServer(Settings(HOST, 0, str(folder / JOURNAL)))
    server.start()
    worker = PlainServer(_work)
    await worker.start()
    client = PlainClient(server.port)
    said = {"worker_name": "w", "port": worker.port, "slots": 2, "batch_max": 3, "incarnation": "a"}
    await client.post("/worker", said)
    told = folder / TOLD
    known = {line["key"]: line["first"] for line in read_told(told) if line["what"] == "accepted"}
    keys = list(SENT)
    await asyncio.gather(
        *(_submit_and_wait(client, told, keys[n::CLIENTS], known) for n in range(CLIENTS))
    )
    core = server.master.core
    core.check()
    assert (core.jobs.waiting, core.jobs.operations_waiting) == (0, 0)
    await server.stop()
    await worker.stop()
    gc.collect()  # Tasks that failed and that nobody waits for say so when they are forgotten.
    assert not faults, faults


async def _submit_and_wait(
    client: PlainClient, told: Path, keys: list[str], known: dict[str, int]
) -> None:
    for key in keys:
        first = known.get(key)
        if first is None:
            reply = await client.post("/submit", {"tasks": SENT[key]}, Idempotency_Key=key)
            assert reply.status == 200, reply.body
            first = reply.json["job_ids"][0]
            tell(told, "accepted", key=key, first=first)
        reply = await client.get(f"/jobs?ids={first}-{first + len(SENT[key]) - 1}&wait={WAIT_S}")
        assert reply.status == 200, reply.body
        for job in reply.json:
            assert job["finished"], job
            answer = None if job["answer"] is None else repr(job["answer"])
            tell(told, "ended", number=job["job_id"], answer=answer, error=job["error"])


async def _work(request: Message, line: Line) -> None:
    if request.path != "/compute":
        await line.reply(404, {})
        return
    asked: dict[str, Any] = request.json
    reply = batch(asked)
    for place, operands in enumerate(zip(asked["op1"], asked["op2"], strict=True)):
        if POISON in operands:
            reply["errors"][str(place)] = POISONED
    await line.reply(200, reply)
