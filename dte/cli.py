"""The command line: one command, `dte`.

Exit codes: 0 all went well · 1 a job failed · 2 the command or a formula is wrong · 3 no master
answers, or it refuses · 4 the time to wait is over · 130 Ctrl-C.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from dotenv import load_dotenv

from dte import __version__
from dte.client.blocking import Client
from dte.client.errors import JobFailed, Unreachable, WaitTimeout
from dte.client.replies import Job
from dte.core.errors import DteError, FormulaError, InvalidRequest, NotFound
from dte.master.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_MASTER = 3
EXIT_TIMEOUT = 4

FORMULAS = {"ignore_unknown_options": True}  # A formula may begin with a minus sign.


class Commands(click.Group):
    """Commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dte")
def main() -> None:
    """Compute formulas on a master and its workers.

    \b
    Try it on this machine:     dte run '1+(2*3)/4-5'
    Or, in three terminals:     dte master
                                dte worker
                                dte submit '1+(2*3)/4-5'

    Every option can be set as an environment variable, which --help names, and in a file .env.
    """


def entry() -> None:
    """Run the command line, with settings from `.env` in the current folder."""
    load_dotenv(Path.cwd() / ".env")
    main()


# Options that commands share


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _option(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, show_default=True, show_envvar=True, **attributes)


def _check_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from dte.client.calls import check_url

    try:
        check_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


master_option = _option(
    "--master",
    "master_url",
    envvar="DTE_MASTER",
    default="http://localhost:5000",
    metavar="URL",
    callback=_check_url,
    help="Where the master is.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for other programs."
)
timeout_option = _option(
    "--timeout",
    "timeout_s",
    envvar="DTE_TIMEOUT",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait no longer for an answer.  [default: for ever]",
)
log_option = _option(
    "--log-level",
    envvar="DTE_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    help="How much to say on stderr.",
)


def _bounds() -> Callable[[F], F]:
    """An option for each bound of the master."""
    decorators = []
    for field in fields(Settings):
        if "help" not in field.metadata:
            continue
        number = click.FloatRange if isinstance(field.default, float) else click.IntRange
        decorators.append(
            _option(
                f"--{field.name.replace('_', '-')}",
                field.name,
                envvar=f"DTE_{field.name.upper()}",
                type=number(field.metadata["minimum"], field.metadata.get("maximum")),
                default=field.default,
                metavar="N",
                help=field.metadata["help"],
            )
        )
    return _options(*decorators)


# Servers


@main.command("run", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, metavar="[FORMULA]...")
@_option(
    "--workers",
    envvar="DTE_WORKERS",
    type=click.IntRange(1, 256),
    default=2,
    help="How many worker processes.",
)
@_option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=click.IntRange(0, 65_535),
    help="Port of the master.  [default: 5000, with formulas any free one]",
)
@json_option
@_options(timeout_option)
def run_command(
    formulas: tuple[str, ...],
    workers: int,
    port: int | None,
    as_json: bool,
    timeout_s: float | None,
) -> None:
    """Run a master and workers on this machine.

    With formulas, print each with its answer and leave. Without, serve until Ctrl-C.

    \b
    dte run '1+(2*3)/4-5'
    dte run --workers 4
    """
    from dte.local import LocalCluster, WorkersFailed

    _check_formulas(formulas)
    _log("warning")
    port = port if port is not None else 0 if formulas else 5000
    with _explained("", "run it with another --port"):
        try:
            with LocalCluster(workers, port) as cluster:
                if formulas:
                    _answer(cluster.master_url, formulas, timeout_s, as_json)
                else:
                    _say_how_to_use(cluster.master_url, workers)
                    cluster.wait()
        except WorkersFailed as error:
            _leave(EXIT_MASTER, str(error))


def _say_how_to_use(master_url: str, workers: int) -> None:
    click.echo(
        f"dte {__version__}: a master at {master_url} and {workers} workers. Ctrl-C ends them.\n\n"
        f'  curl {master_url}/submit -d \'{{"task": "1+(2*3)/4-5"}}\'\n'
        f"  curl {master_url}/job/1\n"
        f"  dte submit '1+(2*3)/4-5' --master {master_url}\n",
    )
    sys.stdout.flush()


@main.command("master")
@_option("--host", envvar="DTE_MASTER_HOST", default="0.0.0.0", help="Address to listen on.")
@_option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=click.IntRange(0, 65_535),
    default=5000,
    help="Port to listen on; 0 for any free one.",
)
@_bounds()
@log_option
def master_command(log_level: str, **values: Any) -> None:
    """Run a master: it takes formulas and hands their operations to workers.

    \b
    dte master --port 5000
    curl localhost:5000/submit -d '{"task": "1+(2*3)/4-5"}'
    """
    from dte.master.server import serve

    _log(log_level)
    settings = Settings(**values)
    _serve(partial(serve, settings), f"{settings.host}:{settings.port}")


@main.command("worker")
@master_option
@_option("--host", envvar="DTE_WORKER_HOST", default="0.0.0.0", help="Address to listen on.")
@_option(
    "--port",
    envvar="DTE_WORKER_PORT",
    type=click.IntRange(0, 65_535),
    default=6000,
    help="Port to listen on; 0 for any free one.",
)
@_option(
    "--name",
    envvar="DTE_WORKER_NAME",
    default="",
    help="Its name.  [default: host name and process id]",
)
@_option(
    "--slots",
    envvar="DTE_WORKER_SLOTS",
    type=click.IntRange(1, 10_000),
    default=2,
    help="How many requests it takes at a time; with two, one is on its way while one is done.",
)
@log_option
def worker_command(
    master_url: str, host: str, port: int, name: str, slots: int, log_level: str
) -> None:
    """Run a worker: it announces itself to a master and does operations for it.

    The master calls it back on --port at the address that the announcement comes from.

    \b
    dte worker --master http://localhost:5000 --port 6001
    """
    from dte.worker.server import WorkerSettings, serve

    _log(log_level)
    settings = WorkerSettings(master_url, host, port, name, slots)
    _serve(partial(serve, settings), f"{host}:{port}")


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def _serve(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], address: str) -> None:
    """Serve until SIGTERM or Ctrl-C."""

    async def serve_until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(stop)

    try:
        asyncio.run(serve_until_signal())
    except OSError as error:
        _leave(EXIT_MASTER, f"cannot listen on {address}: {error.strerror}; give another --port")


# Clients


@main.command("submit", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, required=True, metavar="FORMULA...")
@master_option
@click.option("--no-wait", is_flag=True, help="Print the ids of the jobs and do not wait.")
@timeout_option
@json_option
def submit_command(
    formulas: tuple[str, ...],
    master_url: str,
    no_wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Submit formulas and print each with its answer.

    A single - reads formulas from stdin, one a line.

    \b
    dte submit '1+(2*3)/4-5' '2*21'
    seq 5 | sed 's/$/*2/' | dte submit -
    """
    if formulas == ("-",):
        formulas = tuple(line.strip() for line in sys.stdin if line.strip())
    _check_formulas(formulas)
    if not no_wait:
        _answer(master_url, formulas, timeout_s, as_json)
        return
    with _explained(master_url), Client(master_url) as client:
        for formula in formulas:
            job = client.submit(formula)
            _print_job(job, as_json, f"job {job.id}: {formula}")


@main.command("job")
@click.argument("number", type=click.IntRange(1), metavar="ID")
@master_option
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@timeout_option
@json_option
def job_command(
    number: int, master_url: str, wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Print how a job stands."""
    with _explained(master_url), Client(master_url) as client:
        job = client.wait(number, timeout_s) if wait else client.job(number)
        _print_job(job, as_json, f"job {job.id}: {_standing(job)}")
        if job.finished and job.answer is None:
            sys.exit(EXIT_JOB_FAILED)


@main.command("jobs")
@master_option
@json_option
def jobs_command(master_url: str, as_json: bool) -> None:
    """List the last 100 jobs, the newest first."""
    with _explained(master_url), Client(master_url) as client:
        jobs = client.jobs()
    if as_json:
        click.echo(msgspec.json.encode(jobs))
        return
    rows = [
        (
            str(job.id),
            "ended" if job.answer is not None else "failed" if job.finished else "unfinished",
            _short(job.task),
            _short(str(job.answer) if job.answer is not None else job.error or ""),
        )
        for job in jobs
    ]
    _print_table(("JOB", "STATE", "FORMULA", "ANSWER"), rows, "no jobs yet: dte submit '1+2'")


@main.command("workers")
@master_option
@json_option
def workers_command(master_url: str, as_json: bool) -> None:
    """List the workers that the master knows."""
    with _explained(master_url), Client(master_url) as client:
        workers = client.workers()
    if as_json:
        click.echo(msgspec.json.encode(workers))
        return
    rows = [
        (
            worker.worker_name,
            worker.address,
            worker.state,
            f"{worker.leases}/{worker.slots}",
            str(worker.operations_done),
            _short(worker.last_failure or ""),
        )
        for worker in workers
    ]
    header = ("WORKER", "ADDRESS", "STATE", "SLOTS", "OPERATIONS", "LAST FAILURE")
    _print_table(header, rows, f"no workers yet: dte worker --master {master_url}")


def _check_formulas(formulas: tuple[str, ...]) -> None:
    for formula in formulas:
        if formula.startswith("--") and formula[2:3].isalpha():
            raise click.UsageError(f"there is no option {formula}")


def _answer(
    master_url: str, formulas: tuple[str, ...], timeout_s: float | None, as_json: bool
) -> None:
    """Print each formula with its answer; leave with 1 if one has none."""
    failed = False
    with _explained(master_url), Client(master_url) as client:
        jobs = [(formula, client.submit(formula)) for formula in formulas]
        for formula, submitted in jobs:
            job = _wait_visibly(client, submitted, timeout_s)
            failed = failed or job.answer is None
            _print_job(job, as_json, f"{formula} = {_standing(job)}", err=job.answer is None)
    if failed:
        sys.exit(EXIT_JOB_FAILED)


def _wait_visibly(client: Client, job: Job, timeout_s: float | None) -> Job:
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


def _standing(job: Job) -> str:
    if job.answer is not None:
        return str(job.answer)
    if job.error is not None:
        return f"error: {job.error}"
    return f"{job.state}, {job.operations_done} of {job.operations} operations done"


def _print_job(job: Job, as_json: bool, text: str, err: bool = False) -> None:
    if as_json:
        click.echo(msgspec.json.encode(job))
    else:
        click.echo(text, err=err)


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], empty: str) -> None:
    if not rows:
        click.echo(empty, err=True)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


@contextmanager
def _explained(master_url: str, hint: str = "") -> Iterator[None]:
    """Turn what a client or a server raises into a message with a next step, and an exit code."""
    try:
        yield
    except FormulaError as error:
        caret = "\n".join(f"  {line}" for line in error.caret.splitlines())
        _leave(EXIT_USAGE, f"{error}\n{caret}")
    except Unreachable as error:
        start = (
            f"is one running? dte master, or dte run; or give another --master than {master_url}"
        )
        _leave(EXIT_MASTER, f"{error}\n{start}")
    except WaitTimeout as error:
        _leave(EXIT_TIMEOUT, f"{error}; ask for it later: dte job {error.jobs[0]}")
    except JobFailed as error:
        _leave(EXIT_JOB_FAILED, str(error))
    except (InvalidRequest, NotFound) as error:
        _leave(EXIT_USAGE, str(error))
    except DteError as error:
        _leave(EXIT_MASTER, str(error))
    except OSError as error:
        _leave(EXIT_MASTER, f"{error.strerror or error}; {hint}" if hint else str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(code: int, message: str) -> NoReturn:
    click.echo(f"dte: {message}", err=True)
    sys.exit(code)
