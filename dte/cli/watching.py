"""Messages while a command waits for a job: why it waits, and the progress of its calls."""

from __future__ import annotations

import click

from dte.cli.output import printable
from dte.client.blocking import Client
from dte.client.job import Job

WATCHED_MAX = 100
"""A job with more operations shows only its own progress, not that of its calls."""


def explain_calls(client: Client, job: Job) -> None:
    """Print why the first call waits, if none of the job is running."""
    why = client.why(job)
    if why.reasons and not any(reason.waits_for in ("result", "stop") for reason in why.reasons):
        # A call that waits for another says less than the reason of that other call.
        first = next((r for r in why.reasons if r.waits_for != "operands"), why.reasons[0])
        about = f"{first.node}: " if first.node else ""
        click.echo(printable(f"job {job.id} waits: {about}{first.text}"), err=True)
        if first.waits_for == "worker":
            hint = f"dte worker --handlers MODULE --master {client.master_url}"
            click.echo(f"to start one: {hint}", err=True)


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
