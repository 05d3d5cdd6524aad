"""The command `dte`, with its subcommands."""

from __future__ import annotations

import click

from dte import __version__
from dte.cli import other_names
from dte.cli.backup import backup_command
from dte.cli.browser import open_command
from dte.cli.calls import call_command, graph_command
from dte.cli.clients import job_command, jobs_command, submit_command, workers_command
from dte.cli.jobs import cancel_command, events_command, nodes_command, retry_command, why_command
from dte.cli.journals import journal_commands
from dte.cli.output import explained
from dte.cli.run import run_command
from dte.cli.servers import HEARTBEAT_S, master_command, worker_command
from dte.cli.settings_file import load_settings
from dte.cli.streams import discard_unwritten, open_missing
from dte.cli.tokens import token_commands
from dte.logs import configure_for_command


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
    configure_for_command()
    load_settings()
    try:
        with explained(""):
            main()
    finally:
        discard_unwritten()


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
    open_command,
    backup_command,
    journal_commands,
    token_commands,
):
    main.add_command(command)
