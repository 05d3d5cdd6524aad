"""Ends the process of a master at every commit in turn, and goes on from its journal.

    python -m disk.crashes FOLDER core|master

Each life runs in a fork of this process, which has imported everything. A process ends right before
a commit, or right after it and before anybody was told; the next one, from the same file, ends at
one of its first commits; the third must do what is left. It prints JSON: how many commits a life
without an end has, how many processes ended, and what was wrong with the journals.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from torture.disk.life import TOLD, Life, read_told
from torture.disk.service import serve
from torture.disk.verify import problems, read_copy

DIED, FAILED = 70, 71
SECOND_LIFE_COMMITS = 5
"""Within how many commits the second life ends."""


class Mortal(sqlite3.Connection):
    """A connection whose process ends at one of its commits, or of its checkpoints.

    Attributes:
        commits_left: how many commits there are, that one included; 0 for no end.
        after: it ends right after that commit, instead of right before it.
    """

    commits_left = 0
    after = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._committing(super().execute, sql, *values, commits=self._commits(sql))

    def executescript(self, sql: str) -> sqlite3.Cursor:
        return self._committing(super().executescript, sql, commits=True)

    def _commits(self, sql: str) -> bool:
        if self.in_transaction:
            return sql == "COMMIT"
        changes = sql.split()[0] in ("UPDATE", "INSERT", "DELETE")
        return changes or "journal_mode" in sql or "wal_checkpoint" in sql

    def _committing(
        self, call: Callable[..., sqlite3.Cursor], *arguments: Any, commits: bool
    ) -> sqlite3.Cursor:
        cls = type(self)
        cls.commits_left -= commits
        dies = commits and cls.commits_left == 0
        if dies and not self.after:
            os._exit(DIED)
        cursor = call(*arguments)
        if dies:
            os._exit(DIED)
        return cursor


LIVES: dict[str, Callable[[Path], None]] = {
    "core": lambda folder: Life(folder).go_on(),
    "master": serve,
}
"""What lives, with a journal in a folder."""


def mortal(live: Callable[[Path], None], folder: Path, commits: int, after: bool) -> None:
    """Live until that commit."""
    Mortal.commits_left, Mortal.after = commits, after
    sqlite3.connect = partial(sqlite3.connect, factory=Mortal)  # type: ignore[assignment]
    live(folder)


def in_a_fork(work: Callable[[], None]) -> int:
    """Do something in a fork of this process; its exit code, 0 if it came to its end."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash(kind: str, folder: Path, ends: list[int], after: bool) -> tuple[int, list[str]]:
    """One history of lives, each of which ends at a commit; how the first ended, what was wrong."""
    found: list[str] = []
    ended = []
    for commits in ends:
        ended.append(in_a_fork(partial(mortal, LIVES[kind], folder, commits, after)))
        if ended[-1] not in (0, DIED):
            found.append(f"life {len(ended)} ended with exit code {ended[-1]}")
        content = read_copy(folder, folder.with_name("copy"))
        told, finished = read_told(folder / TOLD), ended[-1] == 0
        found += problems(content, told, finished=finished, plans=kind == "core")
    return ended[0], found


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    found: list[str] = []
    ends = 0
    for commits in count(1):
        going_on = False
        for after in (False, True) if kind == "core" else (commits % 2 == 0,):
            place = folder / "journal"
            place.mkdir()
            second = [1 + commits % SECOND_LIFE_COMMITS] if kind == "core" else []
            ended, wrong = crash(kind, place, [commits, *second, 0], after)
            shutil.rmtree(place)
            found += [f"commit {commits}, {'after' if after else 'before'}: {it}" for it in wrong]
            ends += ended == DIED
            going_on |= ended == DIED
        if not going_on:
            break
    print(json.dumps({"commits": commits - 1, "ends": ends, "problems": found}))


if __name__ == "__main__":
    main()
