"""What has ended is freed at once: nothing of it is in a cycle until the search for garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from harness.http import Line, Message

from .rig import Hire, Rig, StartMaster

LONG = "x" * 100_000


async def echoing(request: Message, line: Line) -> None:
    call = request.json
    if call["handler"] == "broken":
        await line.reply(400, {"error": LONG})
    else:
        await line.reply(200, {"result": call["args"]})


@pytest.fixture
def without_search() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def in_cycles() -> list[str]:
    """The names of dte's types of which an object is in a cycle that nothing refers to."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = (type(each) for each in gc.garbage)
    found = [kind.__qualname__ for kind in kinds if kind.__module__.startswith("dte.")]
    gc.garbage.clear()
    return found


ECHO = {"handler": "echo", "args": [LONG]}
GRAPH = {
    "graph": {
        "a": ECHO,
        "b": {"handler": "echo", "args": [{"ref": "a"}]},
        "c": {"handler": "echo", "args": [{"ref": "a"}, {"ref": "b"}]},
    }
}
FAILING = {
    "graph": {
        "a": {"handler": "broken", "args": [LONG]},
        "b": {"handler": "echo", "args": [{"ref": "a"}]},
    }
}
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "a call": ("POST", "/jobs?wait=20", ECHO),
    "a graph": ("POST", "/jobs?wait=20", GRAPH),
    "a graph that fails": ("POST", "/jobs?wait=20", FAILING),
    "a job after another": ("POST", "/jobs?wait=20", ECHO | {"after": [1]}),
    "a cancelled job": ("POST", "/job/2/cancel", None),
    "a retried job": ("POST", "/job/3/retry", None),
    "a job": ("GET", "/job/4", None),
    "a job of the journal": ("GET", "/job/1", None),
    "calls of the journal": ("GET", "/job/1/nodes", None),
    "jobs": ("GET", "/jobs?ids=1-4", None),
    "an unknown job": ("GET", "/job/99", None),
    "an unknown route": ("GET", "/nothing", None),
    "a wrong field": ("POST", "/jobs", ECHO | {"arguments": LONG}),
    "a wrong parameter": ("GET", "/jobs?state=failed", None),
    "a wrong formula": ("POST", "/submit", {"task": "1+" * 10_000}),
    "no JSON": ("POST", "/jobs", b'{"handler": "' + LONG.encode()),
    "a value that is too long": ("POST", "/jobs", ECHO | {"args": [LONG * 3]}),
    "a body that is too long": ("POST", "/jobs", b" " * 2_000_000),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_leaves_nothing_in_cycles(
    name: str, start_master: StartMaster, hire: Hire, tmp_path: Any, without_search: None
) -> None:
    rig = await start_master(
        journal=str(tmp_path / "j.db"),
        jobs_kept=2,
        value_bytes_max=200_000,
        body_bytes_max=1_000_000,
    )
    worker = await hire(
        rig, echoing, handlers=["echo", "broken"], handler_slots=2, arithmetic=False
    )
    await prepare(rig)
    method, path, body = REQUESTS[name]
    assert in_cycles() == []
    for _ in range(2):
        reply = await rig.ask(method, path, body)
        assert reply.status < 500
    worker.requests.clear()
    await asyncio.sleep(0.01)  # The last callbacks of the requests.
    assert in_cycles() == []


async def prepare(rig: Rig) -> None:
    """Job 1 is in the journal, 2 waits, 3 has failed, 4 has ended."""
    await rig.ask("POST", "/jobs?wait=20", ECHO)
    await rig.accept(handler="unknown", args=[LONG])
    await rig.ask("POST", "/jobs?wait=20", FAILING)
    await rig.ask("POST", "/jobs?wait=20", ECHO)
    await asyncio.sleep(0.01)
