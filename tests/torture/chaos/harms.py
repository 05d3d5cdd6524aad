"""The record of what was done to whom, and when: by it, the accounting explains what it finds.

Times are those of `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from torture.chaos.proxy import Fault

FOREVER = float("inf")
MASTER = "master"
BREAKING = frozenset(set(Fault) - {Fault.NONE, Fault.LATENCY, Fault.SLOW})
"""The faults that break connections or silence them; the others only make them slow."""


class Kind(Enum):
    """The kinds of harm."""

    KILLED = "killed"
    ENDED = "ended"
    STOPPED = "stopped"
    CUT = "cut off"
    SLOW = "slow"
    """What passes between it and the master comes late."""
    LATE = "late"
    """The program that carries what passes between all of them stood still."""


DEATHS = (Kind.KILLED, Kind.ENDED)


@dataclass(slots=True)
class Harm:
    """A harm to one of the nodes; `name` is that of the node."""

    kind: Kind
    name: str
    since: float
    until: float = FOREVER

    def overlaps(self, since: float, until: float) -> bool:
        """True if some of it was between two moments."""
        return self.since <= until and self.until >= since


class Harms:
    """Every harm so far.

    Attributes:
        processes: the processes of handlers that were killed, and when.
    """

    def __init__(self) -> None:
        self._harms: list[Harm] = []
        self.processes: dict[int, float] = {}

    def begin(self, kind: Kind, name: str, now: float | None = None) -> Harm:
        """Note a harm that begins now; set its `until` when it is over."""
        harm = Harm(kind, name, time.monotonic() if now is None else now)
        self._harms.append(harm)
        return harm

    def over(self, harm: Harm, now: float | None = None) -> None:
        """Note that a harm is over."""
        harm.until = min(harm.until, time.monotonic() if now is None else now)

    def revived(self, name: str, now: float | None = None) -> None:
        """A node begins another life: it is neither dead nor stopped any more."""
        for harm in self._harms:
            if harm.name == name and harm.kind in (*DEATHS, Kind.STOPPED):
                self.over(harm, now)

    def to(
        self, name: str, since: float, until: float, kinds: Collection[Kind] = tuple(Kind)
    ) -> Iterator[Harm]:
        """The harms of some kinds that a node, or all, had between two moments."""
        for harm in self._harms:
            is_its = harm.name == name or harm.kind is Kind.LATE
            if is_its and harm.kind in kinds and harm.overlaps(since, until):
                yield harm

    def presence_s(self, name: str, since: float, until: float) -> float:
        """The time between two moments for which a node was neither dead nor stopped."""
        away = [
            (max(since, harm.since), min(until, harm.until))
            for harm in self.to(name, since, until, (*DEATHS, Kind.STOPPED))
        ]
        total, reached = max(0.0, until - since), since
        for begin, end in sorted(away):
            total -= max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return max(0.0, total)
