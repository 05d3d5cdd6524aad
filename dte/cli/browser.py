"""The command `dte open`."""

from __future__ import annotations

import webbrowser

import click

from dte.cli.options import master_option, option
from dte.cli.output import connected, explained
from dte.cli.text import say


@click.command("open", short_help="Open the master's page in a browser.")
@option(
    "--print",
    "only_print",
    envvar="DTE_OPEN_PRINT",
    is_flag=True,
    help="Print the link instead, for a browser elsewhere.",
)
@master_option
def open_command(only_print: bool, master_url: str) -> None:
    """Open the master's page in a browser, logged in with your token.

    The token itself does not reach the browser: it gets a link that works once, within a minute,
    and then a cookie. The browser may do what the token allows until it logs out, or the token is
    removed.
    """
    with explained(master_url), connected(master_url) as client:
        link = client.login_link()
    if only_print:
        say(link)
    elif webbrowser.open(link):
        say(f"opened {master_url} in a browser", err=True)
    else:
        say("no browser is found; open this link in one within a minute:", err=True)
        say(link)
