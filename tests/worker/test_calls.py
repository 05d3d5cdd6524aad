from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from harness.until import until

from dte.wire.messages.calls import Progress
from dte.worker import calls as module
from dte.worker import reporter as reporter_module
from dte.worker.calls import SLOTS_MAX, LeaseTaken, RunningCalls, TooManyCalls, calls_max
from dte.worker.reporter import Reporter
from dte.worker.session import Session

from .fakes import FakeExecutor, FakeMaster, call


@dataclass(frozen=True, slots=True)
class Rig:
    """Calls, their executor, and the leases whose calls have ended."""

    calls: RunningCalls
    executors: list[FakeExecutor]
    ended: list[int]

    @property
    def executor(self) -> FakeExecutor:
        return self.executors[0]


StartCalls = Callable[..., Rig]


@pytest.fixture
def start_calls(
    fake_master: FakeMaster, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> StartCalls:
    """Starts what keeps calls, without processes; after the test it ends without a grace."""
    monkeypatch.setattr(reporter_module, "CLOSE_S", 0.0)
    monkeypatch.setattr(module, "STOP_S", 0.0)

    def start(session: Session | None = None) -> Rig:
        executors: list[FakeExecutor] = []

        def make(*callbacks: Any) -> FakeExecutor:
            executors.append(FakeExecutor(*callbacks))
            return executors[-1]

        reporter = Reporter("w", fake_master.url, session=session)
        calls = RunningCalls("w", fake_master.url, reporter, make, session=session)  # type: ignore[arg-type]
        calls.start()
        cleanup.push_async_callback(calls.drain, 0.0)
        ended: list[int] = []
        calls.on_ended = lambda: ended.append(len(calls))
        return Rig(calls, executors, ended)

    return start


def answers(**changes: Any) -> Callable[[Any], tuple[int, Any]]:
    """Return a function that answers `/extend`."""

    def answer(body: Any) -> tuple[int, Any]:
        gone = changes.get("lost", [])
        extended = [each for each in body.get("leases", []) if each not in gone]
        reply = {"extended": extended, "lost": [], "stop": [], "lease_s": 3600.0}
        return 200, reply | changes

    return answer


async def test_the_last_progress_goes_with_the_result(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1)])
    rig.executor.progress(1, Progress(1.0, "done"))
    rig.executor.succeed(1)
    await until(fake_master.results, "a report")
    assert fake_master.results()[1]["progress"] == {"fraction": 1.0, "text": "done"}


async def test_a_call_is_begun_and_its_result_is_reported(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    assert [each.lease for each in rig.executor.begun] == [1, 2]
    assert [each.lease for each in rig.calls.running] == [1, 2]
    rig.executor.succeed(1, b'"one"')
    assert len(rig.calls) == 1
    await until(fake_master.results, "a report")
    assert fake_master.results() == {1: {"lease": 1, "result": "one", "state": "succeeded"}}
    assert rig.ended == [1]


async def test_a_call_that_is_handed_over_twice_is_begun_once(start_calls: StartCalls) -> None:
    rig = start_calls()
    rig.calls.take([call(1)])
    rig.calls.take([call(1)])
    assert len(rig.executor.begun) == 1


async def test_more_calls_than_the_bound_are_refused_all_or_none(start_calls: StartCalls) -> None:
    rig = start_calls()
    most = calls_max(SLOTS_MAX)
    rig.calls.take([call(lease) for lease in range(1, most)])
    with pytest.raises(TooManyCalls):
        rig.calls.take([call(most), call(most + 1)])
    assert len(rig.calls) == most - 1
    rig.calls.take([call(most)])
    rig.calls.take([call(1), call(2)])
    with pytest.raises(TooManyCalls):
        rig.calls.take([call(most + 1)])
    rig.executor.succeed(1)
    rig.calls.take([call(most + 1)])
    assert len(rig.calls) == most


async def test_the_arguments_of_calls_are_bounded_in_bytes(
    start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOT_BYTES", 10)
    rig = start_calls()
    size = 10 * (SLOTS_MAX + 4) // 2 + 10
    long = [call(lease) for lease in (1, 2, 3)]
    for each in long:
        each.args = msgspec.Raw(b"[%s]" % (b"1" * size))
    rig.calls.take(long[:1])
    with pytest.raises(TooManyCalls):
        rig.calls.take(long[1:2])
    rig.executor.succeed(1)
    rig.calls.take(long[2:])
    assert len(rig.calls) == 1


async def test_without_calls_there_is_no_executor_and_the_master_is_not_asked(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([])
    await rig.calls.drain(0)
    assert rig.executors == []
    assert fake_master.server.requests == []


# Keeping leases


async def test_leases_are_extended_while_their_calls_run(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    fake_master.replies["/extend"] = answers(lease_s=0.03)
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03), call(2, lease_s=3600.0)])
    await until(lambda: len(fake_master.said("/extend")) >= 4, "four extensions")
    assert fake_master.said("/extend")[0] == {"worker": "w", "leases": [1, 2]}
    rig.executor.succeed(1)
    rig.executor.succeed(2)
    await until(lambda: len(fake_master.results()) == 2, "both are reported")


async def test_the_master_says_how_long_leases_last(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])
    await until(lambda: fake_master.said("/extend"), "an extension")
    await until(lambda: rig.calls._lease_s() == 3600.0, "what the reply said counts")


async def test_a_master_that_is_away_stops_nothing_and_is_asked_again_soon(
    fake_master: FakeMaster, start_calls: StartCalls, caplog: pytest.LogCaptureFixture
) -> None:
    rig = start_calls()
    port = fake_master.server.port
    await fake_master.server.stop()
    rig.calls.take([call(1, lease_s=0.3)])
    await until(lambda: "cannot extend" in caplog.text, "it finds nobody")
    await fake_master.server.start(port=port)
    await until(lambda: fake_master.said("/extend"), "it finds the master")
    assert fake_master.said("/extend")[0]["leases"] == [1]
    assert rig.executor.stopped == []
    assert caplog.text.count("cannot extend") == 1


@pytest.mark.parametrize("reply", [(404, None), (503, None), (200, {"extended": 7}), (200, b"-")])
async def test_whatever_the_master_answers_the_calls_go_on(
    fake_master: FakeMaster, start_calls: StartCalls, reply: tuple[int, Any]
) -> None:
    fake_master.replies["/extend"] = reply
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])
    await until(lambda: len(fake_master.said("/extend")) >= 2, "two attempts")
    assert rig.executor.stopped == []


async def test_the_lease_of_a_result_that_the_master_cannot_take_is_kept(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    """Else another worker would do it once more."""
    fake_master.replies["/result"] = (503, None)
    fake_master.replies["/extend"] = answers(lease_s=0.03)
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])
    rig.executor.succeed(1)
    await until(lambda: len(fake_master.said("/extend")) >= 3, "it is extended")
    assert fake_master.said("/extend")[-1]["leases"] == [1]


async def test_a_call_that_is_lost_is_stopped_and_never_reported(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    fake_master.replies["/extend"] = answers(lost=[1])
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03), call(2)])
    await until(lambda: rig.executor.stopped == [1], "it is stopped")
    rig.executor.succeed(2)
    await until(lambda: fake_master.results(), "the other is reported")
    assert list(fake_master.results()) == [2]
    assert rig.ended == [1, 0]


async def test_a_lost_call_that_takes_time_to_end_keeps_no_lease(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    fake_master.replies["/extend"] = answers(lost=[1], lease_s=0.03)
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03), call(2, lease_s=0.03)])
    rig.executor.heeds = False
    await until(lambda: len(fake_master.said("/extend")) >= 3, "three extensions")
    assert [each["leases"] for each in fake_master.said("/extend")[:3]] == [[1, 2], [2], [2]]
    assert rig.executor.stopped == [1]


async def test_what_the_master_wants_stopped_is_reported_as_cancelled(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    fake_master.replies["/extend"] = answers(stop=[1, 77])
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])
    await until(fake_master.results, "a report")
    assert fake_master.results()[1]["state"] == "cancelled"


async def test_stop_says_which_leases_are_known(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    rig.executor.heeds = False
    assert rig.calls.stop([2, 3]) == [2]
    assert rig.calls.stop([2]) == [2]
    assert rig.executor.stopped == [2], "once is enough"
    rig.executor.succeed(2)
    await until(fake_master.results, "a report")
    assert fake_master.results()[2]["state"] == "succeeded", "it was faster"


# Progress


async def test_progress_is_passed_on_soon_and_only_the_latest(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    for percent in range(10):
        rig.executor.progress(1, Progress(percent / 10, f"{percent} of 10"))
    await until(lambda: fake_master.said("/extend"), "it is passed on", 2)
    (said,) = fake_master.said("/extend")
    assert said["leases"] == [1, 2]
    assert said["progress"] == {"1": {"fraction": 0.9, "text": "9 of 10"}}


async def test_progress_is_passed_on_no_more_often_than_twice_a_second(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1)])
    rig.executor.progress(1, Progress(0.1))
    await until(lambda: fake_master.said("/extend"), "it is passed on")
    extended_at = rig.calls._extended_at
    rig.executor.progress(1, Progress(0.2))
    assert rig.calls._extend_at - extended_at == pytest.approx(module.PROGRESS_PAUSE_S)


async def test_progress_that_the_master_did_not_hear_is_told_again(
    fake_master: FakeMaster, start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_PAUSE_S", 0.0)
    fake_master.replies["/extend"] = (503, None)
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])
    rig.executor.progress(1, Progress(0.5))
    await until(lambda: len(fake_master.said("/extend")) >= 2, "two attempts")
    assert fake_master.said("/extend")[1]["progress"]["1"]["fraction"] == 0.5
    fake_master.replies["/extend"] = answers()
    await until(lambda: not rig.calls._failing, "the master hears it")
    assert rig.calls._progress == {}


async def test_progress_of_a_call_that_has_ended_is_not_told(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    rig.executor.progress(1, Progress(0.5))
    rig.executor.succeed(1)
    rig.executor.progress(1, Progress(0.6))
    assert rig.calls._progress == {}


# The end


async def test_draining_lets_calls_end_and_reports_them(
    fake_master: FakeMaster, start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "CLOSE_S", 10.0)
    fake_master.replies["/extend"] = answers(lease_s=0.03)
    rig = start_calls()
    rig.calls.take([call(1, lease_s=0.03)])

    def end_then(body: Any) -> tuple[int, Any]:
        if 1 in rig.executor.running:
            rig.executor.succeed(1)
        return answers()(body)

    fake_master.replies["/extend"] = end_then
    await rig.calls.drain(3600.0)
    assert fake_master.results()[1]["state"] == "succeeded"
    assert rig.executor.closed


async def test_what_does_not_end_in_time_is_given_back(
    fake_master: FakeMaster, start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "CLOSE_S", 10.0)
    monkeypatch.setattr(module, "STOP_S", 10.0)
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    rig.executor.succeed(2)
    await rig.calls.drain(0.01)
    states = {lease: each["state"] for lease, each in fake_master.results().items()}
    assert states == {1: "returned", 2: "succeeded"}


async def test_what_will_not_end_at_all_is_given_back_even_so(
    fake_master: FakeMaster, start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "CLOSE_S", 10.0)
    monkeypatch.setattr(module, "STOP_S", 0.01)
    rig = start_calls()
    rig.calls.take([call(1)])
    rig.executor.heeds = False
    await rig.calls.drain(0.0)
    report = fake_master.results()[1]
    assert (report["state"], report["begun"]) == ("returned", True)


async def test_calls_that_come_too_late_are_given_back_unbegun(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    rig = start_calls()
    rig.calls.requeue([call(1)])
    await until(fake_master.results, "a report")
    assert fake_master.results()[1]["state"] == "returned"
    assert rig.executors == []


async def test_a_call_that_waits_too_long_for_a_slot_goes_back(
    fake_master: FakeMaster, start_calls: StartCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEUE_S", 0.01)
    rig = start_calls()
    rig.calls.take([call(1), call(2)])
    rig.executor.waiting.add(2)
    rig.calls.take([call(3)])  # Looks at what waits from now on.
    await until(lambda: 2 in fake_master.results(), "that it was given back")
    assert fake_master.results()[2]["state"] == "returned"
    assert len(rig.calls) == 2


# Sessions and leases


async def test_another_call_under_a_lease_is_refused_and_the_same_is_passed_over(
    start_calls: StartCalls,
) -> None:
    rig = start_calls()
    rig.calls.take([call(7)])
    rig.calls.take([call(7)])
    for change in (
        {"handler": "sleep"},
        {"args": msgspec.Raw(b"[8]")},
        {"job_id": 2},
        {"node": "b"},
        {"attempt": 2},
        {"timeout": 1.0},
        {"kwargs": msgspec.Raw(b"{}")},
    ):
        other = msgspec.structs.replace(call(7), **change)
        with pytest.raises(LeaseTaken, match="lease 7"):
            rig.calls.take([call(8), other])
    assert [each.lease for each in rig.executor.begun] == [7], "nor any that came with it"
    rig.executor.succeed(7)


async def test_leases_are_extended_under_the_session_once_it_is_known(
    fake_master: FakeMaster, start_calls: StartCalls
) -> None:
    session = Session()
    rig = start_calls(session)
    rig.calls.take([call(7, lease_s=0.03)])
    await asyncio.sleep(0.05)
    assert fake_master.said("/extend") == []
    session.replied("S")
    await until(lambda: fake_master.said("/extend"), "an extension")
    assert fake_master.server.requests[0].headers["x-dte-session"] == "S"
