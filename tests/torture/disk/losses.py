"""Lets the power fail, and single calls on a disk, and looks at the journals that are left.

    python -m disk.losses FOLDER KIND STEP

It must run with `faulty_disk.c` preloaded, for the folder `journal` in FOLDER; whoever starts it
sees to that. It prints JSON: how often it looked, and what was wrong. KIND is one of:

    power    one life; after each of its calls the process ends, and before and after each sync the
             power: with what was synced alone, and with some of the sectors that were not
    EIO      a life for each call: the disk fails it once; then as above, around later syncs
    ENOSPC   a life for each call: for this one the disk is full; then the same

STEP is how many calls are passed over for each that is failed: 1 for none.
"""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

from torture.disk.crashes import in_a_fork
from torture.disk.faulty import FaultyDisk
from torture.disk.life import JOURNAL, TOLD, Life
from torture.disk.replay import Disk, Record, read_log
from torture.disk.verify import Told, problems, read

from dte.master.journal import generation
from dte.master.journal.generation import Cut, find_cut
from dte.master.journal.schema import JournalRefused

CHECKPOINT_PAGES = 30
"""So few that there are several checkpoints in a life."""
RANDOM_LOSSES = 2
SYNCS_LOOKED_AT = 8
"""The number of syncs around which the power fails after a call has failed."""


def live() -> None:
    """A life whose journal is often checkpointed; who is refused at the start tries again."""
    generation.LOG_PAGES = CHECKPOINT_PAGES
    folder = Path(sys.argv[1]) / "journal"
    try:
        life = Life(folder)
    except JournalRefused:
        life = Life(folder)
    life.go_on()


class Losses:
    """Lives in a folder, and what is left of their journals."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.disk = FaultyDisk(folder / "journal", Path())
        self.looked = 0
        self.found: list[str] = []

    def live(self) -> list[Record]:
        """A life from the beginning to its end; all that it did to its files."""
        journal, log = self._folder / "journal", self._folder / "log"
        shutil.rmtree(journal, ignore_errors=True)
        journal.mkdir()
        log.unlink(missing_ok=True)
        log.touch()
        exit_code = in_a_fork(live)
        if exit_code:
            self.found.append(f"the life ended with exit code {exit_code}")
        return read_log(log)

    def look(self, what: str, files: dict[str, bytearray], told: Told, *, end: bool) -> None:
        """Look at files that are left."""
        self.looked += 1
        left = self._folder / "left"
        shutil.rmtree(left, ignore_errors=True)
        left.mkdir()
        for name, bytes_left in files.items():
            (left / name).write_bytes(bytes_left)
        cut = cut_of(left / JOURNAL)
        content = read(left / JOURNAL)
        found = problems(content, told, finished=end)
        stand = {"waiting": sorted(content.waiting), "ended": sorted(content.ended)}
        if stand not in possible(told):
            found.append(f"{stand} is not among {possible(told)}")
        if cut is not None:
            found.append(f"the log is taken for {cut.value}")
        self.found += [f"{what}: {it}" for it in found]


def cut_of(journal: Path) -> Cut | None:
    """What a master that starts with these files thinks of the log."""
    if not journal.exists():
        return None
    with closing(sqlite3.connect(f"{journal.as_uri()}?immutable=1", uri=True)) as db:
        return find_cut(db, str(journal))


def possible(told: Told) -> list[dict[str, list[int]]]:
    """The states that a journal may have: that of its last commit, or of one tried since."""
    stands: list[dict[str, list[int]]] = [{"waiting": [], "ended": []}]
    for line in told:
        if line["what"] == "attempt":
            stands.append({"waiting": line["waiting"], "ended": line["ended"]})
        elif line["what"] == "done":
            stands = stands[-1:]
    return stands


def moments(records: list[Record]) -> Iterator[tuple[int, Record, Disk, Told]]:
    """Each moment after something was done, with the files, and what had been told by then."""
    disk = Disk()
    for number, record in enumerate(records, 1):
        disk.do(record)
        if record.name != TOLD:
            lines = bytes(disk.shown.get(TOLD, b"")).splitlines()
            yield number, record, disk, [json.loads(line) for line in lines]


def power(losses: Losses) -> None:
    records = losses.live()
    for number, _, disk, told in moments(records):
        last = number == len(records)
        losses.look(f"killed after call {number}", disk.shown, told, end=last)
    cut(losses, "", records, 0, len(records))


def cut(losses: Losses, what: str, records: list[Record], first: int, syncs: int) -> None:
    """Cut the power right before and right after some syncs, the first of which is known."""
    end = len(records)
    for number, record, disk, told in moments(records):
        before_sync = number < end and records[number].what in "sf"
        if number < first or syncs == 0 or not (record.what in "sf" or before_sync):
            continue
        syncs -= record.what in "sf"
        randoms = [None, *(Random(f"{number} {n}") for n in range(RANDOM_LOSSES))]
        for random in randoms:
            name = f"{what}no power after call {number}"
            losses.look(name, disk.without_power(random), told, end=False)


def fail(losses: Losses, call: int, error: int) -> None:
    """Look at what is left of a life in which one call fails."""
    losses.disk.behave(sync_errno=error, write_errno=error, only_call=call)
    records = losses.live()
    losses.disk.behave()
    what = f"{errno.errorcode[error]} at call {call}: "
    cut(losses, what, records, call, SYNCS_LOOKED_AT)
    *_, (_, _, disk, told) = moments(records)
    losses.look(f"{what}in the end", disk.shown, told, end=True)
    losses.look(f"{what}no power in the end", disk.without_power(), told, end=True)


def main() -> None:
    losses, kind, step = Losses(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    losses.disk.behave()
    if kind == "power":
        power(losses)
    else:
        calls = [record.name for record in losses.live() if record.what != "d"]
        to_fail = [number for number, name in enumerate(calls, 1) if name != TOLD]
        for number in to_fail[::step]:
            fail(losses, number, getattr(errno, kind))
    print(json.dumps({"looked": losses.looked, "problems": losses.found}))


if __name__ == "__main__":
    main()
