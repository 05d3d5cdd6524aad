"""The commands `dte token new`, `dte token ls` and `dte token rm`."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from click.core import ParameterSource

from dte.cli.options import Once, Switch, Whole, json_option, split_modules, tokens_option
from dte.cli.output import EXIT_USAGE, leave, print_table
from dte.cli.servers import check_system
from dte.cli.text import say, say_json, short
from dte.core.printable import printable
from dte.master.access.tokens import (
    FILE_NAME,
    PRIVATE,
    NameTaken,
    NoSuchToken,
    Role,
    Token,
    TokenFile,
    TokensRefused,
    check_name,
    file_beside,
)

DAY_S = 86_400
DAYS_MAX = 36_500
ROLES = [each.value for each in Role]
FOR_ROLES = {
    "handlers": (Role.CLIENT, Role.WORKER),
    "jobs_waiting": (Role.CLIENT,),
    "code": (Role.CLIENT,),
}
"""The roles that an option is for."""


@click.group("token", short_help="Make, list and remove tokens, which say who may use a master.")
def token_commands() -> None:
    """Make, list and remove tokens, which say who may use a master.

    A master without tokens serves this machine alone. Once its file of tokens has one, every
    request needs a token, and the master may listen on any --host.

    The file is dte.tokens beside the master's journal (DTE_JOURNAL), or else in the current folder.
    A running master reads it again when it changes, so no restart is needed.
    """


def checked_name(ctx: click.Context, param: click.Parameter, name: str) -> str:
    try:
        check_name(name)
    except TokensRefused as error:
        raise click.BadParameter(str(error)) from None
    return name


name_argument = click.argument("name", metavar="NAME", callback=checked_name)


def _patterns(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Split patterns; refuse an empty list, which an unset variable of a shell may leave."""
    found = split_modules(ctx, param, values)
    if values and not found:
        raise click.BadParameter("is empty; leave it out to allow all handlers")
    return found


@token_commands.command("new", short_help="Make a token, and show it only once.")
@click.argument("role", type=click.Choice(ROLES), metavar="|".join(ROLES))
@name_argument
# No variables: DTE_HANDLERS names the modules of a worker.
@click.option(
    "--handlers",
    metavar="PATTERN",
    multiple=True,
    callback=_patterns,
    help="Handlers that a client may call, or that a worker may have, such as resize or image.*; "
    "separated by commas.  [default: all]",
)
@click.option(
    "--jobs-waiting",
    cls=Once,
    type=Whole(1),
    metavar="N",
    help="Maximum number of unfinished jobs of a client.  [default: half of --jobs-waiting-max]",
)
@click.option(
    "--expires",
    cls=Once,
    type=Whole(1, DAYS_MAX),
    metavar="DAYS",
    help="Days until the token is refused.  [default: never]",
)
@click.option(
    "--code",
    is_flag=True,
    hidden=True,
    type=Switch(),
    help="The client may send code of its own, once it can.",
)
@click.option(
    "--to",
    cls=Once,
    metavar="FILE",
    help="New file to write the token into, which only its owner may read.  [default: stdout]",
)
@tokens_option
def new_command(
    role: str, name: str, expires: int | None, to: str | None, tokens: str, **given: Any
) -> None:
    """Make a token, and show it only once: nobody can read it later, as only its hash is kept.

    \b
    client  submits jobs, and sees and cancels its own
    reader  sees all jobs, and changes nothing
    worker  serves workers named NAME or NAME-…
    admin   does everything, dte backup too

    \b
    dte token new worker gpu --to gpu.token
    DTE_TOKEN_FILE=gpu.token dte worker --master https://master.example
    """
    for option, roles in FOR_ROLES.items():
        if given[option] and role not in roles:
            shown = f"--{option.replace('_', '-')}"
            raise click.UsageError(f"{shown} is for {' and '.join(f'{each}s' for each in roles)}")
    file, where = _file(tokens)
    with _explained(name, where), _receiver(to) as hand_over:
        is_first = not file.read()
        secret = file.new(
            Role(role),
            name,
            handlers=given["handlers"] or ("*",),
            jobs_waiting_max=given["jobs_waiting"],
            expires_at=None if expires is None else time.time() + expires * DAY_S,
            code=given["code"],
        )
        try:
            hand_over(secret)
        except OSError:  # The disk is full, or the reader of the pipe has ended: nobody has it.
            file.remove(name)
            raise
    lines = [f"the {role} token {name} is in {file.path}; {_use(to)}"]
    if is_first:
        path = os.path.abspath(file.path)
        lines.append(f"it is the first one: a master with {path} now refuses requests without one")
    say("\n".join(map(printable, lines)), err=True)


@contextmanager
def _receiver(to: str | None) -> Iterator[Callable[[str], None]]:
    """Give a function that writes a token to stdout, or into a new file for its owner alone.

    After an error the file is gone.
    """
    if to is None:
        yield say
        return
    try:
        number = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    except FileExistsError:
        leave(EXIT_USAGE, printable(f"{to} exists already; give another file with --to"))
    except OSError as error:
        leave(EXIT_USAGE, printable(f"cannot write {to}: {error.strerror}"))

    def write(secret: str) -> None:
        with open(number, "w", closefd=False) as stream:
            stream.write(f"{secret}\n")
            stream.flush()
            os.fsync(number)

    try:
        yield write
    except BaseException:
        os.unlink(to)
        raise
    finally:
        os.close(number)


def _use(to: str | None) -> str:
    """Say how a new token is used."""
    if to is not None:
        return f"to use it: DTE_TOKEN_FILE or --token-file {shlex.quote(to)}"
    return (
        "it is shown only once. To use it, put it into DTE_TOKEN, or into a file that "
        "DTE_TOKEN_FILE or --token-file names"
    )


@token_commands.command("ls", short_help="List the tokens, without their secrets.")
@tokens_option
@json_option
def list_command(tokens: str, as_json: bool) -> None:
    """List the names, roles and bounds of the tokens. Their secrets are not kept."""
    file, where = _file(tokens)
    with _explained("", where):
        found = file.read()
    if as_json:
        say_json([_shown(each) for each in found])
        return
    now = time.time()
    rows = [
        (
            each.name,
            f"{each.role}, code" if each.code else str(each.role),
            short(", ".join(each.handlers)),
            "" if each.jobs_waiting_max is None else str(each.jobs_waiting_max),
            _expiry(each, now),
        )
        for each in found
    ]
    empty = f"no tokens in {file.path}; to make one: dte token new client NAME{where}"
    print_table(("NAME", "ROLE", "HANDLERS", "JOBS WAITING", "EXPIRES"), rows, printable(empty))


@token_commands.command("rm", short_help="Remove a token, so that it is refused.")
@name_argument
@tokens_option
def remove_command(name: str, tokens: str) -> None:
    """Remove a token. A running master refuses it within a few seconds."""
    file, where = _file(tokens)
    with _explained(name, where):
        file.remove(name)
        is_last = not file.read()
    lines = [f"the token {name} is removed from {file.path}"]
    if is_last:
        lines.append(
            "it was the last one: a master that starts now has no tokens and serves this machine "
            "alone; one that runs refuses all requests"
        )
    say("\n".join(map(printable, lines)), err=True)


def _file(given: str) -> tuple[TokenFile, str]:
    """The file of tokens, and what names it in the commands of advice."""
    check_system()
    if given:
        source = click.get_current_context().get_parameter_source("tokens")
        is_typed = source is ParameterSource.COMMANDLINE
        return TokenFile(given), f" --tokens {shlex.quote(given)}" if is_typed else ""
    return TokenFile(file_beside(os.environ.get("DTE_JOURNAL") or FILE_NAME)), ""


@contextmanager
def _explained(name: str, where: str) -> Iterator[None]:
    """Exit with the reason where a file of tokens is refused, and with the next step."""
    try:
        yield
    except TokensRefused as error:
        text = str(error)
        if isinstance(error, NameTaken):
            text += f"; give another name, or remove that one: dte token rm {name}{where}"
        elif isinstance(error, NoSuchToken):
            text += f"; to see which there are: dte token ls{where}"
        leave(EXIT_USAGE, printable(text))


def _shown(token: Token) -> dict[str, Any]:
    """What `--json` shows of a token."""
    expires_at = None
    if token.expires_at is not None:
        expires_at = datetime.fromtimestamp(token.expires_at, UTC)
    return {
        "name": token.name,
        "role": token.role,
        "handlers": token.handlers,
        "jobs_waiting_max": token.jobs_waiting_max,
        "expires_at": expires_at,
        "expired": token.has_expired(time.time()),
        "code": token.code,
    }


def _expiry(token: Token, now: float) -> str:
    if token.expires_at is None:
        return "never"
    day = f"{datetime.fromtimestamp(token.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
    return f"{day}, expired" if token.has_expired(now) else day
