"""The command `dte`: its subcommands, and settings from `.env`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO

import click
from dotenv import load_dotenv
from dotenv.parser import parse_stream

from dte import __version__
from dte.cli import other_names
from dte.cli.backup import backup_command
from dte.cli.calls import call_command, graph_command
from dte.cli.clients import job_command, jobs_command, submit_command, workers_command
from dte.cli.jobs import cancel_command, events_command, nodes_command, retry_command, why_command
from dte.cli.journals import journal_commands
from dte.cli.output import EXIT_USAGE, explained, leave
from dte.cli.run import run_command
from dte.cli.servers import HEARTBEAT_S, master_command, worker_command
from dte.cli.streams import discard_unwritten, open_missing
from dte.cli.text import say
from dte.cli.tokens import token_commands


class Commands(click.Group):
    """A group that lists its commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dte")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run formulas and Python functions on several machines.

    A master accepts jobs and hands them to workers. A job is a formula, a call of a handler (a
    Python function that a worker knows by name), or a graph of such calls.

    \b
    Try it on this machine:     dte run '1+(2*3)/4-5'
    Or, in three terminals:     dte master
                                dte worker
                                dte submit '1+(2*3)/4-5'

    Most options can also be set by an environment variable, which --help shows in brackets, or by a
    line in a file .env in the current folder.
    """
    ctx.default_map = other_names.defaults(HEARTBEAT_S)


def entry() -> None:
    """Run the command line with settings from `.env` in the current folder."""
    open_missing()
    load_settings()
    try:
        with explained(""):
            main()
    finally:
        discard_unwritten()


def load_settings() -> None:
    """Read `.env` in the current folder, unless that folder has been deleted."""
    try:
        file = Path.cwd() / ".env"
    except FileNotFoundError:
        return
    logging.getLogger("dotenv").setLevel(logging.ERROR)  # It names the line, but not the file.
    try:
        load_dotenv(file)
        if file.is_file():
            with file.open(encoding="utf-8") as stream:
                _show_broken(file, stream)
    except UnicodeDecodeError as error:
        place = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        leave(EXIT_USAGE, f"cannot read {file}: it is not UTF-8, {place}")
    except OSError as error:
        leave(EXIT_USAGE, f"cannot read {file}: {error.strerror}")


def _show_broken(file: Path, stream: IO[str]) -> None:
    """Print where `.env` has settings of dte that cannot be read; other programs use it too."""
    for binding in parse_stream(stream):
        if binding.error and "DTE_" in binding.original.string:
            text = f"dte: line {binding.original.line} of {file} is ignored; write NAME=VALUE"
            say(text, err=True)


for command in (
    run_command,
    master_command,
    worker_command,
    submit_command,
    call_command,
    graph_command,
    job_command,
    jobs_command,
    nodes_command,
    why_command,
    events_command,
    cancel_command,
    retry_command,
    workers_command,
    backup_command,
    journal_commands,
    token_commands,
):
    main.add_command(command)
