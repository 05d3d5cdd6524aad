"""Workers that have handlers: one that is called, one that claims. A test decides what they do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.http import Line, Message
from harness.until import until

from . import fakes
from .rig import Hire, Rig

Do = Callable[[dict[str, Any]], "dict[str, Any] | None"]
"""What a worker reports of a call that it got; None if it reports nothing by itself."""


def first_argument(call: dict[str, Any]) -> dict[str, Any]:
    """As the handler ``echo``."""
    return {"result": call["args"][0]}


def nothing_yet(call: dict[str, Any]) -> None:
    """The test reports."""


def failing(call: dict[str, Any]) -> dict[str, Any]:
    return {"error": f"{call['node']} broke"}


class Called:
    """A worker that gets calls in batches, says 202 and reports later.

    Attributes:
        rig: the master that it reports to.
        do: what it reports of each call.
        calls: those that it got, in this order.
        stops: the leases that it was told to stop.
    """

    def __init__(self, rig: Rig, do: Do = nothing_yet) -> None:
        self.rig = rig
        self.do = do
        self.calls: list[dict[str, Any]] = []
        self.stops: list[int] = []

    async def conduct(self, request: Message, line: Line) -> None:
        if request.path == "/stop":
            self.stops += request.json["leases"]
            await line.reply(200, {"leases": request.json["leases"]})
        elif "calls" in request.json:
            calls = request.json["calls"]
            self.calls += calls
            await line.reply(202, {})
            for call in calls:
                said = self.do(call)
                if said is not None:
                    await self.report(call["lease"], **said)
        else:
            await fakes.good(request, line)

    async def report(self, lease: int, **said: Any) -> dict[str, Any]:
        """Report what became of a call; the master's reply."""
        return await report(self.rig, lease, **said)

    async def has(self, count: int) -> list[dict[str, Any]]:
        """Return when it has got so many calls: these."""
        await until(lambda: len(self.calls) >= count, f"{count} calls are handed over")
        assert len(self.calls) == count, "too many calls are handed over"
        return self.calls


async def hire_called(
    hire: Hire, rig: Rig, do: Do = nothing_yet, handlers: Any = ("echo",), **said: Any
) -> Called:
    """Start a worker that is called, with four slots, and announce it."""
    worker = Called(rig, do)
    form = {"batch_max": 64, "handler_slots": 4, "incarnation": "a", "handlers": handlers}
    await hire(rig, worker.conduct, **form | said)
    return worker


def holder(rig: Rig, lease: int) -> str:
    """The name of the worker that has a lease; some name if it has ended."""
    found = rig.master.core.calls.leases.get(lease)
    return found.worker_name if found is not None else "w"


async def report(rig: Rig, lease: int, worker: str = "", **said: Any) -> dict[str, Any]:
    """Report what became of a call, as its worker if no other is named; the master's reply."""
    body = {"worker": worker or holder(rig, lease), "results": [{"lease": lease} | said]}
    reply = await rig.post("/result", body)
    assert reply.status == 200, reply.json
    return dict(reply.json)


async def extend(rig: Rig, *leases: int, worker: str = "", **more: Any) -> dict[str, Any]:
    """Say that a worker is at work on leases, as for `report`; the master's reply."""
    worker = worker or next((holder(rig, lease) for lease in leases), "w")
    reply = await rig.post("/extend", {"worker": worker, "leases": leases} | more)
    assert reply.status == 200, reply.json
    return dict(reply.json)


async def claim(
    rig: Rig, worker: str = "puller", handlers: Any = ("echo",), **more: Any
) -> list[dict[str, Any]]:
    """The calls that a worker gets which asks for some."""
    reply = await rig.post("/claim", {"worker": worker, "handlers": handlers} | more)
    assert reply.status == 200, reply.json
    calls: list[dict[str, Any]] = reply.json["calls"]
    return calls


async def claim_one(rig: Rig, worker: str = "puller", **more: Any) -> dict[str, Any]:
    """The one call that a worker gets, as soon as there is one."""
    (call,) = await claim(rig, worker, **{"wait": 20} | more)
    return call


def copied(journal: str, path: Path) -> str:
    """A copy of a journal as it is now: what a master finds whose machine ends at this moment."""
    for suffix in ("", "-wal"):
        if Path(journal + suffix).exists():
            shutil.copy(journal + suffix, f"{path}{suffix}")
    return str(path)
