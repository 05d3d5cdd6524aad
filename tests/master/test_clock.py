"""A master whose wall clock is set while it runs, or between two starts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness.until import until

from dte.master import clock as clocks
from dte.master.clock import Clock
from dte.master.journal import recorder

from .calling import claim, claim_one, report
from .rig import Rig, StartMaster

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Wall:
    """The wall clock of the masters of a test."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    async def set(self, rig: Rig, ahead_s: float) -> None:
        """Set it, and return when the master has noticed."""
        self.ahead_s = ahead_s
        right_s = time.time() - time.monotonic() + ahead_s
        await until(lambda: abs(rig.master.clock.offset_s - right_s) < 1, "the master looks")


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    stand_in = SimpleNamespace(time=lambda: time.time() + wall.ahead_s, monotonic=time.monotonic)
    for module in (clocks, recorder):
        monkeypatch.setattr(module, "time", stand_in)
    return wall


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_clock_that_is_set_is_logged_once(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    first_s = clock.offset_s
    clock.look()
    assert clock.offset_s == first_s, "two readings differ a little"
    wall.ahead_s = -600.0
    for _ in range(3):
        assert clock.look() == pytest.approx(first_s - 600.0, abs=0.5)
    (record,) = caplog.records
    assert record.getMessage() == "the wall clock was set back by 600.0 s"


def test_a_pause_is_logged_once_and_is_no_step_of_the_wall_clock(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """Times that people see are right after it, though its time is behind."""
    paused_s = 0.0
    clock = Clock(lambda: time.monotonic() - paused_s)
    shown_s = clock.wall_s(clock.now())
    paused_s = 60.0
    for _ in range(3):
        clock.look()
        assert clock.wall_s(clock.now()) == pytest.approx(shown_s, abs=5)
    assert clock.still_s == pytest.approx(60.0, abs=1)
    (record,) = caplog.records
    assert record.getMessage() == "the master stood still for 60.0 s; deadlines move by that"


def test_a_machine_that_slept_is_a_step_of_the_wall_clock_and_no_pause(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """The monotonic clock stands still meanwhile, and the time of the loop with it."""
    clock = Clock(time.monotonic)
    first_s = clock.offset_s
    wall.ahead_s = 3600.0
    assert clock.look() == pytest.approx(first_s + 3600.0, abs=0.5)
    assert clock.still_s == pytest.approx(0.0, abs=0.5)
    (record,) = caplog.records
    assert record.getMessage() == "the wall clock was set ahead by 3600.0 s"


def test_a_pause_and_a_step_of_the_wall_clock_are_told_apart(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    paused_s = 0.0
    clock = Clock(lambda: time.monotonic() - paused_s)
    first_s = clock.offset_s
    paused_s, wall.ahead_s = 12.0, -100.0
    assert clock.look() == pytest.approx(first_s - 88.0, abs=0.5)
    assert [record.getMessage() for record in caplog.records] == [
        "the wall clock was set back by 100.0 s",
        "the master stood still for 12.0 s; deadlines move by that",
    ]


def test_a_time_in_the_past_is_a_moment_and_one_to_come_is_now(wall: Wall) -> None:
    clock = Clock()
    ago = clock.now() - clock.moment_of(wall.now() - timedelta(seconds=100))
    assert ago == pytest.approx(100, abs=5)
    assert clock.moment_of(wall.now() + timedelta(days=1)) <= clock.now()


async def test_masters_that_start_at_the_same_second_give_other_leases(
    start_master: StartMaster,
) -> None:
    """As on a machine whose clock begins anew with it: a late result must not be taken for one."""
    leases = set()
    for _ in range(3):
        rig = await start_master()
        await rig.accept(handler="echo")
        leases.add((await claim_one(rig))["lease"])
        await rig.stop()
    assert len(leases) == 3


async def test_a_call_begins_when_the_clock_is_set_to_its_moment(rig: Rig, wall: Wall) -> None:
    """Nothing but the clock happens: the master looks at it by itself."""
    at = wall.now() + timedelta(hours=1)
    number = await rig.accept(handler="echo", not_before=at.isoformat())
    assert await claim(rig) == []
    wall.ahead_s = HOUR_S + 1
    call = await claim_one(rig)
    assert call["job_id"] == number
    assert moment((await rig.job(number))["started_at"]) >= at


async def test_a_call_waits_when_the_clock_is_set_back(rig: Rig, wall: Wall) -> None:
    wall.ahead_s = DAY_S
    await wall.set(rig, DAY_S)
    at = wall.now() + timedelta(seconds=1)
    number = await rig.accept(handler="echo", not_before=at.isoformat())
    await wall.set(rig, 0.0)
    assert await claim(rig, wait=2) == []
    assert (await rig.why(number))["call"]["until"] == at.isoformat().replace("+00:00", "Z")
    wall.ahead_s = DAY_S + 2
    assert (await claim_one(rig))["job_id"] == number


async def test_a_delay_is_no_shorter_after_the_clock_was_set(rig: Rig, wall: Wall) -> None:
    number = await rig.accept(handler="echo", delay=HOUR_S)
    await wall.set(rig, DAY_S)
    assert await claim(rig) == []
    reason = (await rig.why(number))["call"]
    assert HOUR_S - 60 < float(reason["text"].split()[2]) <= HOUR_S
    assert moment(reason["until"]) > wall.now()


async def test_a_delay_goes_on_after_a_restart(
    start_master: StartMaster, tmp_path: Path, wall: Wall
) -> None:
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    number = await rig.accept(handler="echo", delay=HOUR_S)
    for ahead_s, left_s in ((HOUR_S / 2, HOUR_S / 2), (-DAY_S, HOUR_S)):
        await rig.stop()
        wall.ahead_s = ahead_s
        rig = await start_master(journal=journal)
        job = rig.master.core.jobs.job(number)
        await until(lambda job=job: job.graph is not None, "it is read again")
        text = (await rig.why(number))["call"]["text"]
        assert float(text.split()[2]) == pytest.approx(left_s, abs=60)


async def test_jobs_show_the_clock_of_the_time_and_no_negative_durations(
    start_master: StartMaster, tmp_path: Path, wall: Wall
) -> None:
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    first, second = await rig.accept(handler="echo"), await rig.accept(handler="echo", delay=0.01)
    leases = [(await claim_one(rig))["lease"] for _ in range(2)]
    began = (await rig.job(first))["started_at"]
    await wall.set(rig, -HOUR_S)
    await report(rig, leases[0], result=1)
    await wall.set(rig, HOUR_S)
    await report(rig, leases[1], result=1)
    third = await rig.accept(handler="echo")
    shown = [await rig.job(number) for number in (first, second, third)]
    assert shown[0]["started_at"] == shown[0]["ended_at"] == began
    took = moment(shown[1]["ended_at"]) - moment(shown[1]["started_at"])
    assert took >= timedelta(minutes=59)
    assert abs(wall.now() - moment(shown[2]["submitted_at"])) < timedelta(minutes=1)
    await rig.stop()
    wall.ahead_s = -DAY_S
    rig = await start_master(journal=journal)
    assert [await rig.job(number) for number in (first, second)] == shown[:2]
    newest = [job.number for job in rig.master.core.jobs.newest(9)]
    assert newest == [third, second, first], "whatever their times"


@pytest.mark.parametrize("ahead_s", [9 * DAY_S, -400 * DAY_S, 20_000 * DAY_S])
async def test_a_clock_that_is_set_deletes_no_job_and_no_key(
    ahead_s: float, start_master: StartMaster, tmp_path: Path, wall: Wall
) -> None:
    """Neither while it is wrong nor when it is right again, nor by a start meanwhile."""
    journal = str(tmp_path / "journal.db")
    numbers = []
    for clock_s in (0.0, ahead_s, 0.0):
        wall.ahead_s = clock_s
        rig = await start_master(journal=journal, jobs_kept=1)
        for _ in range(2):
            key = f"after {len(numbers)}"
            reply = await rig.post("/submit", {"task": "7"}, Idempotency_Key=key)
            numbers.append(reply.json["job_id"])
        await wall.set(rig, -clock_s)
        rig.master.recorder._time_is_up()  # type: ignore[union-attr]
        await rig.master.recorder.flush()
        for place, number in enumerate(numbers):
            assert (await rig.job(number))["answer"] == 7
            again = await rig.post("/submit", {"task": "7"}, Idempotency_Key=f"after {place}")
            assert again.json["job_id"] == number
        await rig.stop()
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "seconds", [1e300, -1e300, inf, -inf, nan, 1e15, 253_402_300_800, -62_135_596_801, "x", b""]
)
def test_what_is_no_date_is_shown_as_unknown(seconds: Any) -> None:
    assert Clock.wall_time(seconds) is None


@pytest.mark.parametrize("seconds", [0.0, -62_135_000_000, 253_370_764_799])
def test_all_dates_can_be_shown_in_each_time_zone(seconds: float) -> None:
    shown = Clock.wall_time(seconds)
    assert shown is not None
    assert shown.timestamp() == seconds
    for hours in (-14, 14):
        shown.astimezone(timezone(timedelta(hours=hours)))


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("zone", [None, UTC])
def test_a_past_moment_may_be_any_date(year: int, zone: tzinfo | None) -> None:
    clock = Clock()
    assert clock.moment_of(datetime(year, 1, 1, tzinfo=zone)) <= clock.now()
