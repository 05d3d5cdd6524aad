"""What commands print: answers, tables, progress, and errors with a next step.

Exit codes: 0 all went well · 1 a job failed · 2 the command or a formula is wrong · 3 no master
answers, or it refuses · 4 the time to wait is over · 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
import msgspec

from dte.client.blocking import Client
from dte.client.errors import JobFailed, Unreachable, WaitTimeout
from dte.client.replies import Job
from dte.core.errors import DteError, FormulaError, InvalidRequest, NotFound

EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_MASTER = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130


def check_formulas(formulas: tuple[str, ...]) -> None:
    for formula in formulas:
        if formula.startswith("--") and formula[2:3].isalpha():
            raise click.UsageError(f"there is no option {formula}")


def answer(
    master_url: str, formulas: tuple[str, ...], timeout_s: float | None, as_json: bool
) -> None:
    """Print each formula with its answer; leave with 1 if one has none."""
    failed = False
    with explained(master_url), Client(master_url) as client:
        jobs = [(formula, client.submit(formula)) for formula in formulas]
        for formula, submitted in jobs:
            job = wait_visibly(client, submitted, timeout_s)
            failed = failed or job.answer is None
            print_job(job, as_json, f"{formula} = {standing(job)}", err=job.answer is None)
    if failed:
        sys.exit(EXIT_JOB_FAILED)


def wait_visibly(client: Client, job: Job, timeout_s: float | None) -> Job:
    """Wait for a job; after two seconds show its progress, if somebody watches."""
    first_s = 2.0 if timeout_s is None else min(2.0, timeout_s)
    try:
        return client.wait(job, first_s)
    except WaitTimeout:
        if timeout_s is not None and timeout_s <= first_s:
            raise
    if not sys.stderr.isatty():
        return client.wait(job, None if timeout_s is None else timeout_s - first_s)
    waited_s = first_s
    with click.progressbar(
        length=job.operations or 1, label=f"job {job.id}", file=sys.stderr
    ) as bar:
        while True:
            found = client.job(job)
            bar.length = found.operations
            bar.update(found.operations_done - bar.pos)
            if found.finished:
                return found
            if timeout_s is not None and waited_s >= timeout_s:
                raise WaitTimeout([job.id], timeout_s)
            step_s = 0.5 if timeout_s is None else min(0.5, timeout_s - waited_s)
            waited_s += step_s
            try:
                return client.wait(job, step_s)
            except WaitTimeout:
                continue


def standing(job: Job) -> str:
    if job.answer is not None:
        return str(job.answer)
    if job.error is not None:
        return f"error: {job.error}"
    return f"{job.state}, {job.operations_done} of {job.operations} operations done"


def print_job(job: Job, as_json: bool, text: str, err: bool = False) -> None:
    if as_json:
        click.echo(msgspec.json.encode(job))
    else:
        click.echo(text, err=err)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], empty: str) -> None:
    if not rows:
        click.echo(empty, err=True)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


@contextmanager
def explained(master_url: str, hint: str = "") -> Iterator[None]:
    """Turn what a client or a server raises into a message with a next step, and an exit code."""
    try:
        yield
    except FormulaError as error:
        caret = "\n".join(f"  {line}" for line in error.caret.splitlines())
        leave(EXIT_USAGE, f"{error}\n{caret}")
    except Unreachable as error:
        start = (
            f"is one running? dte master, or dte run; or give another --master than {master_url}"
        )
        leave(EXIT_MASTER, f"{error}\n{start}")
    except WaitTimeout as error:
        leave(EXIT_TIMEOUT, f"{error}; ask for it later: dte job {error.jobs[0]}")
    except JobFailed as error:
        leave(EXIT_JOB_FAILED, str(error))
    except (InvalidRequest, NotFound) as error:
        leave(EXIT_USAGE, str(error))
    except DteError as error:
        leave(EXIT_MASTER, str(error))
    except OSError as error:
        leave(EXIT_MASTER, f"{error.strerror or error}; {hint}" if hint else str(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def leave(code: int, message: str) -> NoReturn:
    click.echo(f"dte: {message}", err=True)
    sys.exit(code)
