"""The log is read as SQLite has written it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dte.master.journal.wal import (
    FRAME_HEADER,
    HEADER,
    MAGIC,
    LogHeader,
    checksums,
    frames,
    log_of,
    read_header,
    unread_frames,
)

from .book import Book


def test_every_frame_of_a_log_is_whole_and_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    for answer in range(5):
        book.ended(answer)
    with closing(log_of(str(tmp_path / "dte.db")).open("rb")) as file:
        header = read_header(file)
        assert header is not None
        assert header.is_whole
        present = [each for each in frames(file, header) if each.salt == header.salt]
        assert len(present) > 10
        assert present[-1].pages > 0, "it ends a transaction"
        for frame in present:
            file.seek(frame.at)
            content = file.read(header.page_bytes)
            assert frame.is_whole(content, header.order)
            changed = content[:99] + bytes([content[99] ^ 1]) + content[100:]
            assert not frame.is_whole(changed, header.order)
    book.close()


def test_a_file_that_is_too_short_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(31))
    with (tmp_path / "log").open("rb") as file:
        assert read_header(file) is None


def test_checksums_follow_from_those_before() -> None:
    """By the rule in the description of the format."""
    words = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    assert checksums(words, [0, 0], "<") == [1, 3]
    assert checksums(words, [5, 7], "<") == [13, 22]
    assert checksums(words, [0, 0], ">") == [0x0100_0000, 0x0300_0000]


# Frames that SQLite will not read

SALT = b"presents"
PAGE_BYTES = 4_096
FRAME_BYTES = FRAME_HEADER.size + PAGE_BYTES


class Log:
    """A log, written as SQLite does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header = LogHeader(MAGIC, 3_007_000, PAGE_BYTES, 0, SALT, 0, 0)
        self.sums = checksums(HEADER.pack(*header)[: HEADER.size - 8], [0, 0], "<")
        first, second = self.sums
        self.content = bytearray(HEADER.pack(*header._replace(first_sum=first, second_sum=second)))

    def transaction(self, *fill: int) -> None:
        """Add a frame for each page, whose bytes are given."""
        for number, byte in enumerate(fill, 1):
            page = bytes([byte]) * PAGE_BYTES
            head = FRAME_HEADER.pack(number, 9 if number == len(fill) else 0, SALT, 0, 0)[:-8]
            self.sums = checksums(head[:8] + page, self.sums, "<")
            self.content += head + FRAME_HEADER.pack(0, 0, SALT, *self.sums)[-8:] + page

    def unread(self) -> tuple[int, int, int] | None:
        self.path.write_bytes(self.content)
        return unread_frames(self.path)


def test_frames_behind_a_damaged_one_are_unread_if_a_transaction_of_them_is_whole(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "log")
    for _ in range(4):
        log.transaction(1, 2, 3)
    assert log.unread() is None
    log.content[HEADER.size + 4 * FRAME_BYTES + 99] ^= 1
    assert log.unread() == (5, 4, 12)


def test_an_interrupted_transaction_has_no_unread_frames(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.transaction(1, 2)
    log.transaction(3, 4, 5, 6)
    for number in (2, 3, 4):
        log.content[HEADER.size + number * FRAME_BYTES + 99] ^= 1
        assert log.unread() is None


def test_frames_of_failed_transactions_behind_an_interrupted_one_are_not_unread(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "log")
    log.transaction(1)
    before = len(log.content), log.sums
    left = bytearray()
    for fill in ((2, 3, 4, 5, 6, 7), (8, 9, 10), (11,)):
        log.content[before[0] :], log.sums = b"", before[1]
        log.transaction(*fill)
        left[: len(log.content)] = log.content
    log.content = left
    assert len(left) == HEADER.size + 7 * FRAME_BYTES
    assert log.unread() is None
    log.content[HEADER.size + FRAME_BYTES + 99] ^= 1
    assert log.unread() is None


def test_a_head_that_mixes_two_sectors_does_not_end_a_transaction(tmp_path: Path) -> None:
    """The power ended as the first frame of a transaction was written over one from before."""
    log = Log(tmp_path / "log")
    for _ in range(41):
        log.transaction(1)
    at = len(log.content)
    assert (at + 8) % 512 == 0, "a sector begins within the head"
    log.transaction(2, 3, 4)
    log.content[at : at + 8] = FRAME_HEADER.pack(7, 9, SALT, 0, 0)[:8]
    assert log.unread() is None
