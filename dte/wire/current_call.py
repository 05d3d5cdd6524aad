"""The call in which this code runs, if it runs in one.

The process of a handler sets it. A client in it tells the master, which can then explain what two
jobs wait for that wait for each other.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

CALL_HEADER = "Dte-Call"
"""The header of a request that waits for jobs, with the lease of the call that sends it."""


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """A call of a handler, as its process knows it."""

    lease: int
    job_id: int
    node: str


_current: CurrentCall | None = None
_current_here: ContextVar[CurrentCall | None] = ContextVar("dte_call_here", default=None)


def current_call() -> CurrentCall | None:
    """Return the call in which this code runs; None outside of calls."""
    return _current_here.get() or _current


def call_of_task() -> CurrentCall | None:
    """Return the async call in which this code runs."""
    return _current_here.get()


def set_current_call(call: CurrentCall | None, *, here: bool = False) -> None:
    """Set the call in which all threads run, or this task and its own tasks."""
    global _current
    if here:
        _current_here.set(call)
    else:
        _current = call


def call_header() -> dict[str, str]:
    """Return the header that names the call in which this code runs; empty outside of calls."""
    call = current_call()
    return {} if call is None else {CALL_HEADER: str(call.lease)}
