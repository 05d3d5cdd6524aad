"""The pages of a journal, those in its write-ahead log too, as far as they can be read.

The files are read and never written, and SQLite does not take part, as it refuses a damaged file.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from dte.master.journal.wal import (
    Frame,
    LogHeader,
    frames,
    log_of,
    native_magic,
    read_header,
)

MAGIC = b"SQLite format 3\0"
PAGE_BYTES = 4_096
"""The length of pages if no header is left to say it; it is that of every present SQLite."""
LOCK_AT, LOCK_BYTES = 0x4000_0002, 510
"""The bytes of the file that each process locks while it uses the file."""

GENERATIONS_MAX = 100_000
"""A log does not have frames of more generations."""


class InUse(Exception):
    """A master has the journal open."""


class Pages:
    """The pages of a journal's last commit, by their numbers from 1.

    Args:
        with_log: read the log as well.

    Attributes:
        page_bytes: the length of a page.
        count: the number of pages that may be there.
        count_once: the number of pages that the last commit had.
        header: the first 100 bytes, those of the file; None if they are damaged.
        log_damaged: the pages whose last version in the log is damaged.
        log_unknown: damaged parts of the log, each of a page that nobody knows.
        torn: the log ends with a transaction that is not whole.

    Raises:
        InUse: a master has the file open.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, *, with_log: bool = True) -> None:
        self._files = ExitStack()
        self._main = self._open(path)
        self._log: BinaryIO | None = None
        self._in_log: dict[int, int] = {}
        self.log_damaged, self.log_unknown, self.torn = set[int](), 0, False
        try:
            self._lock()
            header = self._header_of(_read(self._main, 0, 100))
            self.page_bytes = _page_bytes(header) if header else PAGE_BYTES
            pages = 0
            if with_log:
                with suppress(FileNotFoundError):
                    self._log = self._open(log_of(path))
                    pages = self._read_log(header is not None)
            self.header = self._header_of(self.read(1) or b"")
            in_file = os.fstat(self._main.fileno()).st_size // self.page_bytes
            self.count_once = pages or self.header_number(28)
            self.count = pages or self._pages_by_header(in_file) or in_file
            self._in_file = in_file
        except BaseException:
            self.close()
            raise

    def _open(self, path: str | Path) -> BinaryIO:
        return self._files.enter_context(open(path, "rb", buffering=0))

    def close(self) -> None:
        self._files.close()

    def read(self, number: int) -> bytes | None:
        """A page; None if it cannot be read."""
        at = self._in_log.get(number)
        if at is not None and self._log is not None:
            content = _read(self._log, at, self.page_bytes)
        else:
            content = _read(self._main, (number - 1) * self.page_bytes, self.page_bytes)
        return content if len(content) == self.page_bytes else None

    @property
    def pages_in_log(self) -> int:
        """The number of pages whose last version is in the log."""
        return len(self._in_log)

    @property
    def cut(self) -> tuple[int, int] | None:
        """The number of pages left, and of those there were, of a file that was cut short."""
        log = sum(number > self._in_file for number in self._in_log)
        left = min(self._in_file, self.count_once) + log
        return (left, self.count_once) if left < self.count_once else None

    @property
    def usable(self) -> int:
        """The bytes of a page that can be used."""
        return self.page_bytes - (self.header[20] if self.header else 0)

    def header_number(self, at: int) -> int:
        """A number in the header of the file; 0 if it is damaged."""
        return int.from_bytes(self.header[at : at + 4], "big") if self.header else 0

    def _lock(self) -> None:
        """Keep masters away until the file is closed."""
        try:
            fcntl.lockf(self._main, fcntl.LOCK_SH | fcntl.LOCK_NB, LOCK_BYTES, LOCK_AT)
        except OSError:
            raise InUse from None

    def _header_of(self, page: bytes) -> bytes | None:
        header = page[:100]
        return header if header.startswith(MAGIC) and _page_bytes(header) else None

    def _pages_by_header(self, in_file: int) -> int:
        """The number of pages that the header gives, if it can be true."""
        pages = self.header_number(28)
        return pages if pages <= in_file else 0

    # The log

    def _read_log(self, page_bytes_known: bool) -> int:
        """Find the last versions of pages in the log; return the pages of its last transaction."""
        assert self._log is not None
        header = read_header(self._log)
        if header is None:
            return 0
        if not header.is_whole:
            header = self._guess_header(header)
        if not page_bytes_known:
            self.page_bytes = header.page_bytes
        pages = 0
        for transaction in self._transactions(header):
            for number, at in transaction.found.items():
                self._in_log[number] = at
                self.log_damaged.discard(number)
            pages = transaction.pages
            damaged = transaction.damaged - transaction.found.keys()
            possible = {number for number in damaged if 1 <= number <= pages}
            self.log_damaged |= possible
            self.log_unknown += transaction.unknown + len(damaged - possible)
        return pages

    def _guess_header(self, header: LogHeader) -> LogHeader:
        """Replace a damaged header by what most frames say."""
        guess = header._replace(magic=native_magic(), page_bytes=self.page_bytes)
        assert self._log is not None
        salts = Counter(frame.salt for frame in frames(self._log, guess))
        for salt, _ in salts.most_common(1):
            guess = guess._replace(salt=salt)
        return guess

    def _transactions(self, header: LogHeader) -> Iterator[_Transaction]:
        """The transactions of the log. A damaged frame costs its page.

        The last ones do not count if some of their frames were never written, as after a loss of
        power: nobody was told of them.
        """
        assert self._log is not None
        waiting: list[_Transaction] = []
        current = _Transaction()
        is_known = header.is_whole
        for frame in frames(self._log, header):
            was_known, is_known = is_known, frame.salt == header.salt
            if not is_known:
                current.is_written &= not _is_older(frame.salt, header.salt)
                current.unknown += 1
                continue
            content = _read(self._log, frame.at, header.page_bytes)
            if len(content) < header.page_bytes or (
                was_known and not frame.is_whole(content, header.order)
            ):
                current.damaged.add(frame.page)
                continue
            current.note(frame)
            if frame.pages:
                waiting.append(current)
                if current.is_written:
                    yield from waiting
                    waiting = []
                current = _Transaction()
        self.torn = bool(waiting)


class _Transaction:
    """The pages of a transaction: their places in the log.

    Attributes:
        pages: the length of the database after it.
        is_written: none of its frames is one from before.
        unknown: frames whose headers are damaged, or older ones.
    """

    def __init__(self) -> None:
        self.found: dict[int, int] = {}
        self.damaged: set[int] = set()
        self.is_written = True
        self.unknown = 0
        self.pages = 0

    def note(self, frame: Frame) -> None:
        self.found[frame.page] = frame.at
        self.damaged.discard(frame.page)
        self.pages = frame.pages


def _is_older(salt: bytes, present: bytes) -> bool:
    """True for the salt of a frame from before the log began anew, or of one never written.

    The first half of the salt counts how often the log began.
    """
    ago = int.from_bytes(present[:4], "big") - int.from_bytes(salt[:4], "big")
    return not any(salt) or 0 < ago % 2**32 < GENERATIONS_MAX


def _page_bytes(header: bytes) -> int:
    """The length of pages by a header; 0 if that is damaged."""
    size = int.from_bytes(header[16:18], "big")
    size = 65_536 if size == 1 else size
    return size if size >= 512 and not size & (size - 1) else 0


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    """Some bytes of a file; none if the disk cannot read them."""
    try:
        return os.pread(file.fileno(), size, at)
    except OSError:
        return b""
