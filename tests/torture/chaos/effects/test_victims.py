"""A process is killed only in the midst of a call that leaves marks, and has it to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from torture.chaos.effects.marks import FILE, What, leave, read_marks
from torture.chaos.effects.victims import Victims


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    yield process
    process.kill()
    process.wait()


def mark(folder: Path, pid: int, what: What, *, shares: bool = False) -> None:
    """Leave a mark of another process."""
    leave(folder, "effect-3/a", what, 7, "w1", shares=shares)
    path = folder / FILE
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {pid}'))


def test_marks_are_read_as_they_were_left(tmp_path: Path) -> None:
    assert [*read_marks(tmp_path)] == []
    leave(tmp_path, "effect-3/a", What.BEGUN, 7, "w1")
    leave(tmp_path, "effect-3/a", What.ENDED, 7, "w1", shares=True)
    begun, ended = read_marks(tmp_path)
    assert (begun.call, begun.what, begun.lease) == ("effect-3/a", What.BEGUN, 7)
    assert (begun.worker, begun.pid, begun.shares) == ("w1", os.getpid(), False)
    assert ended.what is What.ENDED
    assert ended.shares
    assert ended.at >= begun.at


def test_a_process_in_a_call_is_killed(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    mark(tmp_path, process.pid, What.BEGUN)
    victims = Victims(tmp_path, Random(1))
    assert victims.kill_one([os.getpid()]) == process.pid
    assert process.wait(timeout=60) == -9
    assert victims.jobs == {"effect-3"}


def test_others_are_left_alone(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    victims = Victims(tmp_path, Random(1))
    mark(tmp_path, process.pid, What.BEGUN)
    assert victims.kill_one([process.pid]) is None, "it is the child of another"
    mark(tmp_path, process.pid, What.ENDED)
    assert victims.kill_one([os.getpid()]) is None, "its call has ended"
    mark(tmp_path, process.pid, What.BEGUN, shares=True)
    assert victims.kill_one([os.getpid()]) is None, "other calls run in it"
    assert (process.poll(), victims.jobs) == (None, set())
