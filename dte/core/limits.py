"""The bounds of the core and its times."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.numbers import INTEGER_DIGITS_MAX


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """The bounds and times, with their defaults; `dte.master.settings.Settings` explains each."""

    jobs_waiting_max: int = 100_000
    operations_waiting_max: int = 4_000_000
    bytes_waiting_max: int = 1_000_000_000
    value_bytes_max: int = 16_000_000
    jobs_kept: int = 100_000
    jobs_kept_bytes: int = 256_000_000
    workers_max: int = 1_000
    workers_lost_max: int = 3
    digits_max: int = INTEGER_DIGITS_MAX
    lease_s: float = 10.0
    heartbeat_s: float = 5.0
    dead_after_s: float = 15.0
    retry_pause_s: float = 1.0
    retry_pause_max_s: float = 60.0
