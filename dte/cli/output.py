"""The output of commands: answers, tables, progress, and errors with a next step.

Exit codes: 0 success · 1 a job failed · 2 the command or a formula is wrong · 3 the master does not
answer or refuses · 4 --timeout is over · 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NoReturn

import click

from dte.cli.options import at, no_such_option, shown_to_master
from dte.cli.text import printable_json, say, say_json, short
from dte.client.blocking import Client
from dte.client.errors import TlsFailed, Unreachable, WaitTimeout
from dte.client.exact import decimal_digits, encode
from dte.client.exchange import TOKEN_ADVICE
from dte.client.job import Job, JobFailed
from dte.client.patience import PATIENCE_S
from dte.core.errors import (
    Conflict,
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    Unauthorized,
)
from dte.core.printable import printable
from dte.wire.access import NoToken

EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_MASTER = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130

TOKEN_HINT = (
    "The token comes from DTE_TOKEN, or from a file: DTE_TOKEN_FILE or --token-file. Whoever runs "
    "the master makes one: dte token new client NAME"
)
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""What is wrong when the output goes to a full disk."""

UNWATCHED_S = 2.0
"""The time after which a command shows progress."""
SILENT_S = 2 * UNWATCHED_S
"""The same for a master that has not answered: it may hold the first request while a job runs."""
PROGRESS_S = 0.5
EXPLAIN_EVERY_S = 10.0
"""The time after which a command looks again why a job waits."""

Explain = Callable[[Client, Job], object]
HowFar = Callable[[Client, Job], tuple[float, str]]


def check_formulas(formulas: tuple[str, ...]) -> None:
    for formula in formulas:
        if formula.startswith("--") and formula[2:3].isalpha():
            raise no_such_option(formula)
        try:
            formula.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{formula!r} is not UTF-8 text") from None


@contextmanager
def connected(master_url: str, timeout_s: float | None = None) -> Iterator[Client]:
    """Give a client that retries a master for no longer than the command waits."""
    patience_s = PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s)
    hint = f"no answer from {master_url} yet"
    with files_explained():
        opened = Client(master_url, patience_s=patience_s, **shown_to_master())
    with (
        opened as client,
        hinted(hint, lambda: not client.reached, SILENT_S),
    ):
        yield client


@contextmanager
def files_explained() -> Iterator[None]:
    """Exit with the reason where the token or a file of TLS cannot be used."""
    try:
        yield
    except (ValueError, NoToken) as error:
        leave(EXIT_USAGE, printable(str(error)))


@contextmanager
def hinted(
    text: str, holds: Callable[[], bool] = lambda: True, after_s: float = UNWATCHED_S
) -> Iterator[None]:
    """Print a text if the ``with`` block takes longer than that, and if it holds then."""

    def hint() -> None:
        if holds():
            say(text, err=True)

    timer = threading.Timer(after_s, hint)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def answer(
    master_url: str,
    formulas: tuple[str, ...],
    timeout_s: float | None,
    as_json: bool,
    explain: Explain,
    master_stays: bool = True,
    key: str | None = None,
) -> None:
    """Print each formula with its answer; exit with a code if one has none."""
    code = 0
    with explained(master_url, master_stays), connected(master_url, timeout_s) as client:
        submitted: list[tuple[str, Job]] = []
        for formula in formulas:
            try:
                submitted.append((formula, client.submit(formula, key=key)))
            except FormulaError as error:
                code = EXIT_USAGE
                say(syntax_error(error), err=True)
        for formula, job in submitted:
            with interruptible(job, master_url) if master_stays else nullcontext():
                found = wait_visibly(client, job, timeout_s, explain)
            if not found.succeeded:
                code = code or EXIT_JOB_FAILED
            print_job(found, as_json, f"{formula} = {standing(found)}", err=not found.succeeded)
    if code:
        sys.exit(code)


@contextmanager
def interruptible(job: Job, master_url: str) -> Iterator[None]:
    """Wait for a job; after Ctrl-C say that it continues, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        leave(
            EXIT_INTERRUPTED,
            f"job {job.id} continues\n"
            f"to wait for it: dte job {job.id} --wait{at(master_url)}\n"
            f"to cancel it: dte cancel {job.id}{at(master_url)}",
        )


def explain_workers(client: Client, job: Job) -> None:
    """Print a hint if no worker is connected."""
    if not any(worker.state in ("free", "busy", "failing") for worker in client.workers()):
        hint = f"dte worker{at(client.master_url, for_worker=True)}"
        say(f"no worker is connected; to start one: {hint}", err=True)


@contextmanager
def repeated(
    explain: Explain, client: Client, job: Job, first_s: float = EXPLAIN_EVERY_S
) -> Iterator[None]:
    """Explain meanwhile every ten seconds why a job waits, and for the first time when given."""
    over = threading.Event()

    def repeat() -> None:
        pause_s = first_s
        while not over.wait(pause_s):
            pause_s = EXPLAIN_EVERY_S
            with suppress(DteError):
                explain(client, job)

    threading.Thread(target=repeat, daemon=True, name="dte-explain").start()
    try:
        yield
    finally:
        over.set()


def wait_visibly(
    client: Client,
    job: Job,
    timeout_s: float | None,
    explain: Explain = explain_workers,
    how_far: HowFar = lambda client, job: (0.0, ""),
) -> Job:
    """Wait for a job; after two seconds show its progress if stderr is a terminal.

    Args:
        explain: prints why the job waits, if there is a reason to print; called after two seconds
            and every ten from then on.
        how_far: returns the progress of running calls, in operations, and a text about them.
    """
    given_s = float("inf") if timeout_s is None else timeout_s
    end = time.monotonic() + given_s
    with suppress(WaitTimeout):
        return client.wait(job, min(UNWATCHED_S, given_s))
    explain(client, job)
    # The explanation may have taken long, if the master restarted meanwhile.
    left_s = end - time.monotonic()
    if left_s > 0 and not sys.stderr.isatty():
        with suppress(WaitTimeout), repeated(explain, client, job):
            return client.wait(job, None if timeout_s is None else left_s)
    elif left_s > 0:
        with (
            repeated(explain, client, job),
            click.progressbar(
                length=100 * (job.operations or 1),
                label=f"job {job.id}",
                file=sys.stderr,
                item_show_func=lambda text: text,
            ) as bar,
        ):
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
                bar.render_progress()  # The bar redraws by itself only when it advances.
                if found.finished:
                    return found
                left_s = end - time.monotonic()
    assert timeout_s is not None
    raise WaitTimeout([job.id], timeout_s)


def shown(value: Any) -> str:
    """Return a number as Python prints it, and any other answer as JSON that is safe to print."""
    if isinstance(value, float):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal_digits(value)
    return printable_json(encode(value).decode())


def standing(job: Job) -> str:
    if job.succeeded:
        return shown(job.answer)
    if job.error is not None:
        return f"error: {printable(job.error)}"
    if job.finished:
        return printable(job.state)
    return f"{printable(job.state)}, {job.operations_done} of {job.operations} operations done"


def print_job(job: Job, as_json: bool, text: str, err: bool = False) -> None:
    if as_json:
        say_json(job)
    else:
        say(f"{text}{indented(job.trace)}", err=err)


def print_standing(job: Job, as_json: bool) -> None:
    """Print the status of a job; exit with a code if it has ended without an answer."""
    of = f" (retry of job {job.retry_of})" if job.retry_of is not None else ""
    print_job(job, as_json, f"job {job.id}{of}: {standing(job)}")
    if job.finished and not job.succeeded:
        sys.exit(EXIT_JOB_FAILED)


def status(client: Client, job: Job) -> Job:
    """Return the status of a job that was submitted just now, or what is known without it."""
    with suppress(DteError):
        return client.job(job)
    return job


def indented(trace: str | None) -> str:
    """Return the lines of a stack trace, each after a line break and safe to print."""
    lines = (trace or "").splitlines()
    return "".join(f"\n    {printable(line)}".rstrip(" ") for line in lines)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], empty: str) -> None:
    if not rows:
        say(empty, err=True)
        return
    shown_rows = [header, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown_rows, strict=True)]
    for row in shown_rows:
        say("  ".join(map(str.ljust, row, widths)).rstrip())


@contextmanager
def explained(master_url: str, master_stays: bool = True) -> Iterator[None]:
    """Turn exceptions of a client or a server into a message with a next step and an exit code."""
    try:
        yield
    except FormulaError as error:
        say(syntax_error(error), err=True)
        sys.exit(EXIT_USAGE)
    except NoToken as error:
        leave(EXIT_USAGE, printable(str(error)))
    except Unauthorized as error:
        text = printable(str(error).removesuffix(TOKEN_ADVICE))
        leave(EXIT_MASTER, f"{text}\n{TOKEN_HINT}")
    except TlsFailed as error:
        leave(EXIT_MASTER, printable(str(error)))
    except Unreachable as error:
        hint = "Is a master running there? Start one with `dte run`, or pass --master URL"
        leave(EXIT_MASTER, f"{printable(str(error))}\n{hint}")
    except WaitTimeout as error:
        later = f"; it continues\nto see it: dte job {error.jobs[0]}{at(master_url)}"
        leave(EXIT_TIMEOUT, f"{printable(str(error))}{later if master_stays else ''}")
    except JobFailed as error:
        leave(EXIT_JOB_FAILED, printable(str(error)))
    except NotFound as error:
        context = click.get_current_context(silent=True)
        number = context.params.get("number") if context is not None else None
        there = f"there is no job {number} at {master_url}"
        leave(EXIT_USAGE, there if number else printable(str(error)))
    except (InvalidRequest, Conflict) as error:
        leave(EXIT_USAGE, printable(str(error)))
    except DteError as error:
        leave(EXIT_MASTER, printable(str(error)))
    except BrokenPipeError:
        # The reader of the output has ended, as head does. Click then exits quietly.
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        leave(EXIT_MASTER, f"cannot write: {reason}" if error.errno in FULL else reason)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def syntax_error(error: FormulaError) -> str:
    """Format a syntax error with a caret below its place."""
    caret = "\n".join(f"  {line}" for line in error.caret.splitlines())
    return f"dte: {printable(str(error))}\n{caret}"


def leave(code: int, message: str) -> NoReturn:
    say(f"dte: {message}", err=True)
    sys.exit(code)
