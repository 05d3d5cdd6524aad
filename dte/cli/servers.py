"""The commands `dte master` and `dte worker`."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import click

from dte import logs
from dte.cli.exposure import (
    HOST_HELP,
    check_exposure,
    exposure_options,
    host_names_option,
    tls_ca_option,
    tls_options,
)
from dte.cli.options import (
    Seconds,
    Whole,
    bounds,
    handlers_option,
    journal_options,
    log_options,
    option,
    process_options,
    shown_to_master,
    slots_option,
    tokens_option,
    worker_master_options,
)
from dte.cli.output import EXIT_MASTER, EXIT_USAGE, files_explained, leave
from dte.cli.stopping import StopRequests
from dte.cli.text import short
from dte.cli.webhooks import webhook_options, with_secret
from dte.core.graph.handlers import NAME_CHARS_MAX
from dte.core.printable import printable
from dte.master.access.tokens import TokensRefused
from dte.master.journal.schema import JournalRefused
from dte.master.settings import Settings
from dte.wire.access import VARIABLES, Access, use_token
from dte.wire.http.listening import CannotListen
from dte.wire.http.tls import FilesRefused

PORT = Whole(0, 65_535)
HEARTBEAT_S = 5.0
NO_ARGUMENTS = {"allow_extra_args": True}
"""Context settings of commands that refuse arguments themselves, see `_check_no_arguments`."""
FOR_OTHERS = ", and pass its URL to clients and workers with --master or DTE_MASTER"


@click.command("master", short_help="Run a master.", context_settings=NO_ARGUMENTS)
@exposure_options("DTE_MASTER_HOST")
@option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=PORT,
    metavar="PORT",
    default=5000,
    help="Port to listen on; 0 selects a free one.",
)
@tls_options
@tls_ca_option
@journal_options("dte.db")
@tokens_option
@webhook_options
@bounds()
@log_options("info")
def master_command(log_level: str, log_format: str, **values: Any) -> None:
    """Run a master, which accepts jobs and hands their operations to workers.

    Jobs are kept in a journal, so they survive a restart of the master. Most options set limits; a
    request that exceeds a limit is refused with the name of that limit.

    \b
    dte master --port 5000
    curl localhost:5000/submit -d '{"task": "1+(2*3)/4-5"}'
    """
    _check_no_arguments()
    check_system()
    from dte.master.loop import MasterLoop
    from dte.master.server import serve

    logs.configure(log_level, log_format)
    _allow_many_connections()
    settings = Settings(**with_secret(values))
    try:
        check_exposure(settings)
    except TokensRefused as error:
        leave(EXIT_USAGE, str(error))
    reloads = bool(settings.tls_cert)
    _serve(partial(serve, settings), reloads=reloads, for_master=True, new_loop=MasterLoop)


def check_name(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Refuse a name that every master refuses."""
    if name and len(name) > NAME_CHARS_MAX:
        raise click.BadParameter(f"must have at most {NAME_CHARS_MAX} characters, not {len(name)}")
    if name and not name.isprintable():
        raise click.BadParameter(f"{name!r} has characters that cannot be printed")
    return name


@click.command("worker", short_help="Run a worker.", context_settings=NO_ARGUMENTS)
@worker_master_options
@option(
    "--host",
    envvar="DTE_WORKER_HOST",
    help=f"{HOST_HELP}  [default: localhost if the master is on this machine, else the address "
    "that leads to it]",
)
@option(
    "--port",
    envvar="DTE_WORKER_PORT",
    type=PORT,
    metavar="PORT",
    default=6000,
    help="Port to listen on; 0 selects a free one.",
)
@host_names_option
@tls_options
@option(
    "--announce-port",
    envvar="DTE_WORKER_ANNOUNCE_PORT",
    type=Whole(1, 65_535),
    metavar="PORT",
    help="Port at which the master reaches the worker, if ports are mapped.  [default: --port]",
)
@option(
    "--name",
    envvar="DTE_WORKER_NAME",
    callback=check_name,
    help="Name of the worker.  [default: name of its token, if any, host name and process id]",
)
@handlers_option
@slots_option
@process_options
@option(
    "--pull",
    envvar="DTE_WORKER_PULL",
    is_flag=True,
    help="Claim work from the master instead of listening, for example behind NAT, where the "
    "master cannot reach the worker. The worker then needs a name of its own.",
)
@option(
    "--spool",
    envvar="DTE_WORKER_SPOOL",
    metavar="DIR",
    help="Folder for results while the master is away, so that they survive the end of the "
    "worker. No other user may write there. Results of a worker with a --name are reported by one "
    "of that name alone.  [default: in memory only]",
)
@option(
    "--spool-retry-s",
    envvar="DTE_WORKER_SPOOL_RETRY_S",
    type=Seconds(min=0, min_open=True),
    metavar="N",
    help="Seconds until a result that the master did not take is sent again.  [default: 20]",
)
@option(
    "--spool-ttl-s",
    envvar="DTE_WORKER_SPOOL_TTL_S",
    type=Seconds(min=0, min_open=True),
    metavar="N",
    help="Seconds after which a result that the master did not take is dropped.  [default: 3600]",
)
@option(
    "--grace-s",
    envvar="DTE_WORKER_GRACE_S",
    type=Seconds(min=0),
    metavar="N",
    default=5.0,
    help="Seconds that running calls have to finish after SIGTERM or Ctrl-C. Then they are "
    "stopped, and other workers run them.",
)
@option(
    "--heartbeat-s",
    envvar="DTE_WORKER_HEARTBEAT_S",
    type=Seconds(min=0.1),
    metavar="N",
    default=HEARTBEAT_S,
    help="Seconds between announcements to the master. After --dead-after-s of silence, the master "
    "considers the worker gone.",
)
# For a parent process that may be killed before it can end its workers.
@option("--leave-with-stdin", is_flag=True, hidden=True)
# For `dte run`, which shows what handlers log and less of what its workers log.
@click.option("--own-log-level", hidden=True)
# Also for `dte run`: handlers, which get the environment, do not get this token.
@click.option("--token-from-stdin", is_flag=True, hidden=True)
@log_options("info")
def worker_command(
    leave_with_stdin: bool,
    own_log_level: str | None,
    token_from_stdin: bool,
    log_format: str,
    **values: Any,
) -> None:
    """Run a worker, which computes operations and runs handlers for a master.

    The worker announces itself to the master. The master then sends it work, to --port at the
    address from which the announcement came. With --pull, the worker claims its work instead.

    \b
    dte worker --master http://localhost:5000 --port 6001
    dte worker --handlers my.module --slots 4
    dte worker --pull
    """
    _check_no_arguments()
    check_system()
    from dte.handlers.modules import CannotLoad
    from dte.worker.server import WorkerSettings, serve
    from dte.worker.spool import SpoolUnusable

    logs.configure(own_log_level or values["log_level"], log_format)
    _show_to_master(values)
    if token_from_stdin:
        use_token(_line_of_stdin())
    given = {name: value for name, value in values.items() if value is not None}
    settings = WorkerSettings(**given)
    try:
        _serve(partial(serve, settings), leave_with_stdin, reloads=bool(settings.tls_cert))
    except CannotLoad as error:
        leave(EXIT_USAGE, str(error))
    except SpoolUnusable as error:
        leave(EXIT_USAGE, f"{error} give another --spool")


def _show_to_master(values: dict[str, Any]) -> None:
    """Put what is shown to the master where the worker finds it, and check the files.

    Handlers find the certificates there too. The token is the worker's alone, unless it comes from
    the environment.
    """
    given: dict[str, Any] = {**shown_to_master()}
    given |= {name: values[name] for name in ("tls_cert", "tls_key") if values.get(name)}
    token_file = given.pop("token_file", "")
    for name, value in given.items():
        os.environ[VARIABLES[name]] = value
    with files_explained():
        if token_file:
            use_token(file=token_file)
        Access(values["master_url"]).check()


def _line_of_stdin() -> str:
    """Read the first line of stdin, and nothing more."""
    line = b""
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
    return line.decode("latin-1")


def _check_no_arguments() -> None:
    """Refuse arguments. A shell makes some of a star that is not quoted."""
    ctx = click.get_current_context()
    if ctx.args:
        shown = printable(" ".join(map(shlex.quote, ctx.args)))
        raise click.UsageError(
            f"dte {ctx.command.name} takes no arguments, and got {short(shown)}; to listen on all "
            "addresses, quote the star: --host '*'"
        )


def check_system() -> None:
    """Exit with an error where a master or a worker cannot run."""
    if sys.platform == "win32":
        leave(
            EXIT_USAGE,
            "masters and workers run on Linux and macOS; on Windows, run them in WSL or in a "
            "container. Commands that ask a master, such as dte submit, work here",
        )


def _allow_many_connections() -> None:
    """Raise the limit of open files: each held request and each worker needs one."""
    import resource  # Clients run where there is none.

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS reports a higher limit than it grants.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(
    serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    leave_with_stdin: bool = False,
    *,
    reloads: bool = False,
    for_master: bool = False,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, or until stdin ends.

    Args:
        reloads: SIGHUP is for the server, which reads its certificate again; otherwise it ends it.
    """

    async def serve_until_signal() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        serving = loop.create_task(serve(stop))
        requests = StopRequests()

        def on_signal(number: signal.Signals) -> None:
            stop.set()
            if not requests.add(number, loop.time()):
                return
            if requests.count == 2:  # The user does not want to wait for the grace.
                exit_codes.append(128 + number)
                serving.cancel()
            elif requests.count > 2:
                os._exit(128 + number)

        def on_stdin() -> None:
            if not os.read(sys.stdin.fileno(), 1024):
                loop.remove_reader(sys.stdin)
                stop.set()
                requests.add_end_of_stdin()

        exit_codes: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT, *(() if reloads else (signal.SIGHUP,))):
            if signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup ignores SIGHUP, and a shell's & ignores Ctrl-C.
            loop.add_signal_handler(number, on_signal, number)
        if leave_with_stdin:
            loop.add_reader(sys.stdin, on_stdin)
        try:
            await serving
        except asyncio.CancelledError:
            if not exit_codes:
                raise
            os._exit(exit_codes[0])

    gc.freeze()  # Loaded modules stay, so the collector need not scan them.
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve_until_signal())
    except CannotListen as error:
        leave(EXIT_MASTER, f"{error}; {another(error, for_master)}")
    except JournalRefused as error:
        leave(EXIT_MASTER, str(error))
    except (FilesRefused, TokensRefused) as error:
        leave(EXIT_USAGE, str(error))


def another(error: CannotListen, for_master: bool = False) -> str:
    """Return the advice for an address or a port that cannot be used."""
    if not error.port_is_wrong:
        return "give another --host"
    return f"give another --port{FOR_OTHERS if for_master else ''}"
