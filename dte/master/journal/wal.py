"""Reads SQLite's write-ahead log, by the format in https://www.sqlite.org/fileformat2.html#walformat.

A log is a header and frames. A frame is a page as a transaction left it. The last frame of a
transaction says so. The log begins anew after a checkpoint, with another salt; frames with the
former salt may be left behind the new ones. The checksum of a frame follows from that of the frame
before it.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER = struct.Struct(">IIII8sII")
FRAME_HEADER = struct.Struct(">II8sII")
SALT_AT = 8
"""The place of the salt in the header of a frame."""
MAGIC = 0x377F0682
"""The lowest bit beside it: checksums take numbers with the highest byte first."""
SECTOR_BYTES = 512
"""Every disk writes at least so much whole or not at all."""


class LogHeader(NamedTuple):
    """The first bytes of a log."""

    magic: int
    version: int
    page_bytes: int
    checkpoints: int
    salt: bytes
    first_sum: int
    second_sum: int

    @property
    def order(self) -> str:
        """The order of bytes in the numbers of which checksums are made, for `struct`."""
        return ">" if self.magic & 1 else "<"

    @property
    def sums(self) -> list[int]:
        return [self.first_sum, self.second_sum]

    @property
    def is_whole(self) -> bool:
        """True if its checksum is right."""
        content = HEADER.pack(*self)[: HEADER.size - 8]
        return self.magic | 1 == MAGIC | 1 and checksums(content, [0, 0], self.order) == self.sums


class Frame(NamedTuple):
    """The header of a frame.

    Attributes:
        page: the number of its page.
        pages: the length of the database in pages after its transaction; 0 unless it is the last
            frame of a transaction.
        before: the checksums of the frame before.
        at: the place of the page in the log.
    """

    page: int
    pages: int
    salt: bytes
    sums: list[int]
    before: list[int]
    at: int

    def is_whole(self, content: bytes, order: str) -> bool:
        """True if the content of its page has the checksum of the frame."""
        head = FRAME_HEADER.pack(self.page, self.pages, self.salt, *self.sums)[:SALT_AT]
        return checksums(head + content, self.before, order) == self.sums

    @property
    def has_whole_head(self) -> bool:
        """True if its header is in one sector, so a loss of power cannot mix it with another."""
        return (self.at - FRAME_HEADER.size) // SECTOR_BYTES == (self.at - 1) // SECTOR_BYTES


class Unread(NamedTuple):
    """Frames that SQLite will not read, by their numbers from 1.

    Attributes:
        damaged: the first one that is not whole.
        first, last: those of the transactions that are lost thereby.
    """

    damaged: int
    first: int
    last: int


def log_of(path: str) -> Path:
    """The log of a journal. SQLite puts it beside the file, not beside a link to it."""
    file = os.path.realpath(path) if os.path.islink(path) else path
    return Path(f"{file}-wal")


def read_header(file: BinaryIO) -> LogHeader | None:
    """The header of a log; None if the log has none."""
    raw = os.pread(file.fileno(), HEADER.size, 0)
    return LogHeader(*HEADER.unpack(raw)) if len(raw) == HEADER.size else None


def frames(file: BinaryIO, header: LogHeader) -> Iterator[Frame]:
    """All frames of a log, also those with another salt, and damaged ones."""
    before, at = header.sums, HEADER.size
    while len(raw := os.pread(file.fileno(), FRAME_HEADER.size, at)) == FRAME_HEADER.size:
        page, pages, salt, *sums = FRAME_HEADER.unpack(raw)
        yield Frame(page, pages, salt, sums, before, at + FRAME_HEADER.size)
        before = sums
        at += FRAME_HEADER.size + header.page_bytes


def has_transaction(file: BinaryIO, header: LogHeader) -> bool:
    """True if SQLite finds a transaction in a log, as its first one is whole."""
    if not header.is_whole:
        return False
    for frame in frames(file, header):
        content = os.pread(file.fileno(), header.page_bytes, frame.at)
        if len(content) < header.page_bytes or frame.salt != header.salt:
            return False
        if not frame.is_whole(content, header.order):
            return False
        if frame.pages:
            return True
    return False


def unread_frames(log: Path) -> Unread | None:
    """The frames that SQLite will not read, though a transaction among them is whole.

    A transaction that was being written when the power ended has none behind it, nor has one that
    failed: the next one is written over its beginning, so its other frames no longer follow.

    Returns:
        None if no transaction behind a damaged frame is whole.
    """
    with log.open("rb", buffering=0) as file:
        header = read_header(file)
        if header is None or not header.is_whole:
            return None
        damaged = last = 0
        first = 1
        begins = is_inside = False
        for number, frame in enumerate(frames(file, header), 1):
            is_present = frame.salt == header.salt
            content = os.pread(file.fileno(), header.page_bytes, frame.at) if is_present else b""
            is_whole = len(content) == header.page_bytes and frame.is_whole(content, header.order)
            if not is_whole:
                damaged = damaged or number
            elif frame.pages and not damaged:
                first = number + 1
            is_inside = damaged > 0 and is_whole and (begins or is_inside)
            if is_inside and frame.pages:
                last = number
            begins = is_present and frame.pages > 0 and (is_whole or frame.has_whole_head)
        return Unread(damaged, first, last) if last else None


def checksums(content: bytes, before: list[int], order: str) -> list[int]:
    """The checksums after some bytes, which follow from those before."""
    first, second = before
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFF_FFFF
        second = (second + odd + first) & 0xFFFF_FFFF
    return [first, second]


def native_magic() -> int:
    """The magic number of logs that are written on this machine."""
    return MAGIC | (sys.byteorder == "big")
