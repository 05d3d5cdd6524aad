"""Messages while a command waits for a job: why it waits, and the progress of its calls."""

from __future__ import annotations

import sys

from dte.cli.options import at
from dte.cli.text import say
from dte.client.blocking import Client
from dte.client.job import Job
from dte.client.replies import Reason, Why
from dte.core.printable import printable

WATCHED_MAX = 100
"""A job with more operations shows only its own progress, not that of its calls."""


class Explainer:
    """Prints why a job waits, and prints it again only when the reason is another.

    Args:
        start_worker: the command that starts a worker, without its handlers.
    """

    def __init__(self, start_worker: str = "") -> None:
        self._start_worker = start_worker
        self._before: tuple[object, ...] | None = None

    def __call__(self, client: Client, job: Job) -> None:
        why = client.why(job)
        reason = _in_the_way(why)
        # Texts contain times, so they differ each time.
        what = None if reason is None else (reason.node, reason.waits_for, tuple(reason.names))
        if reason is not None and what != self._before:
            self._print(client, job, reason)
        self._before = what

    def _print(self, client: Client, job: Job, reason: Reason) -> None:
        if self._before is not None and sys.stderr.isatty():
            say(err=True)  # The progress bar stands in this line.
        about = f"{reason.node}: " if reason.node else ""
        needs = " --handlers MODULE" if reason.node else ""
        start = self._start_worker or f"dte worker{needs}{at(client.master_url, for_worker=True)}"
        advice = "" if _is_of_trouble(reason) else f"to start one: {start}"
        if reason.waits_for == "worker" and not reason.node:
            # Counts of operations, which come first, help nobody here.
            problem = reason.text.partition("; ")[2] or reason.text
            say(printable("; ".join(filter(None, (problem, advice)))), err=True)
            return
        say(printable(f"job {job.id} waits: {about}{reason.text}"), err=True)
        if reason.waits_for == "worker" and advice:
            say(advice, err=True)


def _is_of_trouble(reason: Reason) -> bool:
    """True if workers are there that cannot be called, or cannot run calls.

    Those are named as workers in the text. Others are named because they have gone or are leaving.
    """
    return any(f"worker {name} " in reason.text for name in reason.names)


def explain_calls(client: Client, job: Job) -> None:
    """Print why the first call waits, if none of the job is running."""
    Explainer()(client, job)


def _in_the_way(why: Why) -> Reason | None:
    """Return the reason to print; None if a part of the job runs."""
    if not why.reasons or any(each.waits_for in ("result", "stop") for each in why.reasons):
        return None
    # A call that waits for another says less than the reason of that other call.
    return next((each for each in why.reasons if each.waits_for != "operands"), why.reasons[0])


def how_far(client: Client, job: Job) -> tuple[float, str]:
    """Return the progress of the running calls together, and the text of the first."""
    if job.operations > WATCHED_MAX:
        return 0.0, ""
    running = [node for node in client.nodes(job) if node.state in ("running", "cancelling")]
    done = sum(min(1.0, max(0.0, n.progress.fraction)) for n in running if n.progress)
    for node in running:
        if node.progress is not None:
            return done, f"{node.name} {node.progress.fraction:.0%} {node.progress.text}"
    return done, running[0].name if running else ""
