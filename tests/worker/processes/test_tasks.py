"""Protects: async calls run together in one process, and none is harmed by what another does."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from harness.until import until

from dte.wire.messages.calls import Progress
from dte.worker.processes import process, watchdog
from worker.rig import Rig, StartRig, is_gone, noted


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detect hanging calls sooner."""
    monkeypatch.setattr(process, "STOP_S", 0.2)
    monkeypatch.setattr(watchdog, "WATCH_S", 0.3)


async def waiting(one: Rig, tmp_path: Path, name: str = "waiting") -> int:
    """The lease of a call that has begun, and ends when there is a file ``end``."""
    lease = one.start("wait_async", str(tmp_path / name), str(tmp_path / "end"))
    await noted(tmp_path / name)
    return lease


async def test_many_calls_run_at_the_same_time_in_one_process(
    rig: StartRig, tmp_path: Path
) -> None:
    many = rig(slots=20)
    leases = [many.start("meet", str(tmp_path), n, 20) for n in range(20)]
    pids = {await many.value_of(lease) for lease in leases}
    assert len(pids) == 1


async def test_no_more_calls_run_than_there_are_slots(rig: StartRig, tmp_path: Path) -> None:
    two = rig(slots=2)
    await waiting(two, tmp_path, "one")
    await waiting(two, tmp_path, "two")
    third = two.start("pid_async")
    assert two.executor.waiting == {third}
    (tmp_path / "end").touch()
    assert (await two.report(third)).state == "succeeded"


async def test_a_plain_call_has_another_process_than_async_ones(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    lease = await waiting(two, tmp_path)
    pid = await noted(tmp_path / "waiting")
    assert await two.value("pid") != pid
    (tmp_path / "end").touch()
    await two.report(lease)
    assert await two.value("pid_async") in (await two.value("pid"), pid)


async def test_who_came_first_gets_the_slot_whether_it_is_async_or_not(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    first = await waiting(one, tmp_path)
    order = [one.start(handler) for handler in ("pid", "pid_async", "pid", "pid_async")]
    (tmp_path / "end").touch()
    for lease in order:
        await one.report(lease)
    assert list(one.reports) == [first, *order]


async def test_a_call_is_cancelled_and_the_others_go_on(rig: StartRig, tmp_path: Path) -> None:
    two = rig(slots=2)
    other = await waiting(two, tmp_path, "other")
    lease = await waiting(two, tmp_path, "mine")
    assert two.executor.stop(lease)
    assert two.executor.stop(lease)
    report = await two.report(lease)
    assert (report.state, report.error, report.begun) == ("cancelled", "cancelled", True)
    assert (tmp_path / "mine.cancelled").exists(), "it has ended when that is reported"
    (tmp_path / "end").touch()
    assert (await two.report(other)).state == "succeeded"


async def test_tasks_that_a_call_started_end_when_it_is_cancelled(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    await waiting(two, tmp_path, "other")
    lease = two.start("wait_in_another_task", str(tmp_path / "mine"), str(tmp_path / "no"))
    await noted(tmp_path / "mine")
    two.executor.stop(lease)
    assert (await two.report(lease)).state == "cancelled"
    assert (tmp_path / "mine.cancelled").exists()
    assert not (tmp_path / "other.cancelled").exists()


async def test_a_call_that_leaves_a_task_that_does_not_end_has_its_result_all_the_same(
    rig: StartRig,
) -> None:
    one = rig()
    assert await one.value("leave_a_stubborn_task") == "Task"
    assert isinstance(await one.value("pid_async"), int)  # It does not stop those that follow.


async def test_a_call_that_has_not_begun_is_cancelled(rig: StartRig) -> None:
    one = rig()
    await one.value("pid_async")
    lease = one.start("sleep", 1000)
    assert one.executor.stop(lease)
    assert (await one.report(lease)).state == "cancelled"


async def test_a_timeout_cancels_the_call_alone(rig: StartRig, tmp_path: Path) -> None:
    two = rig(slots=2)
    other = await waiting(two, tmp_path, "other")
    mine, no = str(tmp_path / "mine"), str(tmp_path / "no")
    report = await two.call("wait_async", mine, no, timeout=0.3)
    assert (report.state, report.error) == ("timed_out", "stopped after 0.3 s")
    assert (tmp_path / "mine.cancelled").exists()
    (tmp_path / "end").touch()
    assert (await two.report(other)).state == "succeeded"


async def test_a_call_that_does_not_end_when_it_is_cancelled_is_killed_and_others_given_back(
    rig: StartRig, tmp_path: Path, soon: None
) -> None:
    two = rig(slots=2)
    other = await waiting(two, tmp_path)
    lease = two.start("never_stop", str(tmp_path / "stubborn"))
    pid = await noted(tmp_path / "stubborn")
    two.executor.stop(lease)
    assert (await two.report(lease)).state == "cancelled"
    report = await two.report(other)
    assert (report.state, report.begun) == ("returned", True)
    assert is_gone(pid)
    assert await two.value("pid_async") != pid


async def test_a_call_that_blocks_the_loop_of_others_is_killed_and_has_its_own_from_then_on(
    rig: StartRig, tmp_path: Path, soon: None
) -> None:
    two = rig(slots=2)
    other = await waiting(two, tmp_path)
    arguments = str(tmp_path / "blocking"), str(tmp_path / "no")
    lease = two.start("block_the_loop", *arguments)
    for each in (lease, other):
        report = await two.report(each)
        assert (report.state, report.begun) == ("returned", True)
    (tmp_path / "blocking").unlink()
    again = await waiting(two, tmp_path, "again")
    pid = await noted(tmp_path / "again")
    lease = two.start("block_the_loop", *arguments)
    assert await noted(tmp_path / "blocking") != pid
    (tmp_path / "no").touch()
    (tmp_path / "end").touch()
    assert (await two.report(lease)).state == "succeeded"
    assert (await two.report(again)).state == "succeeded"


async def test_a_call_that_blocks_nobody_but_itself_goes_on(
    rig: StartRig, tmp_path: Path, soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    two = rig(slots=2)
    lease = two.start("block_the_loop", str(tmp_path / "blocking"), str(tmp_path / "end"))
    pid = await noted(tmp_path / "blocking")
    await until(lambda: "block_the_loop" in caplog.text, "the warning")
    assert await two.value("pid_async") != pid
    (tmp_path / "end").touch()
    assert await two.value_of(lease) == pid


@pytest.mark.parametrize("handler", ["exit_async", "exit_in_another_task"])
async def test_the_call_that_ends_the_process_fails_and_the_others_are_given_back(
    rig: StartRig, tmp_path: Path, handler: str
) -> None:
    three = rig(slots=3)
    others = [await waiting(three, tmp_path, name) for name in ("one", "two")]
    lease = three.start(handler, str(tmp_path / "now"), 3)
    (tmp_path / "now").touch()
    report = await three.report(lease)
    ended = "the handler's process ended with exit code 3"
    assert (report.state, report.error) == ("failed", ended)
    for other in others:
        report = await three.report(other)
        assert (report.state, report.begun) == ("returned", True)
        assert report.error == f"{ended}, because of another call in it"
    assert await three.value("pid_async")


async def test_a_call_whose_task_ends_the_process_fails_and_the_others_are_given_back(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    other = await waiting(two, tmp_path)
    guilty = two.start("exit_in_a_task")
    assert (await two.report(guilty)).state == "failed"
    assert (await two.report(other)).state == "returned"


async def test_what_ended_a_process_of_others_has_its_own_from_then_on(
    rig: StartRig, tmp_path: Path
) -> None:
    """Also where nobody knows which call it was: none is lost by it again and again."""
    two = rig(slots=2)
    innocent, guilty = await waiting(two, tmp_path), two.start("exit_in_a_callback")
    assert (await two.report(innocent)).state == "lost"
    assert (await two.report(guilty)).state == "lost"
    innocent, guilty = await waiting(two, tmp_path, "again"), two.start("exit_in_a_callback")
    assert (await two.report(guilty)).state == "failed"
    (tmp_path / "end").touch()
    assert (await two.report(innocent)).state == "succeeded"


async def test_a_plain_call_gets_the_slot_that_an_async_one_leaves(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    long = await waiting(two, tmp_path, "long")
    short = two.start("wait_async", str(tmp_path / "short"), str(tmp_path / "end of short"))
    plain = two.start("pid")
    await noted(tmp_path / "short")
    (tmp_path / "end of short").touch()
    assert (await two.report(short)).state == "succeeded"
    assert (await two.report(plain)).state == "succeeded"
    (tmp_path / "end").touch()
    await two.report(long)


async def test_calls_are_lost_whose_process_ended_by_nobody_knows_which(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    leases = []
    for name in ("one", "two"):
        leases.append(two.start("never_stop", str(tmp_path / name)))
        pid = await noted(tmp_path / name)
    os.kill(pid, signal.SIGKILL)
    for lease in leases:
        report = await two.report(lease)
        assert report.state == "lost"
        assert str(report.error).startswith("the handler's process was killed by signal 9")


async def test_a_call_that_is_alone_in_a_process_that_ends_fails(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    lease = two.start("never_stop", str(tmp_path / "mine"))
    os.kill(await noted(tmp_path / "mine"), signal.SIGKILL)
    assert (await two.report(lease)).state == "failed"


async def test_progress_is_told_of_the_call_that_makes_it(rig: StartRig) -> None:
    two = rig(slots=2)
    leases = [two.start("go_on_async", steps) for steps in (3, 4)]
    for lease in leases:
        await two.report(lease)
    latest = dict(two.progress)
    assert latest == {1: Progress(1.0, "step 3 of 3"), 2: Progress(1.0, "step 4 of 4")}


async def test_arguments_and_results_of_megabytes_pass_beside_small_ones(rig: StartRig) -> None:
    two = rig(slots=2)
    text = "x" * 3_000_000
    large, small = two.start("echo_async", text), two.start("echo_async", 1)
    assert await two.value_of(large) == text
    assert await two.value_of(small) == 1


async def test_an_async_call_that_makes_no_sense_fails_alone(rig: StartRig) -> None:
    one = rig()
    report = await one.call("sleep", "x")
    assert (report.state, report.retry) == ("failed", False)
    assert await one.error("sleep", -1) == "ValueError: seconds must be 0 or more, not -1.0"


async def test_closing_returns_async_calls_and_ends_their_process(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    leases = [await waiting(two, tmp_path, name) for name in ("one", "two")]
    pid = await noted(tmp_path / "one")
    await asyncio.wait_for(two.executor.close(), 20)
    for lease in leases:
        assert (two.reports[lease].state, two.reports[lease].begun) == ("returned", True)
    assert is_gone(pid)
