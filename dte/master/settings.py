"""The master's settings, with their defaults and their help texts.

The command line makes an option and an environment variable of each bound (`dte.cli.options`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from dte.core.formula.formula import FormulaLimits
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.limits import SchedulerLimits
from dte.master.access.tokens import file_beside
from dte.master.journal.retention import Retention
from dte.master.journal.schema import Sync
from dte.master.plans import PlanLimits
from dte.wire.http.listening import LOOPBACK

Network = IPv4Network | IPv6Network

CORE, FORMULA = SchedulerLimits(), FormulaLimits()


def _bound(default: int | float, help_text: str, minimum: int | float = 1, **more: Any) -> Any:
    return field(default=default, metadata={"help": help_text, "minimum": minimum, **more})


@dataclass(frozen=True, slots=True)
class Settings:
    """The master's address, its journal, and its bounds.

    Bounds of the core have the default, and most of them the name, that they have there.
    """

    host: str = LOOPBACK
    port: int = 5000
    journal: str = "none"
    journal_sync: Sync = Sync.FULL
    journal_without_wal: bool = False
    webhook_secret: str = field(default="", repr=False)
    tokens: str = ""
    no_auth: bool = False
    host_names: tuple[str, ...] = ()
    trust_proxy: tuple[Network, ...] = ()
    seeds: tuple[Network, ...] = ()
    open_clients: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_ca: str = ""
    webhook_to: str = ""

    body_bytes_max: int = _bound(32_000_000, "Largest body of a request, in bytes.")
    bodies_bytes_max: int = _bound(
        256_000_000, "Maximum bytes of bodies that are being received and parsed at a time."
    )
    formula_chars_max: int = _bound(FORMULA.chars_max, "Longest formula, in characters.")
    formula_operations_max: int = _bound(
        FORMULA.operations_max, "Maximum number of operations of a formula."
    )
    digits_max: int = _bound(
        CORE.digits_max,
        "Maximum decimal digits of an integer in a formula and of an answer.",
        maximum=INTEGER_DIGITS_MAX,
    )
    formulas_max: int = _bound(10_000, "Maximum number of formulas in one request.")
    jobs_waiting_max: int = _bound(CORE.jobs_waiting_max, "Maximum number of unfinished jobs.")
    operations_waiting_max: int = _bound(
        CORE.operations_waiting_max, "Maximum number of unfinished operations, in all jobs."
    )
    bytes_waiting_max: int = _bound(
        CORE.bytes_waiting_max, "About how many bytes the unfinished jobs may take."
    )
    calls_max: int = _bound(FORMULA.calls_max, "Maximum number of calls of handlers in a job.")
    value_bytes_max: int = _bound(
        CORE.value_bytes_max,
        "Maximum bytes of the arguments of a call, of its result, and of an answer of many nodes.",
    )
    jobs_kept: int = _bound(CORE.jobs_kept, "Ended jobs that are kept in memory.")
    jobs_kept_bytes: int = _bound(
        CORE.jobs_kept_bytes, "About how many bytes the ended jobs in memory may take."
    )
    workers_max: int = _bound(CORE.workers_max, "Maximum number of known workers.")
    streams_max: int = _bound(1_000, "Maximum number of open streams of events.")
    webhooks_max: int = _bound(
        100_000,
        "Maximum number of webhooks of ended jobs that are not delivered yet.",
        old_name="notices_max",
    )
    webhook_for_s: float = _bound(
        86_400.0,
        "Time in seconds after which an undelivered webhook is given up; at most an hour if its "
        "receiver has never replied.",
        old_name="notify_for_s",
    )
    wait_max_s: float = _bound(60.0, "Longest wait=SECONDS of a request.", minimum=1)
    connections_max: int = _bound(
        10_000, "Maximum number of connections of clients; fewer if fewer files may be open."
    )
    replies_bytes_max: int = _bound(
        256_000_000,
        "Maximum bytes of replies that clients have not taken, before lists are refused.",
    )
    worker_replies_bytes_max: int = _bound(
        250_000_000, "Maximum bytes of replies of workers that are incomplete, in all."
    )
    slow_client_s: float = _bound(
        20.0, "Seconds a client has to send or receive each 100,000 bytes, or the rest.", 0.1
    )
    lease_s: float = _bound(
        CORE.lease_s, "Silence of a worker, in seconds, after which another gets its work.", 0.1
    )
    heartbeat_s: float = _bound(
        CORE.heartbeat_s,
        "Silence, in seconds, after which a worker that does not announce itself is probed.",
        0.1,
    )
    dead_after_s: float = _bound(
        CORE.dead_after_s, "Silence, in seconds, after which a worker is gone.", 0.1
    )
    workers_lost_max: int = _bound(
        CORE.workers_lost_max, "Workers that an operation may kill before its job fails."
    )
    retry_pause_s: float = _bound(
        CORE.retry_pause_s,
        "Pause in seconds before a failed call is tried again; it doubles each time.",
        0.001,
    )
    retry_pause_max_s: float = _bound(
        CORE.retry_pause_max_s, "Longest pause before a failed call is tried again.", 0.001
    )
    queue_attempts_max: int = _bound(
        5,
        "Workers that poll /get-task and may vanish with a task before it fails.",
    )
    queue_lease_s: float = _bound(
        120.0,
        "Time in seconds that a worker that polls /get-task has a task without a heartbeat.",
        0.1,
    )
    queue_dead_after_s: float = _bound(
        60.0,
        "Silence, in seconds, after which a worker that polls /get-task is gone.",
        0.1,
    )
    scheduler_dead_after_s: float = _bound(
        10.0, "Silence, in seconds, after which a worker that polls /get_task is gone.", 0.1
    )
    journal_jobs_max: int = _bound(1_000_000, "Ended jobs that the journal keeps.")
    journal_age_max_s: float = _bound(
        7 * 86_400.0,
        "Time in seconds for which the journal keeps ended jobs, counted while a master runs.",
    )
    grace_s: float = _bound(
        5.0, "Time in seconds that a master that ends waits for the results of workers.", 0
    )

    @property
    def tokens_file(self) -> str:
        """The file of tokens: by default beside the journal."""
        return self.tokens or file_beside(self.journal)

    def formula_limits(self) -> FormulaLimits:
        return FormulaLimits(
            self.formula_chars_max, self.formula_operations_max, self.digits_max, self.calls_max
        )

    def plan_limits(self) -> PlanLimits:
        return PlanLimits(self.formula_limits(), self.value_bytes_max)

    def scheduler_limits(self) -> SchedulerLimits:
        names = (each.name for each in fields(SchedulerLimits))
        return SchedulerLimits(**{name: getattr(self, name) for name in names})

    def retention(self) -> Retention:
        return Retention(self.journal_jobs_max, self.journal_age_max_s)
