"""The master's settings, each with its default and what it is for.

The command line makes an option and an environment variable of each bound (`dte.cli.options`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dte.core.formula.formula import FormulaLimits
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.limits import SchedulerLimits
from dte.master.journal.schema import Sync
from dte.master.plans import PlanLimits


def _bound(default: int | float, help_text: str, minimum: int | float = 1, **more: Any) -> Any:
    return field(default=default, metadata={"help": help_text, "minimum": minimum, **more})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the master listens, where its journal is, and its bounds."""

    host: str = "0.0.0.0"
    port: int = 5000
    journal: str = "none"
    journal_sync: Sync = Sync.FULL
    webhook_secret: str = field(default="", repr=False)

    body_bytes_max: int = _bound(32_000_000, "Largest body of a request, in bytes.")
    bodies_bytes_max: int = _bound(
        256_000_000, "Most bytes of bodies that are being received and parsed at a time."
    )
    formula_chars_max: int = _bound(16_000_000, "Longest formula, in characters.")
    formula_operations_max: int = _bound(2_000_000, "Most operations of a formula.")
    digits_max: int = _bound(
        INTEGER_DIGITS_MAX,
        "Most decimal digits of an integer in a formula and of an answer.",
        maximum=INTEGER_DIGITS_MAX,
    )
    formulas_max: int = _bound(10_000, "Most formulas in one request.")
    jobs_waiting_max: int = _bound(100_000, "Most jobs that have not ended.")
    operations_waiting_max: int = _bound(
        4_000_000, "Most operations that are not done, in all jobs."
    )
    bytes_waiting_max: int = _bound(
        1_000_000_000, "About how many bytes the jobs that have not ended may take."
    )
    calls_max: int = _bound(100_000, "Most calls of handlers in a job.")
    value_bytes_max: int = _bound(
        16_000_000, "Most bytes of the arguments of a call, and of its result."
    )
    jobs_kept: int = _bound(100_000, "How many ended jobs are kept.")
    jobs_kept_bytes: int = _bound(256_000_000, "About how many bytes the ended jobs may take.")
    workers_max: int = _bound(1_000, "Most workers that are known at a time.")
    streams_max: int = _bound(1_000, "Most streams of events that are open at a time.")
    webhooks_max: int = _bound(
        100_000, "Most webhooks of ended jobs that are not delivered yet.", old_name="notices_max"
    )
    webhook_for_s: float = _bound(
        86_400.0,
        "Time in seconds after which an undelivered webhook is given up.",
        old_name="notify_for_s",
    )
    wait_max_s: float = _bound(60.0, "Longest wait=SECONDS of a request.", minimum=1)
    connections_max: int = _bound(
        10_000, "Most connections of clients; fewer if fewer files may be open."
    )
    replies_bytes_max: int = _bound(
        256_000_000, "Most bytes of replies that clients have not taken, before lists are refused."
    )
    slow_client_s: float = _bound(
        20.0, "Seconds in which a client has to send or take 100,000 bytes, or what is left.", 0.1
    )
    lease_s: float = _bound(
        10.0, "Silence of a worker, in seconds, after which its operations go to another.", 0.1
    )
    heartbeat_s: float = _bound(
        5.0, "Silence of a worker that does not announce itself, after which it is asked.", 0.1
    )
    dead_after_s: float = _bound(15.0, "Silence after which a worker is gone.", 0.1)
    workers_lost_max: int = _bound(
        3, "How many workers an operation may lose before its job fails."
    )
    retry_pause_s: float = _bound(
        1.0, "Pause before a call that failed is tried again; it doubles each time.", 0.001
    )
    retry_pause_max_s: float = _bound(60.0, "Longest of these pauses.", 0.001)
    queue_attempts_max: int = _bound(
        5,
        "How many workers that poll /get-task may vanish with a task before it fails.",
        envvars=("DEFAULT_MAX_ATTEMPTS",),
    )
    queue_lease_s: float = _bound(
        120.0,
        "How long, in seconds, such a worker has a task without a heartbeat.",
        0.1,
        envvars=("DEFAULT_LEASE_DURATION",),
    )
    queue_dead_after_s: float = _bound(
        60.0,
        "Silence after which such a worker is gone.",
        0.1,
        envvars=("WORKER_DEATH_TIMEOUT",),
    )
    scheduler_dead_after_s: float = _bound(
        10.0, "Silence after which a worker that polls /get_task is gone.", 0.1
    )
    journal_jobs_max: int = _bound(1_000_000, "How many ended jobs the journal keeps.")
    journal_age_max_s: float = _bound(
        7 * 86_400.0, "How long, in seconds, the journal keeps ended jobs."
    )
    grace_s: float = _bound(
        5.0, "How long, in seconds, a master that ends waits for what workers have.", 0
    )

    def formula_limits(self) -> FormulaLimits:
        return FormulaLimits(
            self.formula_chars_max, self.formula_operations_max, self.digits_max, self.calls_max
        )

    def plan_limits(self) -> PlanLimits:
        return PlanLimits(self.calls_max, self.value_bytes_max)

    def scheduler_limits(self) -> SchedulerLimits:
        return SchedulerLimits(
            jobs_waiting_max=self.jobs_waiting_max,
            operations_waiting_max=self.operations_waiting_max,
            bytes_waiting_max=self.bytes_waiting_max,
            value_bytes_max=self.value_bytes_max,
            jobs_kept=self.jobs_kept,
            jobs_kept_bytes=self.jobs_kept_bytes,
            workers_max=self.workers_max,
            workers_lost_max=self.workers_lost_max,
            digits_max=self.digits_max,
            lease_s=self.lease_s,
            heartbeat_s=self.heartbeat_s,
            dead_after_s=self.dead_after_s,
            retry_pause_s=self.retry_pause_s,
            retry_pause_max_s=self.retry_pause_max_s,
        )
