"""Calls whose arguments nobody could read, as a deep result went into deep ones, end by themselves.

A worker could not decode the request, so the calls in the same request would not begin either.
"""

from __future__ import annotations

from typing import Any

from harness.http import Line, Message
from harness.until import until

from dte.master.hand_over import TOO_DEEP
from dte.wire.nesting import ARGUMENT_LEVELS_MAX
from master import fakes
from master.calling import Called, claim, claim_one, report
from master.rig import Hire, Rig


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def deep_graph(levels: int) -> dict[str, Any]:
    """A graph in which a result that nests 400 levels goes into arguments, and another call."""
    return {
        "deep": {"handler": "deep"},
        "reads": {"handler": "echo", "args": nested(levels, {"ref": "deep"})},
        "flat": {"handler": "echo", "args": [2], "after": ["deep"]},
    }


def done(call: dict[str, Any]) -> dict[str, Any]:
    return {"result": nested(400) if call["handler"] == "deep" else 7}


async def check_deep_graph(rig: Rig, got: list[dict[str, Any]]) -> None:
    """Run a graph on a worker that says what it `got`."""
    number = await rig.accept(graph=deep_graph(ARGUMENT_LEVELS_MAX - 399))
    assert (await rig.job(number, wait_s=20))["finished"]
    nodes = await rig.nodes(number)
    assert (nodes["reads"]["state"], nodes["reads"]["error"]) == ("failed", TOO_DEEP.error)
    assert nodes["flat"]["state"] == "succeeded"
    assert [call["node"] for call in got] == ["deep", "flat"]
    assert "500 levels" in str(TOO_DEEP.error)


async def test_a_call_fails_whose_arguments_nest_too_deep_with_results_in_them(
    rig: Rig, hire: Hire
) -> None:
    worker = Called(rig, done)
    form = {"batch_max": 64, "handler_slots": 4, "incarnation": "a"}
    await hire(rig, worker.conduct, handlers=["deep", "echo"], **form)
    await check_deep_graph(rig, worker.calls)


async def test_it_fails_too_where_a_worker_gets_one_call_a_request(rig: Rig, hire: Hire) -> None:
    got: list[dict[str, Any]] = []

    async def conduct(request: Message, line: Line) -> None:
        if request.path != "/compute" or "handler" not in request.json:
            await fakes.good(request, line)
            return
        got.append(request.json)
        await line.reply(200, done(request.json))

    await hire(rig, conduct, handlers=["deep", "echo"], handler_slots=4)
    await check_deep_graph(rig, got)


async def test_a_claim_gets_the_other_calls(rig: Rig) -> None:
    number = await rig.accept(graph=deep_graph(ARGUMENT_LEVELS_MAX - 399))
    handlers = ["deep", "echo"]
    deep = await claim_one(rig, handlers=handlers)
    await report(rig, deep["lease"], **done(deep))
    flat = await claim(rig, handlers=handlers, slots=2, wait=20)
    assert [call["node"] for call in flat] == ["flat"]
    await report(rig, flat[0]["lease"], result=7)
    assert (await rig.job(number, wait_s=20))["error"] == f"node 'reads': {TOO_DEEP.error}"


async def test_arguments_may_nest_up_to_the_bound_with_results_in_them(rig: Rig) -> None:
    number = await rig.accept(graph=deep_graph(ARGUMENT_LEVELS_MAX - 400))
    handlers = ["deep", "echo"]
    deep = await claim_one(rig, handlers=handlers)
    await report(rig, deep["lease"], **done(deep))
    calls = await claim(rig, handlers=handlers, slots=2, wait=20)
    assert {call["node"] for call in calls} == {"reads", "flat"}
    for call in calls:
        await report(rig, call["lease"], result=7)
    assert (await rig.job(number, wait_s=20))["state"] == "succeeded"


async def test_long_arguments_fill_a_claim(rig: Rig) -> None:
    """One reply with the arguments of all slots might have hundreds of megabytes."""
    long = "x" * 9_000_000
    for _ in range(3):
        await rig.accept(handler="echo", args=[long])
    await until(lambda: rig.master.core.calls.jobs.ready.count == 3, "all are ready")
    assert [len(await claim(rig, slots=3, wait=20)) for _ in range(2)] == [2, 1]
