"""Commands that serve: `dte run`, `dte master`, `dte worker`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import click

from dte import __version__
from dte.cli.options import (
    FORMULAS,
    bounds,
    json_option,
    log_option,
    master_option,
    option,
    timeout_option,
)
from dte.cli.output import EXIT_MASTER, answer, check_formulas, explained, leave
from dte.master.settings import Settings


@click.command("run", context_settings=FORMULAS)
@click.argument("formulas", nargs=-1, metavar="[FORMULA]...")
@option(
    "--workers",
    envvar="DTE_WORKERS",
    type=click.IntRange(1, 256),
    default=2,
    help="How many worker processes.",
)
@option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=click.IntRange(0, 65_535),
    help="Port of the master.  [default: 5000, with formulas any free one]",
)
@json_option
@timeout_option
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

    check_formulas(formulas)
    _log("warning")
    port = port if port is not None else 0 if formulas else 5000
    with explained("", "run it with another --port"):
        try:
            with LocalCluster(workers, port) as cluster:
                if formulas:
                    answer(cluster.master_url, formulas, timeout_s, as_json)
                else:
                    _say_how_to_use(cluster.master_url, workers)
                    cluster.wait()
        except WorkersFailed as error:
            leave(EXIT_MASTER, str(error))


def _say_how_to_use(master_url: str, workers: int) -> None:
    click.echo(
        f"dte {__version__}: a master at {master_url} and {workers} workers. Ctrl-C ends them.\n\n"
        f'  curl {master_url}/submit -d \'{{"task": "1+(2*3)/4-5"}}\'\n'
        f"  curl {master_url}/job/1\n"
        f"  dte submit '1+(2*3)/4-5' --master {master_url}\n",
    )
    sys.stdout.flush()


@click.command("master")
@option("--host", envvar="DTE_MASTER_HOST", default="0.0.0.0", help="Address to listen on.")
@option(
    "--port",
    envvar="DTE_MASTER_PORT",
    type=click.IntRange(0, 65_535),
    default=5000,
    help="Port to listen on; 0 for any free one.",
)
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
    settings = Settings(**values)
    _serve(partial(serve, settings), f"{settings.host}:{settings.port}")


@click.command("worker")
@master_option
@option("--host", envvar="DTE_WORKER_HOST", default="0.0.0.0", help="Address to listen on.")
@option(
    "--port",
    envvar="DTE_WORKER_PORT",
    type=click.IntRange(0, 65_535),
    default=6000,
    help="Port to listen on; 0 for any free one.",
)
@option(
    "--name",
    envvar="DTE_WORKER_NAME",
    default="",
    help="Its name.  [default: host name and process id]",
)
@option(
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
        leave(EXIT_MASTER, f"cannot listen on {address}: {error.strerror}; give another --port")
