"""The commands `dte submit`, `dte job`, `dte jobs` and `dte workers`."""

from __future__ import annotations

import sys

import click

from dte.cli.options import (
    FORMULAS,
    JobId,
    at,
    json_option,
    master_option,
    option,
    submission_option,
    timeout_option,
)
from dte.cli.output import (
    EXIT_MASTER,
    EXIT_USAGE,
    answer,
    check_formulas,
    connected,
    explained,
    leave,
    print_job,
    print_standing,
    print_table,
    shown,
    status,
    wait_visibly,
)
from dte.cli.text import say_json, short
from dte.cli.watching import Explainer, how_far
from dte.client.job import Job, JobSummary
from dte.client.keys import key_header
from dte.client.replies import WorkerInfo
from dte.core.errors import Forbidden
from dte.core.printable import printable

UNSPELLED_BITS = 100_000
"""Lists do not show the digits of longer integers."""


def check_key(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        key_header(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command("submit", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, required=True, metavar="FORMULA...")
@master_option
@option("--no-wait", is_flag=True, help="Print the ids of the jobs without waiting for them.")
@submission_option(
    "--key",
    metavar="TEXT",
    callback=check_key,
    help="Idempotency key for one formula: a repeated submission with this key returns the first "
    "job.",
)
@timeout_option
@json_option
def submit_command(
    formulas: tuple[str, ...],
    master_url: str,
    no_wait: bool,
    key: str | None,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Submit formulas and print each with its answer.

    A single - reads formulas from stdin, one per line.

    \b
    dte submit '1+(2*3)/4-5' '2*21'
    seq 5 | sed 's/$/*2/' | dte submit -
    """
    if formulas == ("-",):
        formulas = read_formulas()
    check_formulas(formulas)
    if key is not None and len(formulas) != 1:
        raise click.UsageError(f"--key needs exactly one formula, not {len(formulas)}")
    if not no_wait:
        answer(master_url, formulas, timeout_s, as_json, Explainer(), key=key)
        return
    with explained(master_url), connected(master_url, timeout_s) as client:
        for formula in formulas:
            job = client.submit(formula, key=key)
            print_job(status(client, job) if as_json else job, as_json, f"job {job.id}: {formula}")


def read_formulas() -> tuple[str, ...]:
    """Read formulas from stdin, one per line."""
    with explained(""):
        try:
            return tuple(line.strip() for line in sys.stdin if line.strip())
        except UnicodeDecodeError:
            leave(EXIT_USAGE, "stdin is not UTF-8 text")


@click.command("job")
@click.argument("number", type=JobId(), metavar="ID")
@master_option
@option("--wait", is_flag=True, help="Wait for the end of the job.")
@timeout_option
@json_option
def job_command(
    number: int, master_url: str, wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Show the status of a job."""
    with explained(master_url), connected(master_url, timeout_s) as client:
        if wait:
            job = wait_visibly(client, Job(number, False), timeout_s, Explainer(), how_far)
        else:
            job = client.job(number)
        print_standing(job, as_json)


@click.command("jobs")
@master_option
@json_option
def jobs_command(master_url: str, as_json: bool) -> None:
    """List the last 100 jobs, the newest first."""
    with explained(master_url), connected(master_url) as client:
        jobs = client.jobs()
    if as_json:
        say_json(jobs)
        return
    rows = [(str(job.id), job.state, short(job.task), short(_outcome(job))) for job in jobs]
    empty = "no jobs yet; to submit one: dte submit '1+2'"
    print_table(("JOB", "STATE", "WORK", "ANSWER"), rows, empty)


def _outcome(job: JobSummary) -> str:
    if job.error is not None:
        return job.error
    if not job.finished:
        return ""
    # The list shows only the start of an answer, and converting a million digits takes time.
    if isinstance(job.answer, int) and job.answer.bit_length() > UNSPELLED_BITS:
        return f"an integer of about {job.answer.bit_length() * 30_103 // 100_000} digits"
    return shown(job.answer)


def _busy(worker: WorkerInfo) -> str:
    """Return how many slots are taken: of calls, or of requests if the worker has no handlers."""
    if not worker.handler_slots:
        return f"{worker.leases}/{worker.slots}"
    # Quick calls wait at a worker for their slot.
    return f"{min(worker.calls, worker.handler_slots)}/{worker.handler_slots}"


@click.command("workers")
@master_option
@json_option
def workers_command(master_url: str, as_json: bool) -> None:
    """List the workers that the master knows."""
    with explained(master_url), connected(master_url) as client:
        try:
            workers = client.workers()
        except Forbidden as error:
            advice = "a reader may see workers; to make a token for one: dte token new reader NAME"
            leave(EXIT_MASTER, f"{printable(str(error))}\n{advice}")
    if as_json:
        say_json(workers)
        return
    rows = [
        (
            short(worker.worker_name),
            worker.address,
            worker.state,
            _busy(worker),
            str(worker.operations_done + worker.calls_done),
            short(worker.failing or worker.last_failure or ""),
        )
        for worker in workers
    ]
    header = ("WORKER", "ADDRESS", "STATE", "BUSY", "OPERATIONS", "LAST FAILURE")
    empty = f"no workers yet; to start one: dte worker{at(master_url, for_worker=True)}"
    print_table(header, rows, empty)
