"""One way to overload a master, and its bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """One way to overload a master.

    Attributes:
        name: its row in the table.
        act: does it for some seconds, and counts the replies.
        prepare: done before anything is measured.
        workers: how many there are.
        settings: of the master.
        make_journal: makes the journal with which the master starts.
        of_worker: done to the port of a worker, and measured there.
        health_p99_ms: the scenario fails if the p99 of GET /health is higher.
        memory_mb_most: the scenario fails if the master takes more memory.
        turn_s_most: the scenario fails if a turn of the master's loop takes longer.
        none_of: the scenario fails if anything is counted by one of these names.
    """

    name: str
    act: Callable[[int, float], Coroutine[Any, Any, Counter[str]]]
    prepare: Callable[[int], None] = lambda port: None
    workers: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    make_journal: Callable[[Path], None] | None = None
    of_worker: bool = False
    health_p99_ms: float | None = None
    memory_mb_most: float | None = None
    turn_s_most: float | None = None
    none_of: tuple[str, ...] = ()
