"""Requests to stop a server: one that comes again, and one that is meant to hurry it."""

from __future__ import annotations

import signal

SAME_STOP_S = 1.0
"""A signal that comes again in this time belongs to the same stop.

Service managers, terminals and programs that start dte pass a signal on to each process, so one
process may get it twice.
"""


class StopRequests:
    """Counts requests to stop, for a server that does not wait for its calls after a second one."""

    def __init__(self) -> None:
        self.count = 0
        self._last: tuple[signal.Signals, float] | None = None

    def add_end_of_stdin(self) -> None:
        """Count the end of stdin, unless a signal has come before."""
        self.count = max(1, self.count)

    def add(self, number: signal.Signals, now: float) -> bool:
        """Count a signal; return False for one that belongs to the request before it.

        Args:
            now: the time of a clock, in seconds.
        """
        if self.count and number == signal.SIGHUP:
            return False  # A closed terminal and systemd send it in addition to another.
        if self._last is not None:
            last, at = self._last
            if number == last and now < at + SAME_STOP_S:
                return False
        self.count += 1
        self._last = number, now
        return True
