"""What commands print: answers, tables, progress, and errors with a next step.

Exit codes: 0 all went well · 1 a job failed · 2 the command or a formula is wrong · 3 no master
answers, or it refuses · 4 the time to wait is over · 130 Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from dte.client.blocking import Client
from dte.client.errors import Unreachable, WaitTimeout
from dte.client.exact import decimal_digits, encode
from dte.client.job import Job, JobFailed
from dte.client.patience import PATIENCE_S
from dte.core.errors import Conflict, DteError, FormulaError, InvalidRequest, NotFound

EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_MASTER = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130

UNWATCHED_S = 2.0
"""What takes no longer needs no progress."""
PROGRESS_S = 0.5


def check_formulas(formulas: tuple[str, ...]) -> None:
    for formula in formulas:
        if formula.startswith("--") and formula[2:3].isalpha():
            raise click.UsageError(f"there is no option {formula}")
        try:
            formula.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{printable(formula)!r} is not UTF-8 text") from None


def connected(master_url: str, timeout_s: float | None = None) -> Client:
    """A client that does not try a master that is away for longer than an answer is waited for."""
    patience_s = PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s)
    return Client(master_url, patience_s=patience_s)


def answer(
    master_url: str,
    formulas: tuple[str, ...],
    timeout_s: float | None,
    as_json: bool,
    master_stays: bool = True,
    key: str | None = None,
) -> None:
    """Print each formula with its answer; leave with an exit code if one has none."""
    code = 0
    with explained(master_url, master_stays), connected(master_url, timeout_s) as client:
        submitted: list[tuple[str, Job]] = []
        for formula in formulas:
            try:
                submitted.append((formula, client.submit(formula, key=key)))
            except FormulaError as error:
                code = EXIT_USAGE
                click.echo(syntax_error(error), err=True)
        for formula, job in submitted:
            found = wait_visibly(client, job, timeout_s)
            if not found.succeeded:
                code = code or EXIT_JOB_FAILED
            print_job(found, as_json, f"{formula} = {standing(found)}", err=not found.succeeded)
    if code:
        sys.exit(code)


def explain_workers(client: Client, job: Job) -> None:
    """Say so if there is nobody to do a formula."""
    if not any(worker.state in ("free", "busy") for worker in client.workers()):
        click.echo(f"no worker is there: dte worker --master {client.master_url}", err=True)


HowFar = Callable[[Client, Job], tuple[float, str]]


def wait_visibly(
    client: Client,
    job: Job,
    timeout_s: float | None,
    explain: Callable[[Client, Job], None] = explain_workers,
    how_far: HowFar = lambda client, job: (0.0, ""),
) -> Job:
    """Wait for a job; after two seconds show its progress, if somebody watches.

    Args:
        explain: says after two seconds why it takes so long, if there is more to say.
        how_far: how many more of its operations are done, in parts of them, and what is done now.
    """
    given_s = float("inf") if timeout_s is None else timeout_s
    end = time.monotonic() + given_s
    with suppress(WaitTimeout):
        return client.wait(job, min(UNWATCHED_S, given_s))
    explain(client, job)
    # Asking may have taken its time, while the master restarted.
    left_s = end - time.monotonic()
    if left_s > 0 and not sys.stderr.isatty():
        with suppress(WaitTimeout):
            return client.wait(job, None if timeout_s is None else left_s)
    elif left_s > 0:
        with click.progressbar(
            length=100 * (job.operations or 1),
            label=f"job {job.id}",
            file=sys.stderr,
            item_show_func=lambda text: text,
        ) as bar:
            while left_s > 0:
                found = client.job(job)
                with suppress(WaitTimeout):
                    step_s = min(PROGRESS_S, left_s)
                    found = client.wait(job, step_s) if not found.finished else found
                bar.length = 100 * (found.operations or 1)
                done, text = how_far(client, found) if not found.finished else (0.0, "")
                done += found.operations_done or found.finished
                bar.current_item = short(text)
                bar.update(max(0, int(100 * done) - bar.pos), bar.current_item)
                bar.render_progress()  # It does so by itself only when there is a step.
                if found.finished:
                    return found
                left_s = end - time.monotonic()
    assert timeout_s is not None
    raise WaitTimeout([job.id], timeout_s)


def shown(value: Any) -> str:
    """An answer: a number as Python has it, anything else as JSON that commands no terminal."""
    if isinstance(value, float):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal_digits(value)
    text = encode(value).decode()
    if text.isprintable():
        return text
    # What cannot be printed stands in texts alone, where JSON has another way to write it.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def standing(job: Job) -> str:
    if job.succeeded:
        return shown(job.answer)
    if job.error is not None:
        return f"error: {job.error}"
    if job.finished:
        return job.state
    return f"{job.state}, {job.operations_done} of {job.operations} operations done"


def print_job(job: Job, as_json: bool, text: str, err: bool = False) -> None:
    if as_json:
        click.echo(encode(job))
    else:
        click.echo(text, err=err)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], empty: str) -> None:
    if not rows:
        click.echo(empty, err=True)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def printable(text: str) -> str:
    """A text that can neither break a line nor command a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def short(text: str, length: int = 40) -> str:
    text = printable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


@contextmanager
def explained(master_url: str, master_stays: bool = True) -> Iterator[None]:
    """Turn what a client or a server raises into a message with a next step, and an exit code."""
    try:
        yield
    except FormulaError as error:
        click.echo(syntax_error(error), err=True)
        sys.exit(EXIT_USAGE)
    except Unreachable as error:
        start = (
            f"is one running? dte master, or dte run; or give another --master than {master_url}"
        )
        leave(EXIT_MASTER, f"{error}\n{start}")
    except WaitTimeout as error:
        later = f"; it goes on, ask for it later: dte job {error.jobs[0]} --master {master_url}"
        leave(EXIT_TIMEOUT, f"{error}{later if master_stays else ''}")
    except JobFailed as error:
        leave(EXIT_JOB_FAILED, str(error))
    except (InvalidRequest, NotFound, Conflict) as error:
        leave(EXIT_USAGE, str(error))
    except DteError as error:
        leave(EXIT_MASTER, str(error))
    except BrokenPipeError:
        # Whoever read the output has gone, like head: click ends quietly then.
        raise
    except OSError as error:
        leave(EXIT_MASTER, f"{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def syntax_error(error: FormulaError) -> str:
    """A syntax error as people see it, with the caret below the place."""
    caret = "\n".join(f"  {line}" for line in error.caret.splitlines())
    return f"dte: {error}\n{caret}"


def leave(code: int, message: str) -> NoReturn:
    click.echo(f"dte: {message}", err=True)
    sys.exit(code)
