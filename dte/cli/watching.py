"""What is told while a job is waited for: what is in its way, and how far its calls are."""

from __future__ import annotations

import click

from dte.cli.output import printable
from dte.client.blocking import Client
from dte.client.job import Job

WATCHED_MAX = 100
"""Jobs of more operations are watched as a whole, not call by call."""


def explain_calls(client: Client, job: Job) -> None:
    """Say what the first call waits for, if nothing of the job is being done."""
    why = client.why(job)
    if why.reasons and not any(reason.waits_for in ("result", "stop") for reason in why.reasons):
        # What others wait for is told, not that they wait for it.
        first = next((r for r in why.reasons if r.waits_for != "operands"), why.reasons[0])
        about = f"{first.node}: " if first.node else ""
        click.echo(printable(f"job {job.id} waits: {about}{first.text}"), err=True)
        if first.waits_for == "worker":
            hint = f"dte worker --handlers MODULE --master {client.master_url}"
            click.echo(f"start one that can: {hint}", err=True)


def how_far(client: Client, job: Job) -> tuple[float, str]:
    """How much of the running calls is done, and what the first of them says."""
    if job.operations > WATCHED_MAX:
        return 0.0, ""
    running = [node for node in client.nodes(job) if node.state in ("running", "cancelling")]
    done = sum(min(1.0, max(0.0, n.progress.fraction)) for n in running if n.progress)
    for node in running:
        if node.progress is not None:
            return done, f"{node.name} {node.progress.fraction:.0%} {node.progress.text}"
    return done, running[0].name if running else ""
