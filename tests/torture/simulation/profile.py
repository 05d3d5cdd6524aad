"""What the world of a seed is like: chance decides about each of its sides once.

Each seed has only some kinds of accidents, some bad weather, some odd bounds: two of them alone may
meet what all together would hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from torture.simulation.accidents import (
    ACCIDENTS,
    HARD_ON_WORKERS,
    OF_DISKS_AND_STARTS,
    PAUSES,
    RARE,
    TROUBLES,
)
from torture.simulation.clients import Habits
from torture.simulation.formulas import Shares
from torture.simulation.network import Weather
from torture.simulation.plans import HANDLERS
from torture.simulation.workers import WorkerKind

from dte.core.arithmetic import scheduler as arithmetic
from dte.core.calls import awaited, cancels
from dte.core.calls import jobs as call_jobs
from dte.core.calls import scheduler as calls
from dte.core.formula import formula
from dte.core.graph import calls as graph_calls
from dte.core.jobs import job, outbox
from dte.core.jobs import table as jobs
from dte.core.workers import availability
from dte.master import archive, parsing
from dte.master import jobs as master_jobs
from dte.master.dispatch import batches as dispatch
from dte.master.journal import journal, recorder, retention
from dte.master.journal import rows as journal_rows
from dte.master.loop import TURN_S
from dte.master.settings import Settings

Knob = tuple[Sequence[object], str, float]

PRUNES_ALWAYS: Knob = ((retention,), "PRUNE_S", 0.0)
KNOBS: list[Knob] = [
    ((outbox,), "FACTS_MAX", 2),
    ((jobs,), "SWEEP_OPERATIONS", 5),
    ((arithmetic,), "LEASES_IN_TICK", 1),
    ((arithmetic,), "OPERATIONS_IN_TICK", 3),
    ((availability,), "FORGET_S", 40.0),
    ((availability,), "BATCH_FIRST", 1),
    ((formula, master_jobs, parsing), "SLICE_CHARS", 12),
    ((job, master_jobs, archive), "TASK_CHARS_KEPT", 40),
    ((journal,), "TEXTS_CHARS", 30),
    ((journal_rows,), "ROWS_BYTES", 100),
    ((retention,), "PRUNED_AT_LEAST", 1),
    PRUNES_ALWAYS,
    ((recorder,), "PRUNE_S", 0.5),
    ((dispatch,), "LATE_S", 0.5),
]
"""Numbers in dte that a small world would never come up to, with those that it meets soon."""
CALL_KNOBS: list[Knob] = [
    ((calls,), "LEASES_IN_TICK", 1),
    ((call_jobs,), "RESTORED_S", 1.0),
    ((journal_rows,), "FIELD_CHARS_MAX", 5),
]
LONG_KNOBS: list[Knob] = [
    ((graph_calls,), "SLICE", 1),
    ((graph_calls, call_jobs, cancels), "CALLS_IN_SLICE", 1),
    ((call_jobs,), "FEW", 0),
    ((awaited,), "UNBLOCKED_IN_SLICE", 1),
]
"""Those by which each job with calls is a long one, whose calls begin and end in slices."""
LONG = 0.3
"""How many worlds with calls have long jobs."""
CALLING = 0.4
"""How many worlds have calls."""


PAUSING = 0.15
"""How many worlds have a master that pauses, of those whose leases last many turns of its loop."""
TURNS_OF_A_LEASE = 4
TROUBLING = 0.5
"""How many worlds with calls have workers in trouble, if little else happens to workers."""
BESIDE_PAUSES = ("the clock steps", "the disk is slow", "the master crashes", "the master is ended")


class Profile:
    """The world of a seed.

    Attributes:
        pauses: the master pauses, and nothing happens to workers or the network.
        troubles: workers cannot begin calls, or cannot be called, for a while.
        calm: nothing else happens to these workers, or to the network.
        journaled: whether the master has a journal; else nothing happens to its process.
        forgets: the journal keeps few jobs and keys.
        gentle: there are formulas that harm workers, and so little else happens to workers that no
            other formula can be blamed.
        lasts_s: how long things happen.
        takes_s: about how long a worker takes for a request.
        calling: how many submissions are jobs with calls; 0 for none, and no handlers.
    """

    def __init__(self, random: Random, seed: int) -> None:
        self.journaled = random.random() < 0.95
        self.forgets = self.journaled and random.random() < 0.15
        harmful = random.random() < 0.35
        self.gentle = harmful and random.random() < 0.6
        self.lasts_s = random.uniform(1.0, 12.0)
        self.lease_s = random.choice((0.5, 2.0, 5.0))
        self.heartbeat_s = max(1.0, self.lease_s)
        self.takes_s = random.choice((0.003, 0.003, 0.05, 0.3 * self.lease_s))
        self.settings = self._settings(random)
        self.weather = self._weather(random)
        self.workers = [self._worker(random) for _ in range(random.choice((1, 2, 2, 3, 4)))]
        self.clients = random.randint(1, 3)
        self.habits = self._habits(random)
        self.shares = Shares(
            lone=10.0 if self.forgets else random.choice((1.0, 1.0, 1.0, 10.0)),
            large=0.5 if self.takes_s < 0.01 and random.random() < 0.5 else 0.0,
            harmful=1.5 if harmful else 0.0,
        )
        self.accidents = [name for name in ACCIDENTS if name not in RARE and random.random() < 0.3]
        if self.gentle:
            self.accidents = [name for name in self.accidents if name not in HARD_ON_WORKERS]
        if not self.journaled:
            self.accidents = [name for name in self.accidents if name not in OF_DISKS_AND_STARTS]
        self.knobs = [knob for knob in KNOBS if random.random() < 0.15]
        if self.forgets and PRUNES_ALWAYS not in self.knobs:
            self.knobs.append(PRUNES_ALWAYS)
        # From another source of chance, so that worlds without calls stay as they were.
        self._add_calls(Random(f"calls {seed}"))
        self._pause(Random(f"pauses {seed}"))
        self._trouble(Random(f"troubles {seed}"))
        if self.calling and Random(f"long {seed}").random() < LONG:
            self.knobs += LONG_KNOBS

    @property
    def workers_forgotten(self) -> bool:
        """Whether the master may forget a worker that announces itself once: when it could not
        write it down, or knows as many others as it may."""
        disk_fails = any("the disk" in name for name in self.accidents)
        return self.forgets or disk_fails or self.settings.workers_max < len(self.workers)

    @property
    def restarts_unnoticed(self) -> bool:
        """Whether a worker may start anew without the master being able to tell."""
        return any(not kind.modern and not kind.renames for kind in self.workers)

    def __str__(self) -> str:
        words = [name for name in ("journaled", "forgets", "gentle") if getattr(self, name)]
        modern = [f"{kind.slots} slots" for kind in self.workers if kind.modern]
        lines = [
            f"{', '.join(words)}; leases of {self.lease_s} s, requests of {self.takes_s} s",
            f"{len(modern)} workers of dte ({', '.join(modern)}), "
            f"{len(self.workers) - len(modern)} like the seed's; {self.clients} clients",
            f"network: {self.weather}",
            f"calls: {self.calling}; " + ", ".join(map(_described, self.workers)),
            f"accidents: {', '.join(self.accidents) or 'none'}",
            f"odd bounds: {', '.join(name for _, name, _ in self.knobs) or 'none'}",
        ]
        return "\n".join(lines)

    def _add_calls(self, random: Random) -> None:
        """Have jobs with calls in some worlds, and workers with handlers."""
        self.calling = random.choice((0.3, 0.7, 1.0)) if random.random() < CALLING else 0.0
        if not self.calling:
            return
        self.habits = replace(self.habits, calling=self.calling)
        self.settings = replace(
            self.settings,
            retry_pause_s=random.choice((0.02, 0.2)),
            retry_pause_max_s=2.0,
            workers_max=1000,  # Else one that alone has a handler might have no place.
        )
        self.calls_take_s = random.choice((0.005, 0.05, 0.3 * self.lease_s))
        if random.random() < 0.15:
            self.workers = self.workers[:1]
        self.workers = [self._with_handlers(random, kind) for kind in self.workers]
        # Somebody can do each call in the end.
        first = self.workers[0]
        reach = first.reach if first.handlers else "push"
        self.workers[0] = replace(
            first,
            modern=True,
            handlers=tuple(HANDLERS),
            batch_max=1 if reach == "hold" else max(2, first.batch_max),
            reach=reach,
            extends=True,
            handler_slots=max(1, first.handler_slots),
            calls_take_s=self.calls_take_s,
            lease_s=self.lease_s,
        )
        self.knobs += [knob for knob in CALL_KNOBS if random.random() < 0.2]

    def _pause(self, random: Random) -> None:
        """Have the master pause in some worlds, in which nothing can be blamed on a worker."""
        lasts = self.lease_s > TURNS_OF_A_LEASE * TURN_S
        self.pauses = random.random() < PAUSING and lasts
        if not self.pauses:
            return
        self._spare_workers(random)
        self.accidents.insert(0, PAUSES)

    def _trouble(self, random: Random) -> None:
        """Have workers in trouble in some worlds."""
        may = bool(self.calling) and not self.gentle and not self.pauses
        self.troubles = may and random.random() < TROUBLING
        self.calm = self.troubles and random.random() < 0.6
        if not self.troubles:
            return
        if self.calm:
            self._spare_workers(random)
        chosen = [name for name in TROUBLES if random.random() < 0.5]
        self.accidents += chosen or [random.choice(list(TROUBLES))]

    def _spare_workers(self, random: Random) -> None:
        """Let nothing happen to the network and to workers, so that nothing is their fault."""
        self.gentle, self.weather = False, Weather()
        self.shares = replace(self.shares, harmful=0.0)
        self.workers = [
            replace(
                kind,
                slow=0.0,
                senseless=0.0,
                extends=True,
                patient=True,
                batch_max=max(2, kind.batch_max) if kind.reach == "hold" else kind.batch_max,
                reach="push" if kind.reach == "hold" else kind.reach,
            )
            for kind in self.workers
        ]
        self.accidents = [name for name in BESIDE_PAUSES if random.random() < 0.3]
        if not self.journaled:
            self.accidents = [name for name in self.accidents if name not in OF_DISKS_AND_STARTS]

    def _with_handlers(self, random: Random, kind: WorkerKind) -> WorkerKind:
        """A worker of a kind that has handlers, or has none after all."""
        if random.random() < 0.2:
            return kind
        reach = random.choice(("push", "push", "hold", "pull"))
        if reach == "pull" and self.gentle:
            reach = "push"
        return replace(
            kind,
            modern=True,
            batch_max=1 if reach == "hold" else max(2, kind.batch_max),
            reach=reach,
            handlers=tuple(name for name in HANDLERS if random.random() < 0.7) or ("mix",),
            handler_slots=random.choice((1, 1, 2, 4)),
            extends=reach != "pull" or random.random() < 0.7,
            calls_take_s=self.calls_take_s,
            lease_s=self.lease_s,
        )

    def _settings(self, random: Random) -> Settings:
        few = random.random() < 0.2
        return Settings(
            journal=":memory:" if self.journaled else "none",
            jobs_waiting_max=random.choice((8, 30)) if few else 100_000,
            operations_waiting_max=500 if few else 4_000_000,
            jobs_kept=random.choice((1, 5, 100)) if self.journaled else 1000,
            workers_max=random.choice((2, 1000, 1000)),
            lease_s=self.lease_s,
            heartbeat_s=self.heartbeat_s,
            dead_after_s=2.5 * self.heartbeat_s,
            journal_jobs_max=random.choice((1, 3, 30)) if self.forgets else 1_000_000,
        )

    def _weather(self, random: Random) -> Weather:
        if self.gentle or random.random() < 0.4:
            return Weather()
        return Weather(
            delay_s=random.choice((0.0005, 0.002, 0.02, 0.2)),
            delayed=random.choice((0.0, 0.02, 0.1)),
            delayed_s=2 * self.lease_s,
            lost=random.choice((0.0, 0.01, 0.05)),
            broken=random.choice((0.0, 0.01, 0.05)),
            doubled=random.choice((0.0, 0.05, 0.2)),
        )

    def _worker(self, random: Random) -> WorkerKind:
        modern = random.random() < 0.7
        return WorkerKind(
            modern=modern,
            slots=random.randint(1, 4) if modern else 1,
            batch_max=random.choice((2, 64, 1024)) if modern else 1,
            heartbeat_s=self.heartbeat_s,
            renames=random.random() < 0.5,
            takes_s=self.takes_s,
            slow=0.0 if self.gentle else random.choice((0.0, 0.0, 0.02)),
            slow_s=2.5 * self.lease_s,
            senseless=0.0 if self.gentle else random.choice((0.0, 0.0, 0.03)),
            restart_s=random.choice((0.1, 1.0, 5.0)),
        )

    def _habits(self, random: Random) -> Habits:
        submissions = random.randint(2, 6)
        return Habits(
            submissions=submissions,
            batch_max=random.choice((2, 6)),
            keyed=random.choice((0.5, 1.0)),
            pause_s=1.5 * self.lasts_s / submissions,
            forgiving=self.forgets,
            calling=0.0,
        )


def _described(kind: WorkerKind) -> str:
    if not kind.handlers:
        return "none"
    return f"{kind.reach} {'/'.join(kind.handlers)}, {kind.handler_slots} at a time"
