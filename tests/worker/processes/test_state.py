"""Protects: a call finds its process as new, whatever earlier calls have done to theirs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dte.worker.processes.reports import note_worn
from worker.leaks import BY_RIGHTS, REPLACED, RESTORED
from worker.rig import Rig, StartRig, noted

pytestmark = pytest.mark.usefixtures("own_handlers")


async def pid_after(one: Rig, handler: str, *args: object) -> tuple[int, int]:
    """The process of a call, and that of the next."""
    report = await one.call(handler, *args)
    assert report.state == "succeeded", report
    return int(bytes(report.result)), await one.value("pid")  # type: ignore[arg-type]


@pytest.mark.parametrize("handlers", [("change", "show"), ("change_async", "show_async")])
async def test_what_can_be_set_back_is_set_back(rig: StartRig, handlers: tuple[str, str]) -> None:
    one = rig()
    change, show = handlers
    before = await one.value(show)
    for name in RESTORED:
        changed, after = await pid_after(one, change, name)
        assert after == changed, name
        assert await one.value(show) == before, name


@pytest.mark.parametrize("name", REPLACED)
async def test_after_other_changes_the_process_is_replaced(rig: StartRig, name: str) -> None:
    one = rig()
    before, pid = await one.value("show"), await one.value("pid")
    report = await one.call("change", name)
    assert report.state == ("failed" if name == "files" else "succeeded"), report
    assert await one.value("show") == before
    next_pid = await one.value("pid")
    assert next_pid != pid
    assert await one.value("pid") == next_pid, "the new one is kept"


@pytest.mark.parametrize("name", ["thread", "closed file", "thread that ends the process"])
async def test_a_call_that_was_sent_before_the_process_was_seen_to_be_worn_runs_elsewhere(
    rig: StartRig, name: str
) -> None:
    one = rig()
    before, pid = await one.value("show"), await one.value("pid")
    leases = [one.start("change", name), one.start("show"), one.start("pid")]
    assert await one.value_of(leases[0]) == pid
    assert await one.value_of(leases[1]) == before
    assert await one.value_of(leases[2]) != pid


async def test_async_calls_that_were_sent_meanwhile_run_elsewhere(
    rig: StartRig, tmp_path: Path
) -> None:
    three = rig(slots=3)
    before = await three.value("show_async")
    end = tmp_path / "end"
    long = three.start("change_and_wait", "environment", str(end))
    short = [three.start("pid_async") for _ in range(20)]
    await three.value_of(short[0])
    seen = [three.start("show_async") for _ in range(5)]
    for lease in seen:
        assert await three.value_of(lease) == before
    end.touch()
    for lease in (long, *short):
        await three.value_of(lease)


async def test_what_a_module_that_a_call_imports_sets_up_stays(
    rig: StartRig, tmp_path: Path
) -> None:
    module = "import sys\nclass Finder:\n    def find_spec(self, *_): pass\n"
    module += "import logging\nlogging.getLogger(__name__).setLevel(10)\n"
    (tmp_path / "late_import.py").write_text(f"{module}sys.meta_path.append(Finder())\n")
    one = rig()
    pid = await one.value("import_late", str(tmp_path))
    assert await one.value("shown_late") == [pid, 1, 10]
    assert await one.value("change", "umask") == pid


async def test_what_only_some_users_may_set_back_is_as_new_all_the_same(rig: StartRig) -> None:
    one = rig()
    before = await one.value("show")
    for name in BY_RIGHTS:
        await one.value("change", name)
        assert await one.value("show") == before


@pytest.mark.parametrize("name", ["closed file", "program", "thread", "fork"])
async def test_after_other_changes_by_async_calls_the_process_is_replaced(
    rig: StartRig, name: str
) -> None:
    one = rig()
    before = await one.value("show_async")
    changed, after = await pid_after(one, "change_async", name)
    assert changed != after
    assert await one.value("show_async") == before


async def test_a_copy_of_a_process_ends_when_its_handler_awaits(rig: StartRig) -> None:
    one = rig()
    forked, after = await pid_after(one, "fork_and_await")
    assert forked != after
    assert len(one.reports) == 2


async def test_a_change_is_kept_from_new_calls_while_others_run(
    rig: StartRig, tmp_path: Path
) -> None:
    two = rig(slots=2)
    end = tmp_path / "end"
    long = two.start("change_and_wait", "environment", str(end))
    short = await two.value("pid_async")
    assert "LEAKED" not in (await two.value("show_async"))["environment"]
    end.touch()
    assert await two.value_of(long) == short
    assert await two.value("pid_async") != short


async def test_a_task_that_a_plain_call_leaves_on_the_event_loop_is_gone(rig: StartRig) -> None:
    one = rig()
    left, after = await pid_after(one, "leave_a_task")
    assert left != after


async def test_an_alarm_goes_off_in_its_own_call_alone(rig: StartRig) -> None:
    one = rig()
    for _ in range(3):
        await one.value("change", "alarm")
        assert await one.value("echo", 1) == 1
        await asyncio.sleep(0.1)
    assert await one.value("pid") == await one.value("change", "umask")


@pytest.mark.parametrize("handler", ["use_a_pool", "pause_in_a_thread", "start_a_daemon"])
async def test_threads_of_pools_and_libraries_may_stay(rig: StartRig, handler: str) -> None:
    one = rig()
    pids = {await one.value(handler) for _ in range(10)}
    assert len(pids) == 1


async def test_memory_that_a_call_keeps_is_not_taken_from_others(rig: StartRig) -> None:
    one = rig(memory_mb=200)
    assert await one.error("allocate", 201) == "out of memory: the limit is 200 MB"
    kept = await one.value("keep", 160)
    assert await one.value("allocate", 150) == 150 << 20
    assert await one.value("pid") != kept
    kept = await one.value("keep", 100)
    assert await one.value("pid") == kept, "a cache that leaves room may stay"
    assert await one.error("allocate", 150) == "out of memory: the limit is 200 MB"
    assert await one.value("allocate", 150) == 150 << 20


async def test_a_process_is_replaced_after_its_number_of_calls(rig: StartRig) -> None:
    one = rig(calls_per_process=3)
    for handler in ("pid", "pid_async"):
        pids = [await one.value(handler) for _ in range(6)]
        assert [pids.count(each) for each in dict.fromkeys(pids)] == [3, 3]


async def test_async_calls_count_when_they_run_together(rig: StartRig, tmp_path: Path) -> None:
    three = rig(slots=3, calls_per_process=2)
    end = str(tmp_path / "end")
    leases = [three.start("wait_async", str(tmp_path / str(n)), end) for n in range(3)]
    pids = [await noted(tmp_path / str(n)) for n in range(3)]
    assert pids[0] == pids[1] != pids[2]
    (tmp_path / "end").touch()
    for lease in leases:
        assert await three.value_of(lease) == "seen"


async def test_the_log_says_once_why_processes_are_replaced(
    rig: StartRig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    note_worn.cache_clear()
    one = rig()
    for _ in range(2):
        await one.value("change", "closed file")
    (line,) = [each for each in caplog.messages if "replaced" in each]
    assert line == (
        "a process that ran handler 'change' is replaced each time: "
        "'a call closed or replaced file 1 or 2'"
    )
