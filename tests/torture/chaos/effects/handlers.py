"""The handlers of the workers whose calls have effects: they leave marks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torture.chaos.effects.marks import What, leave, read_marks

from dte.handlers.registry import handler
from dte.wire.current_call import current_call

WORKER = "CHAOS_WORKER"
"""The environment variable with the name of the worker."""
ON_PURPOSE = "it fails on purpose"


class OnPurpose(Exception):
    """A handler fails as it was asked to."""


@contextmanager
def _marked(call: str, fails: int, *, shares: bool) -> Iterator[None]:
    """Leave a mark at the beginning, and one at the end if it comes to that.

    Args:
        fails: how often it raises an exception before it succeeds.
    """
    worker, folder, current = os.environ.get(WORKER, ""), Path(), current_call()
    lease = 0 if current is None else current.lease
    leave(folder, call, What.BEGUN, lease, worker, shares=shares)
    yield
    raised = fails and sum(
        mark.call == call and mark.what is What.RAISED for mark in read_marks(folder)
    )
    if raised < fails:
        leave(folder, call, What.RAISED, lease, worker, shares=shares)
        raise OnPurpose(ON_PURPOSE)
    leave(folder, call, What.ENDED, lease, worker, shares=shares)


def _sum(weight: int, values: Sequence[int | None]) -> int:
    return weight + sum(value or 0 for value in values)


@handler("mark")
def mark(call: str, seconds: float, weight: int, values: list[int | None], fails: int) -> int:
    """Leave marks around a pause, and add up the results of other calls."""
    with _marked(call, fails, shares=False):
        time.sleep(seconds)
    return _sum(weight, values)


@handler("mark_async")
async def mark_async(
    call: str, seconds: float, weight: int, values: list[int | None], fails: int
) -> int:
    """As `mark`, in a process with other calls."""
    with _marked(call, fails, shares=True):
        await asyncio.sleep(seconds)
    return _sum(weight, values)
