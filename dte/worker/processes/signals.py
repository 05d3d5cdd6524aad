"""Signals that reach a child process because they were sent to the whole service.

systemd, supervisord and terminals signal every process of a service. The worker then decides what
becomes of running calls, so its child processes leave these signals to it. A function receives them
because a program that a handler starts would inherit it if they were ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from dte.worker.processes.tasks import ENDING, SERVING, STAGE

SERVICE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE_S = 2.0
"""The time in which the worker gets a signal that was sent to the whole service."""


@contextmanager
def blocked() -> Iterator[None]:
    """Block the signals in processes that are started meanwhile, until `leave_to_worker`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        # It unblocks signals when it starts, and would end by SIGHUP otherwise.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SERVICE_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_worker(shared: MutableSequence[int]) -> None:
    """Leave the signals to the worker, and end by them only if it does not get them as well.

    Args:
        shared: memory that is shared with the worker, see `dte.worker.processes.tasks`.
    """
    end = signal.getsignal(signal.SIGTERM)
    assert callable(end)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if shared[STAGE] == ENDING and number == signal.SIGTERM:
            end(number, frame)
        elif shared[STAGE] == SERVING and number != signal.SIGINT:
            timer = threading.Timer(PATIENCE_S, end_alone, (number,))
            timer.daemon = True
            timer.start()

    def end_alone(number: int) -> None:
        if shared[STAGE] == SERVING:
            end(number, None)

    mask = threading.local()

    def block() -> None:
        mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVICE_SIGNALS)

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.before)

    def forget() -> None:
        """Let a process that a handler forks react to signals as any other program does."""
        for number in SERVICE_SIGNALS:
            if signal.getsignal(number) is on_signal:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)
        restore()

    for number in SERVICE_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)
    os.register_at_fork(before=block, after_in_parent=restore, after_in_child=forget)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVICE_SIGNALS)
