"""Marks: the lines that calls leave in one file when they begin and when they end.

A line is written at once and whole, whatever becomes of its process a moment later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

FILE = "marks"
"""In the current folder of all workers."""


class What(StrEnum):
    """What a call says of itself."""

    BEGUN = "begun"
    ENDED = "ended"
    RAISED = "raised"


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the file.

    Attributes:
        call: the name of the job and that of the node, as `job/node`; a job that is run again has
            the names of the first.
        at: by `time.monotonic`.
        lease: the number of the lease under which it was begun.
        worker: the name of the worker.
        pid: the process of the handler.
        shares: other calls may run in that process.
    """

    call: str
    what: What
    at: float
    lease: int
    worker: str
    pid: int
    shares: bool = False


def leave(
    folder: Path, call: str, what: What, lease: int, worker: str, *, shares: bool = False
) -> None:
    """Leave a mark in a folder's file."""
    mark = Mark(call, what, time.monotonic(), lease, worker, os.getpid(), shares)
    line = json.dumps(asdict(mark)).encode() + b"\n"
    file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        written = os.write(file, line)
    finally:
        os.close(file)
    assert written == len(line), "a mark is written whole"


def read_marks(folder: Path) -> Iterator[Mark]:
    """The marks in a folder's file so far, in the order in which they were left."""
    path = folder / FILE
    if path.exists():
        for line in path.read_bytes().splitlines():
            fields = json.loads(line)
            yield Mark(**fields | {"what": What(fields["what"])})
