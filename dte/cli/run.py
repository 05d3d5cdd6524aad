"""The command `dte run`."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dte import __version__, logs
from dte.cli.exposure import check_exposure, exposure_options, tokens_named
from dte.cli.options import (
    FORMULAS,
    SHOWN,
    Whole,
    bounds,
    handlers_option,
    journal_options,
    json_option,
    log_options,
    option,
    process_options,
    slots_option,
    timeout_option,
    tokens_option,
)
from dte.cli.output import (
    EXIT_MASTER,
    EXIT_USAGE,
    answer,
    check_formulas,
    explained,
    hinted,
    leave,
)
from dte.cli.servers import PORT, another, check_system
from dte.cli.streams import stdout_to_stderr
from dte.cli.text import say
from dte.cli.watching import Explainer
from dte.cli.webhooks import webhook_options, with_secret
from dte.core.printable import printable
from dte.master.access.tokens import Role, TokensRefused
from dte.master.journal.schema import JournalRefused
from dte.master.settings import Settings
from dte.wire.http.listening import CannotListen

if TYPE_CHECKING:
    from dte.local import LocalCluster

JOURNAL = "dte.db"


@click.command("run", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, metavar="[FORMULA]...")
@option(
    "--workers",
    type=Whole(1, 256),
    metavar="N",
    default=2,
    help="Number of worker processes.",
)
@slots_option
@process_options
@exposure_options("DTE_RUN_HOST")
@option(
    "--port",
    envvar="DTE_RUN_PORT",
    type=PORT,
    metavar="PORT",
    help="Port of the master; 0 selects a free one.  [default: 5000; with formulas: a free one]",
)
@handlers_option
@option(
    "--reload",
    envvar="DTE_RUN_RELOAD",
    is_flag=True,
    help="Replace the workers when a file of their handlers changes. Running calls end first.",
)
@json_option
@timeout_option
@journal_options(None, "dte.db; with formulas: none")
@tokens_option
@webhook_options
@bounds()
@log_options("warning")
def run_command(
    formulas: tuple[str, ...],
    workers: int,
    slots: int | None,
    memory_mb: int | None,
    calls_per_process: int | None,
    port: int | None,
    handlers: tuple[str, ...],
    reload: bool,
    as_json: bool,
    timeout_s: float | None,
    log_level: str,
    log_format: str,
    journal: str | None,
    **values: Any,
) -> None:
    """Run a master and workers on this machine.

    With formulas, the command prints each with its answer and exits. Without, it serves until
    Ctrl-C, and keeps jobs in the file dte.db. A worker that ends is started again.

    \b
    dte run '1+(2*3)/4-5'
    dte run --workers 4
    dte run --handlers my.module --reload
    """
    check_system()
    from dte.local import LocalCluster, WorkersFailed
    from dte.local_workers import WorkerOptions

    ctx = click.get_current_context()
    _check_no_tls(formulas)
    check_formulas(formulas)
    logs.configure(log_level, log_format)
    is_default = ctx.get_parameter_source("log_level") is ParameterSource.DEFAULT
    if formulas and is_default:
        logging.getLogger("dte.master").setLevel(logging.ERROR)  # What fails is printed anyway.
    if handlers:
        _check_handlers(handlers, reload)
    elif reload:
        raise click.UsageError("--reload needs --handlers, whose files it watches")
    port = port if port is not None else 0 if formulas else 5000
    settings = Settings(**with_secret(values), journal=_journal(ctx, journal, bool(formulas)))
    of_handlers = "info" if is_default else log_level
    options = WorkerOptions(
        handlers, slots, log_level, of_handlers, log_format, reload, memory_mb, calls_per_process
    )
    _exit_on_signals(formulas)
    with explained(""):
        try:
            check_exposure(settings)
            with LocalCluster(workers, port, settings, options, settings.host) as cluster:
                if formulas:
                    explain = Explainer("dte run --handlers MODULE")
                    url = cluster.master_url
                    ctx.meta[SHOWN] = {"token": cluster.admit(Role.ADMIN, "run")}
                    answer(url, formulas, timeout_s, as_json, explain, master_stays=False)
                else:
                    _say_how_to_use(cluster, workers, settings)
                    cluster.wait()
        except WorkersFailed as error:
            leave(EXIT_MASTER, str(error))
        except CannotListen as error:
            leave(EXIT_MASTER, f"{error}; {another(error, for_master=not formulas)}")
        except TokensRefused as error:
            leave(EXIT_USAGE, str(error))
        except JournalRefused as error:
            leave(EXIT_MASTER, f"{error}. To run without a journal: --journal none")


def _check_no_tls(formulas: tuple[str, ...]) -> None:
    """Refuse the options of TLS, which are taken for formulas."""
    for formula in formulas:
        if formula.startswith("--tls-"):
            given = printable(formula.partition("=")[0])
            text = f"dte run has no {given}; for TLS, use dte master and dte worker"
            raise click.UsageError(text)


def _exit_on_signals(formulas: tuple[str, ...]) -> None:
    """Exit by exception, which ends the workers. SIGTERM is the regular end of a server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM if formulas else 0))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))


def _journal(ctx: click.Context, given: str | None, for_formulas: bool) -> str:
    """Return the file of the journal.

    With formulas, only the command line can ask for one: the variable may be meant for a master
    that serves in the same folder.
    """
    if for_formulas and ctx.get_parameter_source("journal") is not ParameterSource.COMMANDLINE:
        return "none"
    return given or JOURNAL


def _check_handlers(modules: tuple[str, ...], reload: bool) -> None:
    """Exit with one message if handlers cannot be loaded, instead of one from each worker."""
    from dte.handlers.modules import CannotLoad
    from dte.handlers.registry import load

    if reload:
        sys.dont_write_bytecode = True  # A file may be changed twice in a second.
    try:
        importing = f"still importing {', '.join(modules)}"
        with stdout_to_stderr(), hinted(importing):
            load(modules)
    except CannotLoad as error:
        leave(EXIT_USAGE, str(error))


def _say_how_to_use(cluster: LocalCluster, workers: int, settings: Settings) -> None:
    journal, where = settings.journal, tokens_named(settings.tokens_file)
    master_url = cluster.master_url
    count = "1 worker" if workers == 1 else f"{workers} workers"
    jobs = "are not kept" if journal == "none" else f"are kept in {journal}"
    program = "dte" if shutil.which("dte") else shlex.quote(sys.argv[0])
    say(
        f"dte {__version__}: a master at {master_url} and {count}. Jobs {jobs}. Press Ctrl-C to "
        "stop.\n\n"
        f'  curl {master_url}/submit -d \'{{"task": "1+(2*3)/4-5"}}\'\n'
        f"  curl {master_url}/job/{cluster.next_job}\n"
        f"  {program} submit '1+(2*3)/4-5' --master {master_url}\n"
    )
    if cluster.needs_tokens:
        say(f"These need a token; to make one: {program} token new client NAME{where}")
    sys.stdout.flush()
