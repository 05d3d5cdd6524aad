from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest
from harness.until import until
from pebble.common.types import CONSTS

from dte.handlers.registry import CannotLoad
from dte.wire.messages.calls import Call, Progress
from dte.worker.processes import executor
from dte.worker.processes.executor import Executor
from dte.worker.processes.process import Process
from worker.rig import DEEDS, StartRig, is_gone, noted

TESTS = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("own_handlers")


async def test_calls_run_in_a_process_that_is_kept_for_the_next(rig: StartRig) -> None:
    one = rig()
    first, second = await one.value("pid"), await one.value("pid_async")
    assert first == second != os.getpid()


async def test_results_are_reported_as_json(rig: StartRig) -> None:
    one = rig()
    assert await one.value("echo", {"a": [1, 2.5, None, "ä"]}) == {"a": [1, 2.5, None, "ä"]}
    assert await one.value("fibonacci", n=100) == 354224848179261915075
    assert await one.value("give", "none") == [None, "null"]
    assert len(await one.value("give", "deep")) == 1
    report = await one.call("give", "long")
    assert isinstance(report.result, msgspec.Raw)
    assert len(bytes(report.result)) == 16902


async def test_a_result_that_cannot_be_sent_is_an_error_that_says_why(rig: StartRig) -> None:
    one = rig(result_bytes_max=1000)
    for what, reason in {
        "object": "cannot be converted to JSON: ",
        "infinity": "cannot be converted to JSON: ",
        "half a pair": "cannot be converted to JSON: ",
        "text": "is too large: 2002 bytes, the limit is 1000; return less",
        "long": "is too large: an integer of more than 1000 digits, the limit is 1000 bytes; ",
    }.items():
        report = await one.call("give", what)
        assert report.state == "failed"
        assert not report.retry
        assert report.error is not None
        assert report.error.startswith(f"the result {reason}")


async def test_what_a_handler_raises_is_reported_with_its_type(rig: StartRig) -> None:
    one = rig()
    report = await one.call("fail", "no luck")
    assert (report.state, report.error, report.retry) == ("failed", "ValueError: no luck", True)
    assert await one.error("fail_by_half_a_pair") == "ValueError: ?"
    assert await one.error("leave") == "SystemExit: enough"
    frames = [line for line in str(report.trace).splitlines() if line.startswith("  File")]
    assert len(frames) == 1, "none of dte's own"
    assert frames[0].endswith(", in fail")


async def test_a_call_that_makes_no_sense_is_not_to_be_tried_again(rig: StartRig) -> None:
    one = rig()
    for report in (await one.call("fibonacci", n="x"), await one.call("nothing")):
        assert report.state == "failed"
        assert not report.retry
    assert "fibonacci: argument 'n' must be an integer, not \"x\"" in str(one.reports[1].error)
    assert one.reports[2].error == "this worker has no handler 'nothing'"


async def test_integers_of_any_length_are_taken(rig: StartRig) -> None:
    one = rig()
    for number in (b"7" * 9000, b"-" + b"7" * 9000):
        report = await one.report(one.start_with("echo", b"[%b]" % number))
        assert isinstance(report.result, msgspec.Raw)
        assert bytes(report.result) == number


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (b"[" * 5000 + b"]" * 5000, "the arguments cannot be read: they nest more than 500 "),
        (b'["\\ud800"]', "the arguments cannot be read: "),
        (b"[1e999]", "the arguments cannot be read: 1e999 is not a finite number"),
        (b'["\xff"]', "the arguments cannot be read: "),
        (b"[1, }", "the arguments cannot be read: "),
        (b"7", "echo: arguments must be a list (positional) or an object (named), not 7"),
    ],
    ids=["deep", "half a pair", "infinite", "no UTF-8", "no JSON", "number"],
)
async def test_arguments_that_cannot_be_read_fail_alone(
    rig: StartRig, args: bytes, error: str
) -> None:
    one = rig()
    pid = await one.value("pid")
    report = await one.report(one.start_with("echo", args))
    assert (report.state, report.retry) == ("failed", False)
    assert str(report.error).startswith(error)
    assert await one.value("pid") == pid


async def test_arguments_nested_900_deep_fail_alone_with_a_clear_error(rig: StartRig) -> None:
    one = rig()
    report = await one.report(one.start_with("echo", b"[" * 900 + b"]" * 900))
    assert (report.state, report.retry) == ("failed", False)
    assert report.error == "the arguments cannot be read: they nest more than 500 levels deep"
    brackets = "]" * 600
    for fine in ([brackets, {"[": [[]] * 600}], [[1, 2]] * 600):
        assert await one.value("echo", fine) == fine
    deepest = b"[" * 400 + b'{"a":' * 100 + b"1" + b"}" * 100 + b"]" * 400
    report = await one.report(one.start_with("echo", deepest))
    assert report.state == "succeeded"


async def test_no_line_of_the_log_is_a_handlers(
    rig: StartRig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = rig()
    await one.error("fail", "x\n2030-01-01 INFO dte.worker: forged\r\u2028forged")
    (record,) = [each for each in caplog.records if "fail" in each.getMessage()]
    first, *rest = record.getMessage().splitlines()
    assert first.startswith(
        "job 1, node a: handler fail failed on attempt 1: ValueError: x 2030-01-01 INFO"
    )
    assert rest
    assert all(line.startswith("    ") for line in rest)


async def test_a_timeout_ends_the_code_and_what_waits_goes_on(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    await one.value("pid")
    path = tmp_path / "spin"
    lease = one.start("spin", str(path), timeout=0.3)
    waiting = one.start("pid")
    pid = await noted(path)
    report = await one.report(lease)
    assert (report.state, report.error) == ("timed_out", "stopped after 0.3 s")
    assert is_gone(pid)
    assert (await one.report(waiting)).state == "succeeded"


async def test_a_call_that_is_stopped_has_ended_when_that_is_reported(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    path = tmp_path / "spin"
    lease = one.start("spin", str(path))
    pid = await noted(path)
    assert one.executor.stop(lease)
    assert one.executor.stop(lease)
    assert lease in one.unfinished
    report = await one.report(lease)
    assert (report.state, report.error, report.begun) == ("cancelled", "cancelled", True)
    assert is_gone(pid)
    assert not one.executor.stop(lease)


async def test_a_program_that_a_handler_started_ends_with_its_call(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    path = tmp_path / "program"
    lease = one.start("start_program", str(path))
    pid = await noted(path)
    one.executor.stop(lease)
    await one.report(lease)
    await until(lambda: is_gone(pid), "the program's end")


async def test_a_call_that_does_not_hear_sigterm_is_killed(
    rig: StartRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CONSTS, "term_timeout", 0.2)
    one = rig()
    path = tmp_path / "spin"
    lease = one.start("spin", str(path), True)
    pid = await noted(path)
    one.executor.stop(lease)
    assert (await one.report(lease)).state == "cancelled"
    assert is_gone(pid)


async def test_a_call_that_waits_never_begins_when_it_is_stopped(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    path = tmp_path / "touched"
    busy = one.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    waiting = one.start("touch", str(path))
    assert one.unfinished == {busy, waiting}
    assert one.executor.stop(waiting)
    report = await one.report(waiting)
    assert (report.state, report.begun) == ("cancelled", False)
    (tmp_path / "other").touch()
    assert (await one.report(busy)).state == "succeeded"
    await one.value("pid")
    assert not path.exists()


async def test_a_call_that_waits_goes_back_only_where_each_process_has_one_that_runs(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    early = one.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    one.executor.requeue_waiting()
    assert one.executor.waiting == {early}, "its process begins in a moment"
    await noted(tmp_path / "mine")
    waiting = one.start("pid")
    one.executor.requeue_waiting()
    assert (await one.report(waiting)).state == "returned"
    (tmp_path / "other").touch()
    assert (await one.report(early)).state == "succeeded"


async def test_a_lease_is_begun_once(rig: StartRig) -> None:
    one = rig()
    call = Call(1, 1, "a", "pid", msgspec.Raw(b"[]"), None, 1, 10.0)
    one.executor.start(call)
    one.executor.start(call)
    await one.report(1)
    assert one.unfinished == set()


async def test_a_process_that_ends_takes_its_call_with_it_alone(
    rig: StartRig, tmp_path: Path
) -> None:
    three = rig(slots=3)
    other = three.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    for handler, argument, error in [
        ("exit", 3, "ended with exit code 3"),
        ("exit", 0, "ended with exit code 0"),
        ("exit", 15, "ended with exit code 15"),
        ("signal", 9, "was killed by signal 9 (SIGKILL), perhaps because memory ran out"),
        ("signal", 11, "was killed by signal 11 (SIGSEGV)"),
        ("signal", 15, "ended with exit code 15"),
    ]:
        report = await three.call(handler, argument)
        error = f"the handler's process {error}"
        assert (report.state, report.error, report.retry) == ("failed", error, True)
    assert three.unfinished == {other}
    (tmp_path / "other").touch()
    assert (await three.report(other)).state == "succeeded"


async def test_a_process_that_is_killed_while_it_is_idle_is_replaced(rig: StartRig) -> None:
    one = rig()
    pid = await one.value("pid")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: is_gone(pid), "its end")
    while (report := await one.call("pid")).state != "succeeded":
        assert report.state == "returned" or "killed by signal 9" in str(report.error)
    assert report.result != str(pid).encode()


async def test_memory_is_limited_for_each_process(rig: StartRig) -> None:
    one = rig(memory_mb=100)
    assert await one.value("allocate", 10) == 10 * 1024 * 1024
    pid = await one.value("pid")
    assert await one.error("allocate", 101) == "out of memory: the limit is 100 MB"
    assert await one.value("pid") != pid, "a process that ran out of memory is replaced"


async def test_progress_is_told_and_the_latest_counts(rig: StartRig) -> None:
    one = rig()
    assert await one.value("go_on", 3) == "done"
    assert one.progress[-1] == (1, Progress(1.0, "step 3"))
    one.progress.clear()
    assert await one.value("go_on", 20_000) == "done"
    assert {lease for lease, _ in one.progress} == {2}
    assert len(one.progress) < 20_000


async def test_an_interrupt_leaves_the_processes_alone(rig: StartRig, tmp_path: Path) -> None:
    one = rig()
    lease = one.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    os.kill(await noted(tmp_path / "mine"), signal.SIGINT)
    (tmp_path / "other").touch()
    assert (await one.report(lease)).state == "succeeded"


async def test_tasks_that_an_async_handler_leaves_behind_are_ended(rig: StartRig) -> None:
    one = rig()
    before = await one.value("leave_tasks")
    assert await one.value("leave_tasks") == before


async def test_closing_returns_all_calls_and_ends_all_processes(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    running = one.start("spin", str(tmp_path / "spin"))
    waiting = one.start("pid")
    pid = await noted(tmp_path / "spin")
    await asyncio.gather(one.executor.close(), one.executor.close())
    late = one.start("pid")
    told = [one.reports[lease] for lease in (running, waiting, late)]
    assert [report.state for report in told] == ["returned"] * 3
    assert [report.begun for report in told] == [True, False, False]
    assert told[0].error == "the worker left"
    assert is_gone(pid)


async def test_a_module_that_cannot_be_imported_is_an_error_at_the_start() -> None:
    with pytest.raises(CannotLoad, match=r"cannot load handlers from no\.such: ModuleNotFound"):
        Executor(1, ["no.such"], None, print, print)


CANNOT_START = "the worker cannot start processes for handlers: "


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "RESTART_FIRST_S", 0.05)
    monkeypatch.setattr(executor, "RESTART_MAX_S", 0.2)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("raise", "RuntimeError: not in children (deeds.py, line 24)"),
        ("signal", "the process was killed by signal 9 (SIGKILL), perhaps because memory ran out"),
        ("exit", "the process ended with exit code 7"),
    ],
)
async def test_calls_are_returned_with_the_reason_when_no_process_can_start(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch, how: str, problem: str
) -> None:
    monkeypatch.setenv("DEEDS_FAIL_IN_CHILDREN", how)
    one = rig()
    report = await one.call("pid")
    assert (report.state, report.begun) == ("returned", False)
    assert report.error == CANNOT_START + problem
    assert one.capacities == [(0, problem)]
    late = one.start("pid")
    assert one.reports[late].error == CANNOT_START + problem, "it is returned at once"
    monkeypatch.delenv("DEEDS_FAIL_IN_CHILDREN")
    await until(lambda: one.executor.failing is None, "a process starts")
    assert one.capacities[1:] == [(1, None)]
    assert await one.value("pid")


@pytest.mark.usefixtures("quick_restarts")
async def test_the_reason_of_a_process_is_kept_if_its_end_is_noticed_first(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop may be late with the last message of a process when the pool notices its end."""
    monkeypatch.setenv("DEEDS_FAIL_IN_CHILDREN", "raise")
    one = rig()
    call = one.start("pid")
    (process,) = one.executor._processes
    assert process._process is not None
    process._process.join()  # Blocks the loop.
    process._begin_to_end()
    problem = "RuntimeError: not in children (deeds.py, line 24)"
    assert (await one.report(call)).error == CANNOT_START + problem
    monkeypatch.delenv("DEEDS_FAIL_IN_CHILDREN")
    await until(lambda: one.executor.failing is None, "a process starts")


@pytest.mark.usefixtures("quick_restarts")
async def test_a_failure_to_start_is_logged_once_although_its_numbers_change(
    rig: StartRig, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig()
    for attempt in range(3):
        one.executor._start_failed(f"OSError: attempt {attempt} at 0x7f{attempt} (mine.py, line 3)")
    one.executor._start_failed("OSError: another (mine.py, line 3)")
    found = [each for each in caplog.messages if "cannot start" in each]
    assert [each.count("attempt 0") for each in found] == [1, 0]
    assert len({failing for _, failing in one.capacities}) == 2


async def test_failed_starts_never_breed_more_processes_than_slots(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rig asserts the bound after each step."""
    starts: list[Process] = []
    add = Executor._add_process

    def counted(self: Executor) -> None:
        add(self)
        starts.extend(self._starting - {*starts})

    monkeypatch.setattr(Executor, "_add_process", counted)
    monkeypatch.setattr(executor, "RESTART_FIRST_S", 0.05)
    monkeypatch.setattr(executor, "RESTART_MAX_S", 0.2)
    monkeypatch.setenv("DEEDS_FAIL_IN_CHILDREN", "raise")
    three = rig(slots=3)
    for _ in range(20):
        three.start("pid")
    await until(lambda: len(starts) >= 6, "three more starts")
    for _ in range(20):
        three.start("pid")
    assert len(three.reports) == 40, "all calls are returned"
    warnings = [record for record in caplog.records if "cannot start" in record.getMessage()]
    assert len(warnings) == 1, "each reason is logged once"
    monkeypatch.delenv("DEEDS_FAIL_IN_CHILDREN")
    await until(lambda: three.executor.failing is None, "a process starts")
    calls = [three.start("pid") for _ in range(20)]
    assert len({await three.value_of(lease) for lease in calls}) <= 3
    assert len(three.executor._processes) <= 3


@pytest.mark.usefixtures("quick_restarts")
async def test_processes_that_are_left_run_calls_while_no_other_can_start(
    rig: StartRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = rig(slots=2)
    busy = two.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    pid = await two.value("pid")
    monkeypatch.setenv("DEEDS_FAIL_IN_CHILDREN", "raise")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: two.capacities, "a change")
    assert two.capacities == [(1, None)]
    waiting = two.start("pid")
    two.executor.requeue_waiting()
    assert two.reports[waiting].error == "no slot became free"
    (tmp_path / "other").touch()
    assert (await two.report(busy)).state == "succeeded"
    assert await two.value("pid") == await noted(tmp_path / "mine")
    monkeypatch.delenv("DEEDS_FAIL_IN_CHILDREN")
    await until(lambda: two.executor.capacity == 2, "the other starts")


async def test_a_process_that_never_becomes_ready_holds_no_call(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "START_S", 0.2)
    monkeypatch.setenv("DEEDS_FAIL_IN_CHILDREN", "hang")
    one = rig()
    report = await one.call("pid")
    assert report.error == f"{CANNOT_START}the process is not ready after 0.2 s"
    (process,) = one.executor._processes
    monkeypatch.delenv("DEEDS_FAIL_IN_CHILDREN")
    assert process._process is not None
    assert process._process.pid is not None
    os.kill(process._process.pid, signal.SIGKILL)
    await until(lambda: one.executor.failing is None, "another process starts")
    assert await one.value("pid")


@pytest.mark.usefixtures("quick_restarts")
async def test_a_system_without_room_for_a_process_is_a_reason(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    one = rig()
    with monkeypatch.context() as full:
        full.setattr("multiprocessing.util.spawnv_passfds", refuse)
        report = await one.call("pid")
    reason = "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    assert str(report.error).startswith(CANNOT_START + reason)
    await until(lambda: one.executor.failing is None, "a process starts")
    assert await one.value("pid")


@pytest.mark.usefixtures("quick_restarts")
async def test_a_worker_without_file_descriptors_says_so(rig: StartRig) -> None:
    one = rig()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                opened.enter_context(open(os.devnull))
        report = await one.call("pid")
    assert str(report.error).startswith(f"{CANNOT_START}OSError: [Errno 24] ")
    await until(lambda: one.executor.failing is None, "a process starts")
    assert await one.value("pid")


async def test_a_process_whose_thread_cannot_start_leaves_nothing_behind(
    rig: StartRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pebble starts threads after the process."""

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    one = rig()
    before = {*multiprocessing.active_children()}
    with monkeypatch.context() as full:
        full.setattr("pebble.pool.process.launch_thread", refuse)
        report = await one.call("pid")
        (started,) = {*multiprocessing.active_children()} - before
    assert str(report.error).startswith(f"{CANNOT_START}RuntimeError: can't start new thread")
    await until(lambda: not started.is_alive(), "the process has ended")
    await until(lambda: one.executor.failing is None, "a process starts")


WORKER = f"""
import asyncio, msgspec, sys
from dte.wire.messages.calls import Call
from dte.worker.processes.executor import Executor

async def main():
    executor = Executor(1, ["{DEEDS}"], None, print, print)
    args = msgspec.Raw(msgspec.json.encode([sys.argv[1]]))
    executor.start(Call(1, 1, "a", "hold_the_lock", args, None, 1, 10.0))
    await asyncio.Event().wait()

asyncio.run(main())  # Without a guard: children do not run it once more.
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python's lock has to be let go")
async def test_processes_end_when_their_worker_is_killed_whatever_they_do(tmp_path: Path) -> None:
    path = tmp_path / "held"
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    with subprocess.Popen(
        [sys.executable, str(script), str(path)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            pid = await noted(path)
        finally:
            worker.kill()
    await until(lambda: is_gone(pid), "the child's end")
