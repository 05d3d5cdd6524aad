"""Commands that serve: `dte run`, `dte master`, `dte worker`."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import click

from dte import __version__
from dte.cli.options import (
    FORMULAS,
    Seconds,
    bounds,
    journal_options,
    json_option,
    log_option,
    master_option,
    option,
    timeout_option,
)
from dte.cli.output import EXIT_MASTER, answer, check_formulas, explained, leave
from dte.master.journal_file import JournalRefused
from dte.master.settings import Settings
from dte.wire.listening import CannotListen


@click.command("run", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, metavar="[FORMULA]...")
@option(
    "--workers",
    envvar="DTE_WORKERS",
    type=click.IntRange(1, 256),
    metavar="N",
    default=2,
    help="How many worker processes.",
)
@option(
    "--port",
    envvar="DTE_RUN_PORT",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Port of the master.  [default: 5000, with formulas any free one]",
)
@json_option
@timeout_option
@journal_options("none")
@bounds()
def run_command(
    formulas: tuple[str, ...],
    workers: int,
    port: int | None,
    as_json: bool,
    timeout_s: float | None,
    **values: Any,
) -> None:
    """Run a master and workers on this machine.

    With formulas, print each with its answer and leave. Without, serve until Ctrl-C.

    \b
    dte run '1+(2*3)/4-5'
    dte run --workers 4
    """
    from dte.local import LocalCluster, WorkersFailed

    check_formulas(formulas)
    _log("warning")
    port = port if port is not None else 0 if formulas else 5000
    # As with Ctrl-C, no worker is left behind; and SIGTERM is how a server is meant to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM if formulas else 0))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # As nohup has it.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    with explained(""):
        try:
            with LocalCluster(workers, port, Settings(**values)) as cluster:
                if formulas:
                    answer(cluster.master_url, formulas, timeout_s, as_json, master_stays=False)
                else:
                    _say_how_to_use(cluster.master_url, workers)
                    cluster.wait()
        except WorkersFailed as error:
            leave(EXIT_MASTER, str(error))
        except CannotListen as error:
            leave(EXIT_MASTER, f"{error}; {_another(error)}")
        except JournalRefused as error:
            leave(EXIT_MASTER, f"{error}; give another --journal")


def _say_how_to_use(master_url: str, workers: int) -> None:
    click.echo(
        f"dte {__version__}: a master at {master_url} and {workers} workers. Ctrl-C ends them.\n\n"
        f'  curl {master_url}/submit -d \'{{"task": "1+(2*3)/4-5"}}\'\n'
        f"  curl {master_url}/job/1\n"
        f"  dte submit '1+(2*3)/4-5' --master {master_url}\n",
    )
    sys.stdout.flush()


@click.command("master", short_help="Run a master.")
@option("--host", envvar="DTE_MASTER_HOST", default="0.0.0.0", help="Address to listen on.")
@option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    default=5000,
    help="Port to listen on; 0 for any free one.",
)
@journal_options("dte.db")
@bounds()
@log_option
def master_command(log_level: str, **values: Any) -> None:
    """Run a master: it takes formulas and hands their operations to workers.

    \b
    dte master --port 5000
    curl localhost:5000/submit -d '{"task": "1+(2*3)/4-5"}'
    """
    from dte.master.server import serve

    _log(log_level)
    _allow_many_connections()
    settings = Settings(**values)
    _serve(partial(serve, settings))


@click.command("worker", short_help="Run a worker.")
@master_option
@option("--host", envvar="DTE_WORKER_HOST", default="0.0.0.0", help="Address to listen on.")
@option(
    "--port",
    envvar="DTE_WORKER_PORT",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    default=6000,
    help="Port to listen on; 0 for any free one.",
)
@option(
    "--announce-port",
    envvar="DTE_WORKER_ANNOUNCE_PORT",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help="Port at which the master reaches it, where ports are mapped.  [default: --port]",
)
@option(
    "--name",
    envvar="DTE_WORKER_NAME",
    help="Its name.  [default: host name and process id]",
)
@option(
    "--slots",
    envvar="DTE_WORKER_SLOTS",
    type=click.IntRange(1, 64),
    metavar="N",
    default=2,
    help="How many requests it takes at a time; with two, one is on its way while one is done.",
)
@option(
    "--heartbeat-s",
    envvar="DTE_WORKER_HEARTBEAT_S",
    type=Seconds(min=0.1),
    metavar="N",
    default=5.0,
    help="How often it announces itself; to a master it is gone after --dead-after-s of silence.",
)
# For whoever starts workers, and may be killed before it can end them.
@click.option("--leave-with-stdin", is_flag=True, hidden=True, envvar="DTE_LEAVE_WITH_STDIN")
@log_option
def worker_command(
    master_url: str,
    host: str,
    port: int,
    announce_port: int | None,
    name: str | None,
    slots: int,
    heartbeat_s: float,
    leave_with_stdin: bool,
    log_level: str,
) -> None:
    """Run a worker: it announces itself to a master and does operations for it.

    The master calls it back on --port at the address that the announcement comes from.

    \b
    dte worker --master http://localhost:5000 --port 6001
    """
    from dte.worker.server import WorkerSettings, serve

    _log(log_level)
    settings = WorkerSettings(
        master_url, host, port, name or "", slots, announce_port or 0, heartbeat_s
    )
    _serve(partial(serve, settings), leave_with_stdin)


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def _allow_many_connections() -> None:
    """Take as many open files as this user may have: each held request and worker needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS reports more than it gives.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(
    serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], leave_with_stdin: bool = False
) -> None:
    """Serve until SIGTERM or Ctrl-C, or until stdin ends."""

    async def serve_until_signal() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stop.is_set():  # Whoever says it twice does not want to wait.
                os._exit(128 + number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_IGN:
                continue  # As nohup has it, and a shell's & for Ctrl-C.
            loop.add_signal_handler(number, on_signal, number)
        if leave_with_stdin:
            loop.add_reader(sys.stdin, _read_stdin, stop)
        await serve(stop)

    try:
        asyncio.run(serve_until_signal())
    except CannotListen as error:
        leave(EXIT_MASTER, f"{error}; {_another(error)}")
    except JournalRefused as error:
        leave(EXIT_MASTER, f"{error}; give another --journal")


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        stop.set()


def _another(error: CannotListen) -> str:
    return "give another --port" if error.port_is_wrong else "give another --host"
