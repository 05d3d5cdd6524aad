from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

from dte.wire.messages.calls import Report
from dte.worker.processes.executor import RESULT_BYTES_MAX
from dte.worker.spool import FILE_BYTES_MAX, GRACE_S, Spool, SpoolUnusable

TTL_S = 3600.0
RESULT = Report(7, msgspec.Raw(b'{"n":[1,2.50]}'), state="succeeded")


def age(folder: Path, seconds: float) -> None:
    """Make all files of a folder so old."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def leases(spool: Spool) -> list[int]:
    return [spooled.report.lease for spooled, _ in spool.read()]


def test_a_result_is_read_as_it_was_kept(tmp_path: Path) -> None:
    assert Spool(tmp_path, TTL_S).keep("w", RESULT)
    ((spooled, age_s),) = Spool(tmp_path, TTL_S).read()
    assert (spooled.worker, spooled.report.lease, spooled.report.state) == ("w", 7, "succeeded")
    assert bytes(spooled.report.result) == b'{"n":[1,2.50]}'  # type: ignore[arg-type]
    assert 0 <= age_s < 60


def test_a_failure_is_kept_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", Report(8, error="ValueError: no", state="failed", retry=False))
    ((spooled, _),) = spool.read()
    assert (spooled.report.error, spooled.report.retry) == ("ValueError: no", False)
    assert spooled.report.result is msgspec.UNSET


def test_each_result_has_one_file_of_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    for lease in (1, 2, 2):
        spool.keep("w", Report(lease))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "2.json"]
    spool.drop(1)
    spool.drop(1)
    assert leases(spool) == [2]


def test_the_oldest_come_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", Report(5))
    age(tmp_path, 100)
    spool.keep("w", Report(3))
    assert leases(spool) == [5, 3]


@pytest.mark.parametrize("age_s", [TTL_S + 1, 400 * 86_400.0])
def test_what_seems_too_old_gets_time_to_be_reported(tmp_path: Path, age_s: float) -> None:
    """The clock may be wrong: the reporter drops it when that time is over."""
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", RESULT)
    age(tmp_path, age_s)
    ((spooled, shown_s),) = spool.read()
    assert (spooled.report.lease, shown_s) == (7, TTL_S - GRACE_S)
    ((_, shown_s),) = Spool(tmp_path, GRACE_S / 2).read()
    assert shown_s == 0.0, "it has all of a shorter time"


def test_what_was_written_by_a_clock_ahead_is_not_younger_than_new(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", RESULT)
    age(tmp_path, -9 * 86_400.0)
    ((_, age_s),) = spool.read()
    assert age_s == 0.0


def test_what_a_worker_that_was_killed_did_not_finish_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-1").write_bytes(b"{")
    age(tmp_path, TTL_S + 1)
    assert Spool(tmp_path, TTL_S).read() == []
    assert list(tmp_path.iterdir()) == []


def test_what_another_worker_is_just_writing_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-1").write_bytes(b"{")
    assert Spool(tmp_path, TTL_S).read() == []
    assert (tmp_path / ".unfinished-1").exists()


def test_what_is_no_result_is_set_aside_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, TTL_S)
    (tmp_path / "1.json").write_bytes(b'{"worker":"w","rep')
    (tmp_path / "2.json").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    spool.keep("w", RESULT)
    with caplog.at_level(logging.WARNING, "dte.worker"):
        assert leases(spool) == [7]
        assert leases(spool) == [7]
    assert caplog.text.count("is malformed") == 1
    assert (tmp_path / "1.broken").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_folder_is_made(tmp_path: Path) -> None:
    Spool(tmp_path / "a" / "b", TTL_S).keep("w", RESULT)
    assert (tmp_path / "a" / "b" / "7.json").exists()


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnusable, match=r"cannot write to .*file"):
        Spool(tmp_path / "file" / "spool", TTL_S)


def test_a_folder_that_vanishes_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool", TTL_S)
    (tmp_path / "spool").rmdir()
    assert not spool.keep("w", RESULT)
    assert "cannot keep the result of lease 7 on disk" in caplog.text
    spool.drop(7)


def test_a_disk_that_is_full_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    spool = Spool(tmp_path, TTL_S)
    monkeypatch.setattr(os, "fsync", full)
    assert not spool.keep("w", RESULT)
    assert list(tmp_path.iterdir()) == []


# Others on this machine


def test_a_new_folder_and_its_files_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    before = os.umask(0)
    try:
        Spool(folder, TTL_S).keep("w", RESULT)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "7.json").stat().st_mode & 0o777 == 0o600


def test_a_spool_that_others_could_open_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    Spool(folder, TTL_S).keep("w", RESULT)
    folder.chmod(0o755)
    Spool(folder, TTL_S)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o755)
    assert Spool(tmp_path, TTL_S).keep("w", RESULT)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_is_no_regular_file_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", TTL_S)
    spool.keep("w", RESULT)
    os.mkfifo(tmp_path / "spool" / "8.json")
    (tmp_path / "spool" / "9.json").mkdir()
    (tmp_path / "elsewhere").write_bytes((tmp_path / "spool" / "7.json").read_bytes())
    (tmp_path / "spool" / "10.json").symlink_to(tmp_path / "elsewhere")
    assert leases(spool) == [7]


def test_a_file_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", RESULT)
    with (tmp_path / "8.json").open("wb") as file:
        file.truncate(10**11)
    assert leases(spool) == [7]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")


@needs_root
def test_a_file_that_somebody_else_has_put_there_is_no_result(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    spool.keep("w", RESULT)
    os.chown(tmp_path / "7.json", 12_345, 12_345)
    assert leases(spool) == []


def test_each_thing_that_is_passed_over_takes_a_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, TTL_S)
    os.mkfifo(tmp_path / "1.json")
    (tmp_path / "2.json").symlink_to("/dev/zero")
    (tmp_path / "3.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "4.json").mkdir()
    with (tmp_path / "5.json").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "6.json"))
        assert leases(spool) == []
    assert len(caplog.messages) == 6
    assert all("is passed over" in each for each in caplog.messages)


@pytest.mark.parametrize("mode", [0o702, 0o722, 0o777, 0o1777])
def test_a_folder_where_every_user_may_write_is_refused_with_the_way_out(
    tmp_path: Path, mode: int
) -> None:
    folder = tmp_path / "spool"
    Spool(folder, TTL_S).keep("w", RESULT)
    folder.chmod(mode)
    with pytest.raises(SpoolUnusable, match=f"chmod 700 {folder}"):
        Spool(folder, TTL_S)
    folder.chmod(0o700)
    assert leases(Spool(folder, TTL_S)) == [7]


@pytest.mark.parametrize("mode", [0o711, 0o750, 0o755, 0o770, 0o775])
def test_a_folder_of_results_is_closed_to_others_and_used(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    Spool(folder, TTL_S).keep("w", RESULT)
    folder.chmod(mode)
    assert leases(Spool(folder, TTL_S)) == [7]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [f"{mode:04o}" in each for each in caplog.messages] == [True]


def test_a_folder_with_other_things_where_a_group_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o775)
    with pytest.raises(SpoolUnusable, match="others may write"):
        Spool(tmp_path, TTL_S)
    assert tmp_path.stat().st_mode & 0o777 == 0o775


@needs_root
def test_a_folder_of_somebody_else_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir(0o700)
    os.chown(folder, 12_345, 12_345)
    with pytest.raises(SpoolUnusable, match=f"belongs to the user 12345.*chown 0 {folder}"):
        Spool(folder, TTL_S)


def test_the_longest_result_fits(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    result = msgspec.Raw(b'"' + b"x" * (RESULT_BYTES_MAX - 2) + b'"')
    spool.keep("w" * 256, Report(7, result, state="succeeded"))
    assert leases(spool) == [7]


# Names


def test_results_of_a_worker_with_a_name_are_left_to_it(tmp_path: Path) -> None:
    Spool(tmp_path, TTL_S, "a").keep("a", Report(1))
    Spool(tmp_path, TTL_S, "b").keep("b", Report(2))
    Spool(tmp_path, TTL_S).keep("host-1", Report(3))
    assert leases(Spool(tmp_path, TTL_S, "a")) == [1]
    assert leases(Spool(tmp_path, TTL_S, "b")) == [2]
    assert leases(Spool(tmp_path, TTL_S, "host-1")) == [3]
    assert leases(Spool(tmp_path, TTL_S, "c")) == []
    assert leases(Spool(tmp_path, TTL_S)) == [3], "of one that has another name after each start"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_of_before_names_had_owners_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, TTL_S)
    (tmp_path / "7.json").write_bytes(b'{"worker":"old","report":{"lease":7}}')
    assert leases(spool) == [7]
