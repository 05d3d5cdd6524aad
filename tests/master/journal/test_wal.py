"""The log is read as SQLite has written it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dte.master.journal.wal import checksums, frames, log_of, read_header

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
