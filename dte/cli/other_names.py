"""Settings under the names that a queue's `.env` gives them, for the scripts of that queue.

Other programs have a LOG_LEVEL or a CACHE_DIR of their own, and their `.env` may be in the current
folder. So these names are read only where `SWITCH` is set, as those scripts do.
"""

from __future__ import annotations

import os
from typing import Any

import click

SWITCH = "DTE_QUEUE_NAMES"

MASTER = {
    "DISPATCHER_HOST": "host",
    "DISPATCHER_PORT": "port",
    "DEFAULT_MAX_ATTEMPTS": "queue_attempts_max",
    "DEFAULT_LEASE_DURATION": "queue_lease_s",
    "WORKER_DEATH_TIMEOUT": "queue_dead_after_s",
    "LOG_LEVEL": "log_level",
}
WORKER = {
    "WORKER_DISPATCHER_URL": "master_url",
    "WORKER_ID": "name",
    "CACHE_DIR": "spool",
    "CACHE_RETRY_INTERVAL": "spool_retry_s",
    "CACHE_TTL_SECONDS": "spool_ttl_s",
    "LOG_LEVEL": "log_level",
}
ANY_NAME = "worker_auto"
"""Stands in some `.env` files for a name that each worker finds for itself."""
HEARTBEAT = "WORKER_HEARTBEAT_INTERVAL"


def defaults(heartbeat_s: float) -> dict[str, dict[str, Any]]:
    """Return what the environment sets under these names, by command and parameter.

    HEARTBEAT only shortens the interval of a worker's announcements: it is made for masters that
    wait for a minute, and a master that waits for less would consider the worker dead in between.

    Args:
        heartbeat_s: the default interval.

    Raises:
        click.UsageError: a time is not one.
    """
    if not os.environ.get(SWITCH):
        return {}
    worker = _given(WORKER)
    if worker.get("name") == ANY_NAME:
        del worker["name"]
    for name in ("CACHE_RETRY_INTERVAL", "CACHE_TTL_SECONDS", HEARTBEAT):
        _check_seconds(name)
    worker["heartbeat_s"] = max(0.1, min(heartbeat_s, float(os.environ.get(HEARTBEAT) or "inf")))
    return {"master": _given(MASTER), "worker": worker}


def _given(names: dict[str, str]) -> dict[str, Any]:
    return {ours: os.environ[name] for name, ours in names.items() if os.environ.get(name)}


def _check_seconds(name: str) -> None:
    text = os.environ.get(name) or "1"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise click.UsageError(f"{name} must be a positive number of seconds, not {text!r}")
