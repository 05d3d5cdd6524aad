from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from harness.until import until

from dte.wire.http.client import CONNECT_TIMEOUT_S
from dte.wire.messages.calls import Claim
from dte.wire.messages.handlers import HandlerInfo
from dte.worker import calls as calls_module
from dte.worker import puller as module
from dte.worker import reporter as reporter_module
from dte.worker.calls import RunningCalls
from dte.worker.puller import Puller
from dte.worker.reporter import Reporter

from .fakes import FakeExecutor, FakeMaster, call

CLAIM = Claim("w", {"echo": HandlerInfo(pure=True)}, 2, batch_max=64, incarnation="a1")


@dataclass(frozen=True, slots=True)
class Rig:
    puller: Puller
    executors: list[FakeExecutor]

    @property
    def executor(self) -> FakeExecutor:
        return self.executors[0]


StartPuller = Callable[..., Rig]


def work(*leases: int) -> dict[str, Any]:
    """A reply with calls."""
    reply: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode({"calls": [call(lease) for lease in leases]})
    )
    return reply


@pytest.fixture
def start_puller(
    fake_master: FakeMaster, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> StartPuller:
    """Starts a puller without processes, which leaves after the test."""
    monkeypatch.setattr(reporter_module, "CLOSE_S", 0.0)
    monkeypatch.setattr(calls_module, "STOP_S", 0.0)

    def start(claim: Claim = CLAIM, pause_max_s: float = 0.01) -> Rig:
        executors: list[FakeExecutor] = []

        def make(*callbacks: Any) -> FakeExecutor:
            executors.append(FakeExecutor(*callbacks))
            return executors[-1]

        reporter = Reporter("w", fake_master.url)
        calls = RunningCalls("w", fake_master.url, reporter, make)  # type: ignore[arg-type]
        calls.start()
        puller = Puller(fake_master.url, claim, pause_max_s, calls, reporter)
        cleanup.push_async_callback(calls.drain, 0.0)
        cleanup.push_async_callback(leave, puller)
        return Rig(puller, executors)

    async def leave(puller: Puller) -> None:
        monkeypatch.setattr(module, "LEAVE_S", 0.05)
        await puller.leave()

    return start


async def test_it_claims_at_once_and_says_what_it_can(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    start_puller()
    await until(lambda: fake_master.said("/claim"), "a claim")
    assert fake_master.said("/claim") == [
        {
            "worker": "w",
            "handlers": {"echo": {"pure": True}},
            "slots": 2,
            "wait": 20.0,
            "batch_max": 64,
            "incarnation": "a1",
        }
    ]


async def test_calls_are_begun_and_reported_and_the_next_claim_has_the_free_slots(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    rig = start_puller(msgspec.structs.replace(CLAIM, slots=3))
    fake_master.work.put_nowait(work(1, 2))
    await until(lambda: len(fake_master.said("/claim")) == 2, "another claim")
    assert fake_master.said("/claim")[1].get("slots", 1) == 1
    rig.executor.succeed(1, b'"one"')
    await until(fake_master.results, "a report")
    assert fake_master.results()[1]["result"] == "one"


async def test_a_change_is_claimed_at_once_and_what_that_brings_is_begun(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    claim = msgspec.structs.replace(CLAIM)
    rig = start_puller(claim)
    await until(lambda: fake_master.said("/claim"), "a claim that waits")
    claim.failing = "no GPU"
    rig.puller.renew()
    await until(lambda: len(fake_master.said("/claim")) == 2, "another claim")
    said = fake_master.said("/claim")[1]
    assert (said["failing"], said.get("wait", 0.0)) == ("no GPU", 0.0)
    fake_master.work.put_nowait({})
    fake_master.work.put_nowait(work(1))
    await until(lambda: rig.executors and rig.executor.begun, "the call of either claim")


async def test_nothing_is_claimed_while_all_slots_are_taken(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    rig = start_puller()
    fake_master.work.put_nowait(work(1, 2))
    await until(lambda: rig.executors and len(rig.executor.begun) == 2, "both are begun")
    assert len(fake_master.said("/claim")) == 1
    rig.executor.succeed(2)
    await until(lambda: len(fake_master.said("/claim")) == 2, "another claim")
    assert fake_master.said("/claim")[1].get("slots", 1) == 1


async def test_arithmetic_is_done_at_once(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    rig = start_puller()
    batch = {"lease": 4, "operations": "+/", "op1": [1, 1], "op2": [2, 0]}
    fake_master.work.put_nowait({"batches": [batch]})
    await until(lambda: fake_master.said("/result"), "a report")
    (said,) = fake_master.said("/result")
    assert said["batches"] == [{"lease": 4, "results": [3, 0], "errors": {"1": "division by zero"}}]
    assert rig.executors == []
    await until(lambda: len(fake_master.said("/claim")) == 2, "another claim")


@pytest.mark.usefixtures("errors_are_logged")
async def test_a_batch_that_is_none_ends_nothing(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    start_puller()
    bad = {"lease": 4, "operations": "+%", "op1": [1, 1], "op2": [2, 0]}
    good = {"lease": 5, "operations": "+", "op1": [1], "op2": [2]}
    fake_master.work.put_nowait({"batches": [bad, good]})
    await until(lambda: fake_master.said("/result"), "a report")
    assert [each["lease"] for each in fake_master.said("/result")[0]["batches"]] == [5]


@pytest.mark.parametrize(
    "reply", [(429, None), (500, None), (404, None), (200, b"{"), (200, {"calls": 1})]
)
async def test_whatever_the_master_answers_it_is_asked_again(
    fake_master: FakeMaster,
    start_puller: StartPuller,
    reply: tuple[int, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_master.replies["/claim"] = reply
    rig = start_puller()
    await until(lambda: len(fake_master.said("/claim")) >= 3, "three claims")
    assert caplog.text.count("cannot claim work") == 1
    del fake_master.replies["/claim"]
    fake_master.work.put_nowait(work(1))
    await until(lambda: rig.executors, "work is done")


@pytest.mark.usefixtures("errors_are_logged")
async def test_a_name_that_another_worker_has_is_told_once_with_what_to_do(
    fake_master: FakeMaster, start_puller: StartPuller, caplog: pytest.LogCaptureFixture
) -> None:
    fake_master.replies["/claim"] = (409, {"error": "another worker has this name"})
    rig = start_puller()
    await until(lambda: len(fake_master.said("/claim")) >= 3, "three claims")
    (error,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "another worker named 'w'" in error.getMessage()
    assert "--name" in error.getMessage()
    del fake_master.replies["/claim"]
    fake_master.work.put_nowait(work(1))
    await until(lambda: rig.executors, "work is done")


async def test_arguments_that_cannot_be_read_and_batches_that_are_none_keep_no_call_away(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    deep = msgspec.Raw(b"[" * 5000 + b"]" * 5000)
    calls = [call(1), msgspec.structs.replace(call(2), args=deep)]
    reply = msgspec.json.encode({"calls": calls, "batches": [7]})
    replies = iter([(200, reply)])
    fake_master.replies["/claim"] = lambda _: next(replies, (503, None))
    rig = start_puller()
    await until(lambda: rig.executors and len(rig.executor.begun) == 2, "both are begun")
    assert [bytes(each.args) for each in rig.executor.begun] == [b"[1]", bytes(deep)]


@pytest.mark.parametrize("sign", ["", "-"])
async def test_batches_have_integers_of_the_longest_length(
    fake_master: FakeMaster, start_puller: StartPuller, sign: str
) -> None:
    number = int(f"{sign}{'9' * 4300}")
    start_puller()
    batch = {"lease": 4, "operations": "+", "op1": [number], "op2": [0]}
    fake_master.work.put_nowait(work(1) | {"batches": [batch]})
    await until(lambda: fake_master.said("/result"), "a report")
    assert fake_master.said("/result")[0]["batches"] == [{"lease": 4, "results": [number]}]


async def test_a_master_that_comes_back_is_found(
    fake_master: FakeMaster, start_puller: StartPuller, caplog: pytest.LogCaptureFixture
) -> None:
    port = fake_master.server.port
    await fake_master.server.stop()
    start_puller()
    await until(lambda: "cannot claim work" in caplog.text, "it finds nobody")
    await fake_master.server.start(port=port)
    await until(lambda: fake_master.said("/claim"), "a claim")


async def test_the_first_claim_from_a_master_that_is_back_is_answered_at_once(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    """Results that wait for the master are reported when a claim is answered."""
    replies = iter([(503, None)])
    nothing = {"calls": [], "batches": []}
    fake_master.replies["/claim"] = lambda _: next(replies, (200, nothing))
    start_puller()
    await until(lambda: len(fake_master.said("/claim")) >= 3, "three claims")
    waits = [claim.get("wait", 0.0) for claim in fake_master.said("/claim")[:3]]
    assert waits == [20.0, 0.0, 20.0]


@pytest.mark.parametrize("status", [200, 503])
async def test_pauses_grow_while_claims_are_answered_at_once_with_nothing(
    fake_master: FakeMaster,
    start_puller: StartPuller,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    timeout = asyncio.timeout
    pauses: list[float] = []

    def none(delay: float | None) -> asyncio.Timeout:
        # Of a request, or of who waits for calls.
        if delay is None or delay >= 10 or delay == CONNECT_TIMEOUT_S:
            return timeout(delay)
        pauses.append(delay)
        return timeout(0)

    monkeypatch.setattr(asyncio, "timeout", none)
    fake_master.replies["/claim"] = (status, {"calls": [], "batches": []})
    start_puller(pause_max_s=5.0)
    await until(lambda: len(pauses) >= 8, "eight claims")
    assert pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


# The end


async def test_leaving_says_so_while_a_claim_is_held(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    rig = start_puller()
    await until(lambda: fake_master.said("/claim"), "a claim")
    leaving = asyncio.create_task(rig.puller.leave())
    await until(lambda: len(fake_master.said("/claim")) == 2, "another claim")
    assert fake_master.said("/claim")[1] == {"worker": "w", "incarnation": "a1", "draining": True}
    fake_master.work.put_nowait({})
    await leaving
    assert len(fake_master.said("/claim")) == 2


async def test_what_is_handed_out_to_one_who_leaves_goes_back(
    fake_master: FakeMaster, start_puller: StartPuller
) -> None:
    rig = start_puller()
    await until(lambda: fake_master.said("/claim"), "a claim")
    leaving = asyncio.create_task(rig.puller.leave())
    await until(lambda: len(fake_master.said("/claim")) == 2, "it says that it leaves")
    fake_master.work.put_nowait(work(1))
    await leaving
    await until(fake_master.results, "a report")
    assert fake_master.results()[1]["state"] == "returned"
    assert rig.executors == []


async def test_leaving_a_master_that_does_not_answer(
    fake_master: FakeMaster, start_puller: StartPuller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_S", 0.05)
    fake_master.held.add("/claim")
    rig = start_puller()
    await until(lambda: fake_master.said("/claim"), "a claim")
    await rig.puller.leave()
    assert rig.puller._task.done()
