"""Protects: a child that breaks its channel is ended, and its call alone fails and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from dte.worker.processes import packets
from worker.rig import StartRig, noted

pytestmark = pytest.mark.usefixtures("own_handlers")

WROTE = "the handler's process wrote something else than messages into its channel to the worker"


@pytest.mark.parametrize("name", ["text", "long", "many"])
async def test_a_process_that_writes_rubbish_fails_its_call_alone(
    rig: StartRig, tmp_path: Path, name: str
) -> None:
    two = rig(slots=2)
    other = two.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "end"))
    await noted(tmp_path / "mine")
    report = await two.call("write_rubbish", name)
    assert (report.state, report.error, report.retry) == ("failed", WROTE, True)
    assert await two.value("echo", 1) == 1
    (tmp_path / "end").touch()
    assert (await two.report(other)).state == "succeeded"


async def test_rubbish_of_an_async_call_is_charged_to_it(rig: StartRig, tmp_path: Path) -> None:
    two = rig(slots=2)
    other = two.start("wait_async", str(tmp_path / "mine"), str(tmp_path / "end"))
    await noted(tmp_path / "mine")
    report = await two.call("write_rubbish_async", "text")
    assert (report.state, report.error) == ("failed", WROTE)
    report = await two.report(other)
    assert (report.state, report.begun) == ("returned", True)


async def test_a_process_that_closes_its_channel_fails_its_call_and_says_so(rig: StartRig) -> None:
    one = rig()
    closed = "the handler's process closed its channel to the worker"
    assert await one.error("close_all_files") == closed
    assert await one.value("echo", 1) == 1


async def test_a_call_that_stops_its_event_loop_fails_and_says_so(rig: StartRig) -> None:
    one = rig()
    error = await one.error("stop_the_loop")
    assert error.startswith("the handler's process cannot use its event loop any more: Runtime")
    assert await one.value("pid_async")


async def test_a_call_that_cancels_itself_has_an_end(rig: StartRig) -> None:
    one = rig()
    assert await one.error("cancel_itself") == "cancelled"


# Foreign descriptors


@pytest.fixture
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "PAUSE_S", 0.5)


@pytest.mark.usefixtures("short_pause")
@pytest.mark.parametrize("name", ["a length alone", "a part of a length"])
async def test_a_packet_that_does_not_go_on_ends_its_process(rig: StartRig, name: str) -> None:
    one = rig()
    report = await one.call("write_rubbish", name)
    assert (report.state, report.error) == ("failed", WROTE)
    assert await one.value("echo", 1) == 1


@pytest.mark.usefixtures("short_pause")
async def test_a_call_whose_result_is_part_of_something_else_has_an_end(rig: StartRig) -> None:
    one = rig()
    report = await one.call("write_a_length")
    assert (report.state, report.error) == ("failed", WROTE)
    assert await one.value("echo", 1) == 1


@pytest.mark.usefixtures("short_pause")
@pytest.mark.parametrize(
    "data", [8 * "\xff", "\0" * 8, "\x01", "HTTP/1.1 200 OK\r\n\r\n", "x" * 100_000]
)
async def test_what_a_handler_writes_everywhere_harms_its_own_process_only(
    rig: StartRig, tmp_path: Path, data: str
) -> None:
    two = rig(slots=2)
    other = two.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "end"))
    await noted(tmp_path / "mine")
    report = await two.call("write_to_all_files", data)
    assert report.state in ("failed", "succeeded")
    assert await two.value("echo", 1) == 1
    (tmp_path / "end").touch()
    assert (await two.report(other)).state == "succeeded"


@pytest.mark.usefixtures("short_pause")
async def test_a_handler_that_puts_other_files_in_the_place_of_all_has_an_end(
    rig: StartRig,
) -> None:
    one = rig()
    report = await one.call("replace_all_files")
    assert report.state == "failed"
    assert await one.value("echo", 1) == 1


async def test_a_copy_that_holds_the_channel_keeps_no_call_from_its_end(rig: StartRig) -> None:
    one = rig()
    report = await one.call("hold_the_channel")
    assert report.state == "failed"
    assert await one.value("echo", 1) == 1
