"""The commands `dte nodes`, `why`, `cancel`, `retry` and `events`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing, nullcontext

import click
from msgspec.structs import replace

from dte.cli.options import JobId, Whole, at, json_option, master_option, option, timeout_option
from dte.cli.output import (
    UNWATCHED_S,
    connected,
    explained,
    indented,
    interruptible,
    print_job,
    print_standing,
    print_table,
    repeated,
    shown,
    status,
    wait_visibly,
)
from dte.cli.text import say, say_json, short, spaced
from dte.cli.watching import Explainer, how_far
from dte.client.blocking import Client
from dte.client.events import Event
from dte.client.job import Job
from dte.client.replies import NodeInfo
from dte.core.printable import printable

number_argument = click.argument("number", type=JobId(), metavar="ID")


@click.command("nodes")
@number_argument
@master_option
@json_option
def nodes_command(number: int, master_url: str, as_json: bool) -> None:
    """List the calls of a job, with their results."""
    with explained(master_url), connected(master_url) as client:
        nodes = client.nodes(number)
    if as_json:
        say_json(nodes)
        return
    rows = [
        (
            short(node.name),
            short(node.handler),
            node.state,
            str(node.attempts),
            short(node.worker),
            _outcome(node),
        )
        for node in nodes
    ]
    header = ("NODE", "HANDLER", "STATE", "ATTEMPTS", "WORKER", "RESULT")
    print_table(
        header,
        rows,
        f"job {number} has no calls, or none of them was recorded; see dte job {number}",
    )
    for node in nodes:
        if node.trace is not None:
            say(f"\n{printable(node.name)}:{indented(node.trace)}")


def _outcome(node: NodeInfo) -> str:
    if node.error is not None:
        return short(node.error)
    if node.state == "succeeded":
        return short(shown(node.result))
    if node.progress is not None:
        return short(f"{node.progress.fraction:.0%} {node.progress.text}".rstrip())
    return ""


@click.command("why", short_help="Explain why a job waits.")
@number_argument
@master_option
@json_option
def why_command(number: int, master_url: str, as_json: bool) -> None:
    """Explain why a job waits: for each unfinished call, print the reason."""
    with explained(master_url), connected(master_url) as client:
        why = client.why(number)
    if as_json:
        say_json(why)
        return
    if not why.reasons:
        text = f"job {number} is not waiting; its state is {why.state}. To see it: dte job {number}"
        say(text, err=True)
        return
    for reason in why.reasons:
        about = f"{reason.node} ({reason.state})" if reason.node else f"job {number}"
        say(printable(f"{about}: {reason.text}"))
    if why.more:
        say(f"… and {why.more} more")


@click.command("cancel", short_help="Cancel a job.")
@number_argument
@master_option
@json_option
def cancel_command(number: int, master_url: str, as_json: bool) -> None:
    """Cancel a job: its waiting calls never start, its running calls are stopped.

    The state of the job is cancelling until the workers have stopped. To wait for that, use
    dte job ID --wait.
    """
    with explained(master_url), connected(master_url) as client:
        job = client.cancel(number)
    print_job(job, as_json, f"job {job.id}: {job.state}")


@click.command("retry", short_help="Retry the failed part of a job.")
@number_argument
@master_option
@option("--wait", is_flag=True, help="Wait for the end of the new job.")
@timeout_option
@json_option
def retry_command(
    number: int, master_url: str, wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Retry the failed part of a job, as a new job that reuses the existing results."""
    with explained(master_url), connected(master_url, timeout_s) as client:
        job = client.retry(number)
        if wait:
            with interruptible(job, master_url):
                found = wait_visibly(client, job, timeout_s, Explainer(), how_far)
            print_standing(found, as_json)
            return
        if as_json:
            # Masters of other versions leave it out of the status.
            job = replace(status(client, job), retry_of=job.retry_of)
    later = f"dte job {job.id} --wait{at(master_url)}"
    print_job(job, as_json, f"job {job.id} retries job {number}; to wait for it: {later}")


@click.command("events", short_help="Print events as they happen.")
@click.argument("number", type=JobId(), metavar="[ID]", required=False)
@option(
    "--after",
    envvar="DTE_AFTER_EVENT",
    type=Whole(0),
    metavar="N",
    help="Continue after the event with this number.",
)
@master_option
@json_option
def events_command(number: int | None, after: int | None, master_url: str, as_json: bool) -> None:
    """Print the events of a job until it ends, or of all jobs until Ctrl-C.

    With --json, each line is an object, with the number of the event as "id".
    """
    with (
        explained(master_url),
        connected(master_url) as client,
        nullcontext() if number is None else _explained(client, number),
        closing(client.events(number, after=after)) as events,
    ):
        is_silent = True
        for event in events:
            is_silent = False
            say_json(event) if as_json else say(line_of(event))
            sys.stdout.flush()
        if number is not None and is_silent:  # All of them came before --after.
            say(f"job {number} has ended: {client.job(number).state}", err=True)


def _explained(client: Client, number: int) -> AbstractContextManager[None]:
    """Print meanwhile why a job waits."""
    return repeated(Explainer(), client, Job(number, False), UNWATCHED_S)


def line_of(event: Event) -> str:
    """Describe an event in one line."""
    if event.kind == "missed":
        count = "some" if event.missed is None else event.missed
        return f"missed {count} event{'' if count == 1 else 's'}"
    at = event.at.astimezone().strftime("%H:%M:%S") if event.at is not None else "--:--:--"
    node = f" {event.node}" if event.node else ""
    fraction = f" {event.fraction:.0%}" if event.fraction is not None else ""
    text = f" {event.text}" if event.text else ""
    return spaced(f"{at} job {event.job_id}{node} {event.state}{fraction}{text}")
