"""Plays again what `faulty_disk.c` saw being done to files, and cuts the power anywhere.

Of each file there is what the system shows, and what is on the disk for sure. A sync that succeeds
makes them the same. After one that fails the system still shows what was written, but takes it for
clean: it is never written again unless somebody writes it again, and an end of the power loses it.
This is how Linux does it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

HEAD = struct.Struct("=c47sqqq")
SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Record:
    """Something done to a file.

    Attributes:
        what: ``w`` it was written, ``t`` its length was changed, ``s`` it was synced, ``f`` that
            failed, ``d`` it was deleted.
        name: of the file.
        offset: where it was written.
        length: of what was written, or to which it was changed.
        data: what was written.
    """

    what: str
    name: str
    offset: int
    length: int
    data: bytes


def read_log(path: Path) -> list[Record]:
    """The records of a log, in order."""
    log, place, records = path.read_bytes(), 0, []
    while place < len(log):
        what, name, offset, length, size = HEAD.unpack_from(log, place)
        place += HEAD.size
        data = log[place : place + size]
        place += size
        records.append(Record(what.decode(), name.rstrip(b"\0").decode(), offset, length, data))
    return records


class Disk:
    """Files while they are written, by name.

    Attributes:
        shown: what the system shows of each.
    """

    def __init__(self) -> None:
        self.shown: dict[str, bytearray] = {}
        self._sure: dict[str, bytearray] = {}
        self._pending: defaultdict[str, list[Record]] = defaultdict(list)

    def do(self, record: Record) -> None:
        """Do the next thing."""
        name = record.name
        if record.what == "d":
            self._pending.pop(name, None)
            self.shown.pop(name, None)
            self._sure.pop(name, None)
        elif record.what == "f":
            self._pending[name].clear()
        elif record.what == "s":
            for pending in self._pending.pop(name, ()):
                _change(self._sure.setdefault(name, bytearray()), pending)
        else:
            _change(self.shown.setdefault(name, bytearray()), record)
            self._pending[name].append(record)

    def without_power(self, random: Random | None = None) -> dict[str, bytearray]:
        """The files that are left when the power ends now.

        Args:
            random: decides which sectors that were not synced are left nevertheless; without it,
                none are.
        """
        left = {name: bytearray(content) for name, content in self._sure.items()}
        if random is not None:
            for name, pending in self._pending.items():
                for record in pending:
                    for part in _sectors(record):
                        if random.random() < 0.5:
                            _change(left.setdefault(name, bytearray()), part)
        return left


def _change(content: bytearray, record: Record) -> None:
    if record.what == "t":
        del content[record.length :]
        content.extend(bytes(record.length - len(content)))
        return
    content.extend(bytes(max(0, record.offset - len(content))))
    content[record.offset : record.offset + record.length] = record.data


def _sectors(record: Record) -> Iterator[Record]:
    """A write cut where sectors begin."""
    if record.what == "t":
        yield record
        return
    start, end = record.offset, record.offset + record.length
    while start < end:
        stop = min(end, start - start % SECTOR_BYTES + SECTOR_BYTES)
        data = record.data[start - record.offset : stop - record.offset]
        yield Record("w", record.name, start, len(data), data)
        start = stop
