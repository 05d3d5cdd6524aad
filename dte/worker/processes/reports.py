"""Reports of calls, from what a child process sends or from how it ended."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress
from functools import lru_cache

import msgspec

from dte.core.printable import printable
from dte.logs import LimitedLog, one_line
from dte.wire.messages.calls import Call, Report, State
from dte.worker.processes.channel import Outcome

log = logging.getLogger("dte.worker")
limited = LimitedLog(log)

FAILURES: dict[State, str] = {"failed": "failed", "timed_out": "timed out", "lost": "was lost"}
"""The outcomes without a result that are failures, in the words of the log."""
STOPPED: tuple[State, ...] = ("returned", "cancelled")
"""The outcomes that may be those of calls that never began."""

REASONS_MAX = 1000


def report_of(call: Call, outcome: Outcome) -> Report:
    if outcome.result is not None:
        return Report(call.lease, msgspec.Raw(outcome.result), state="succeeded")
    _log_failure(call, "failed", outcome.error or "", indented(outcome.trace))
    return Report(
        call.lease,
        error=outcome.error,
        state="failed",
        retry=outcome.retry,
        trace=outcome.trace or None,
    )


def report_without_result(call: Call, state: State, reason: str, *, begun: bool = True) -> Report:
    if state in FAILURES:
        _log_failure(call, FAILURES[state], reason)
    begun = begun and state in STOPPED
    return Report(call.lease, error=reason, state=state, begun=begun)


def _log_failure(call: Call, how: str, error: str, trace: str = "") -> None:
    limited.add(
        "failed attempts",
        logging.WARNING,
        f"job %d, node %s: handler %s {how} on attempt %d: %s%s",
        call.job_id,
        one_line(call.node),
        one_line(call.handler),
        call.attempt,
        one_line(error),
        trace,
        job=call.job_id,
        node=call.node,
        handler=call.handler,
        attempt=call.attempt,
        error=error,
    )


@lru_cache(REASONS_MAX)
def note_worn(handler: str, reason: str) -> None:
    """Log why a process is replaced after a call, once for each handler and reason."""
    text = "a process that ran handler %r is replaced each time: %r"
    limited.add("reasons to replace processes", logging.INFO, text, handler, reason)


def indented(trace: str) -> str:
    """Indent and escape a trace, so that no line of it can pass for a line of the log."""
    text = ""
    for line in trace.splitlines():
        text += f"\n    {printable(line)}"
    return text


def description_of_end(code: int | None) -> str:
    """Describe the unexpected end of a process by its exit code, as in "it ended"."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    name = ""
    with suppress(ValueError):
        name = f" ({signal.Signals(-code).name})"
    hint = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
    return f"was killed by signal {-code}{name}{hint}"
