"""The process of a master ends at every one of its commits. See `disk.crashes`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from harness.processes import run_module
from torture.disk.life import JOURNAL, TOLD, Life, read_told
from torture.disk.losses import possible
from torture.disk.verify import problems, read, read_copy

from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalRefused
from dte.master.journal.wal import frames, read_header

TIMEOUT_S = 120.0
CUTS = 25
GARBLED_BYTES = 100


@pytest.mark.parametrize("kind", ["core", "master"])
def test_nothing_that_was_told_is_lost_wherever_the_process_ends(
    memory_folder: Path, kind: str
) -> None:
    ran = run_module("torture.disk.crashes", str(memory_folder), kind, timeout_s=TIMEOUT_S)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["problems"] == [], ran.stderr
    assert report["ends"] > 10


@pytest.mark.parametrize("garbled", [False, True], ids=["cut off", "garbled"])
def test_whatever_is_missing_at_the_end_of_the_log_what_is_left_is_as_after_some_commit(
    memory_folder: Path, monkeypatch: pytest.MonkeyPatch, garbled: bool
) -> None:
    """As after a loss of power with a disk that did not do what it said.

    A log in which nothing is left is refused, and one with whole transactions behind the damage.
    """
    live, left = memory_folder / "live", memory_folder / "left"
    live.mkdir()
    left.mkdir()
    close = Journal.close

    def copy_and_close(journal: Journal) -> None:
        for name in (JOURNAL, f"{JOURNAL}-wal"):
            shutil.copyfile(live / name, left / name)
        close(journal)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", copy_and_close)
        Life(live).go_on()
    stands = every_stand(live)
    log = (left / f"{JOURNAL}-wal").read_bytes()
    ends = ends_of_transactions(left / f"{JOURNAL}-wal")
    random = Random(1)
    seen, refused = set(), 0
    for _ in range(CUTS):
        place = random.randrange(len(log))
        rest = random.randbytes(GARBLED_BYTES) + log[place + GARBLED_BYTES :] if garbled else b""
        case = memory_folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(left, case)
        (case / f"{JOURNAL}-wal").write_bytes(log[:place] + rest)
        content = read_copy(case, memory_folder / "copy")
        assert content.problems == []
        stand = {"waiting": sorted(content.waiting), "ended": sorted(content.ended)}
        assert stand in stands, f"cut at {place}"
        seen.add(stands.index(stand))
        # Whoever damages the end of a commit and the next one cuts off both.
        if place < ends[0] or (garbled and place < ends[-3]):
            refusals = r"damaged from its beginning|was cut from|frame \d+ of .* is damaged"
            with pytest.raises(JournalRefused, match=refusals):
                Life(case)
            refused += 1
            if place < ends[0]:
                continue
            Journal(str(case / JOURNAL), without_wal=True).close()
        elif garbled and place < ends[-2]:
            continue
        Life(case).go_on()
        assert problems(read(case / JOURNAL), read_told(case / TOLD), finished=True) == []
    assert len(seen) > len(stands) / 3
    assert refused > (CUTS / 3 if garbled else 0)


def ends_of_transactions(path: Path) -> list[int]:
    with path.open("rb") as log:
        header = read_header(log)
        assert header is not None
        return [
            frame.at + header.page_bytes
            for frame in frames(log, header)
            if frame.pages > 0 and frame.salt == header.salt
        ]


def every_stand(folder: Path) -> list[dict[str, list[int]]]:
    """The journal's states after each commit, and before the first."""
    told = read_told(folder / TOLD)
    ends = [number for number, line in enumerate(told) if line["what"] == "attempt"]
    return [possible(told[:0])[0], *(possible(told[: number + 1])[-1] for number in ends)]
