"""The times of master and workers: short, so that much happens in a short time."""

from __future__ import annotations

LEASE_S = 2.0
HEARTBEAT_S = 1.0
RETRY_PAUSE_S, RETRY_PAUSE_MAX_S = 0.3, 3.0
