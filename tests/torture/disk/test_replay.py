from __future__ import annotations

from random import Random

import pytest
from torture.disk.replay import Disk, Record


def wrote(data: bytes, offset: int = 0) -> Record:
    return Record("w", "f", offset, len(data), data)


def cut(length: int) -> Record:
    return Record("t", "f", 0, length, b"")


SYNC, FAILED_SYNC, DELETE = (Record(what, "f", 0, 0, b"") for what in "sfd")


def after(*records: Record) -> tuple[bytes | None, bytes | None]:
    """The content that a file shows, and what is left of it without power."""
    disk = Disk()
    for record in records:
        disk.do(record)
    shown, left = disk.shown.get("f"), disk.without_power().get("f")
    return shown and bytes(shown), left and bytes(left)


@pytest.mark.parametrize(
    ("records", "shown", "left"),
    [
        ([wrote(b"abc")], b"abc", None),
        ([wrote(b"abc"), SYNC], b"abc", b"abc"),
        ([wrote(b"abc"), SYNC, wrote(b"X", 1)], b"aXc", b"abc"),
        ([wrote(b"abc"), SYNC, wrote(b"X", 1), SYNC], b"aXc", b"aXc"),
        ([wrote(b"x", 2)], b"\0\0x", None),
        ([wrote(b"abc"), SYNC, cut(1)], b"a", b"abc"),
        ([wrote(b"abc"), cut(1), SYNC], b"a", b"a"),
        ([wrote(b"a"), cut(3), SYNC], b"a\0\0", b"a\0\0"),
        ([wrote(b"abc"), SYNC, DELETE], None, None),
    ],
)
def test_only_what_was_synced_outlives_the_power(
    records: list[Record], shown: bytes | None, left: bytes | None
) -> None:
    assert after(*records) == (shown, left)


def test_what_could_not_be_synced_is_shown_and_never_written_unless_it_is_written_again() -> None:
    lost = [wrote(b"abc"), SYNC, wrote(b"XYZ"), FAILED_SYNC, SYNC]
    assert after(*lost) == (b"XYZ", b"abc")
    assert after(*lost, wrote(b"XYZ"), SYNC) == (b"XYZ", b"XYZ")


def test_some_of_the_sectors_that_were_not_synced_may_outlive_the_power_whole() -> None:
    disk = Disk()
    disk.do(wrote(b"a" * 1500, offset=100))
    left = {bytes(disk.without_power(Random(n)).get("f", b"")) for n in range(50)}
    assert {b"", bytes(100) + b"a" * 1500, bytes(100) + b"a" * 412} <= left
    assert all(set(content[100:512]) in (set(), {0}, {ord("a")}) for content in left)
