"""Options that several commands share. Most have an environment variable too."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, ClassVar, TypeVar

import click
from click.core import ParameterSource

from dte.core.printable import printable
from dte.logs import FORMATS as LOG_FORMATS
from dte.master.journal.schema import Sync
from dte.master.settings import Settings
from dte.wire.access import TLS_CA, TLS_CERT, TLS_KEY, TOKEN, TOKEN_FILE, Shown
from dte.wire.http.address import parse

F = TypeVar("F", bound=Callable[..., Any])

MASTER = "http://localhost:5000"
MASTER_VARIABLE = "DTE_MASTER"


class Whole(click.IntRange):
    """An integer within bounds."""

    NOUN = "an integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value))
        except ValueError:
            self.fail(f"{value!r} is not {self.NOUN}", param, ctx)
        return check_bounds(self, number, param, ctx)


class JobId(Whole):
    """The id of a job."""

    NOUN = "a job id, a number from 1"

    def __init__(self) -> None:
        super().__init__(1)


class Seconds(click.FloatRange):
    """A number of seconds. It excludes NaN, which passes every range check."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return check_bounds(self, number, param, ctx)


class Switch(click.types.BoolParamType):
    """The value of a flag, which a variable can have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        try:
            return super().convert(value, param, ctx)
        except click.UsageError:
            self.fail(f"{value!r} is neither on nor off; write 1 or 0", param, ctx)


N = TypeVar("N", int, float)


def check_bounds(
    bounds: click.IntRange | click.FloatRange,
    number: N,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> N:
    """Return a number that is within its bounds; fail with these in words."""
    least, most = bounds.min, bounds.max
    if least is not None and most is not None and not least <= number <= most:
        bounds.fail(f"must be from {least:,} to {most:,}, not {number:,}", param, ctx)
    if bounds.min_open and least is not None and number <= least:
        bounds.fail(f"must be more than {least:,}, not {number:,}", param, ctx)
    if least is not None and number < least:
        bounds.fail(f"must be {least:,} or more, not {number:,}", param, ctx)
    return number


FORMULAS = {"ignore_unknown_options": True}
"""Context settings of commands that take formulas: one may begin with a minus sign."""


def no_such_option(given: str, advice: str = "") -> click.UsageError:
    """Return the error for an argument that looks like an option, with the option that is meant.

    Args:
        advice: what would be right if no option is meant.
    """
    ctx = click.get_current_context(silent=True)
    known = [name for param in ctx.command.params for name in param.opts] if ctx else []
    meant = get_close_matches(given.partition("=")[0], known, 1, cutoff=0.7)
    advice = f"; did you mean {meant[0]}?" if meant else advice and f"; {advice}"
    return click.UsageError(f"no such option: {printable(given)}{advice}")


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class Once(click.Option):
    """An option that may be given once: by default, the last of several values would count."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        if self.is_flag or self.multiple:
            super().add_to_parser(parser, ctx)
        else:
            parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append")

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> Any:
        given = opts.get(str(self.name))
        if isinstance(given, list) and not self.multiple:
            if len(given) > 1:
                raise click.UsageError(f"{self.opts[0]} is given {len(given)} times; give it once")
            opts = {**opts, str(self.name): given[0]}
        return super().consume_value(ctx, opts)


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """An option whose environment variable is named after it, unless `envvar` is given."""
    variable = names[0].removeprefix("--").replace("-", "_").upper()
    usual: dict[str, Any] = {
        "cls": Once,
        "envvar": f"DTE_{variable}",
        "show_envvar": True,
        "show_default": True,
    }
    if attributes.get("is_flag"):
        usual["type"] = Switch()
    return click.option(*names, **(usual | attributes))


def submission_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """An option of one submission, such as its key: a variable would set it for all of them."""
    return option(*names, **({"envvar": None, "show_envvar": False} | attributes))


def check_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def at(master_url: str, *, for_worker: bool = False) -> str:
    """Return the options for a master, in a command to print; nothing if they are the default.

    Args:
        for_worker: the command is that of a worker, which needs another token.
    """
    is_default = os.environ.get(MASTER_VARIABLE, MASTER) == master_url == MASTER
    shown = [] if is_default else ["--master", master_url]
    ctx = click.get_current_context(silent=True)
    for name, value in sorted(shown_to_master().items()):
        is_typed = ctx and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and not (for_worker and name == "token_file"):
            shown += [f"--{name.replace('_', '-')}", str(value)]
    return "".join(f" {shlex.quote(each)}" for each in shown)


SHOWN = "dte.shown"
"""The name under which a context keeps the options of `shown_option`."""


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Keep the value of an option in the context, for `shown_to_master`."""
    is_typed = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    # Besides DTE_TOKEN, the variable has no effect.
    if value is not None and (is_typed or param.name != "token_file"):
        ctx.meta.setdefault(SHOWN, {})[param.name] = value


def shown_to_master() -> Shown:
    """The options of this command for what it shows to a master."""
    ctx = click.get_current_context(silent=True)
    found: Shown = ctx.meta.get(SHOWN, {}) if ctx is not None else {}
    return found


def shown_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """An option for something that a program shows to a master, which no command needs to know."""
    return option(
        *names, metavar="FILE", expose_value=False, callback=_keep, is_eager=True, **attributes
    )


worker_master_options = options(
    option(
        "--master",
        "master_url",
        envvar=MASTER_VARIABLE,
        default=MASTER,
        metavar="URL",
        callback=check_url,
        help="URL of the master; https:// for TLS, with the path of a proxy if it has one.",
    ),
    shown_option(
        "--token-file",
        envvar=TOKEN_FILE,
        help=f"File with the token to send to the master; instead, {TOKEN} may have the token.",
    ),
    shown_option(
        "--tls-ca",
        envvar=TLS_CA,
        help="File with the certificate of the authority that signed the master's.  "
        "[default: the authorities that this system trusts]",
    ),
)
# A worker has these two for its own server, see `dte.cli.servers`, and shows them to the master.
master_option = options(
    worker_master_options,
    shown_option(
        "--tls-cert",
        envvar=TLS_CERT,
        help="File with the certificate to show to a master that demands one.",
    ),
    shown_option(
        "--tls-key",
        envvar=TLS_KEY,
        help="File with the key of --tls-cert, without a password.  [default: the same file]",
    ),
)
json_option = option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
timeout_option = option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    help="Stop waiting after this many seconds.  [default: wait forever]",
)


def split_modules(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Split names of modules that are separated by commas or spaces."""
    return tuple(name for value in values for name in value.replace(",", " ").split())


handlers_option = option(
    "--handlers",
    metavar="MODULE",
    multiple=True,
    callback=split_modules,
    help="Python module with handlers: functions under @dte.handler that jobs can call. The module "
    "is installed, in a folder of PYTHONPATH, or in the current folder. Repeat the option, or "
    "separate modules by commas.",
)


class LogLevel(click.Choice):  # type: ignore[type-arg]
    """A log level; the names of Python's levels are accepted too."""

    ALIASES: ClassVar = {"warn": "warning", "critical": "error", "fatal": "error"}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(self.ALIASES.get(str(value).lower(), value), param, ctx)


def log_options(default: str) -> Callable[[F], F]:
    """Options for log messages, with a default for their level."""
    return options(
        option(
            "--log-level",
            type=LogLevel(["debug", "info", "warning", "error"], case_sensitive=False),
            default=default,
            help="Lowest level of log messages on stderr.",
        ),
        option(
            "--log-format",
            type=click.Choice(LOG_FORMATS),
            default="text",
            help="Format of log messages on stderr. json: an object in each line, with time, "
            "level, logger, message, and further fields such as job, node and worker.",
        ),
    )


slots_option = option(
    "--slots",
    envvar="DTE_WORKER_SLOTS",
    type=Whole(1, 64),
    metavar="N",
    help="Number of handler calls that a worker runs at once. Each call has a process of its own; "
    "async def handlers share one. Arithmetic needs no slot.  [default: number of CPUs]",
)


process_options = options(
    option(
        "--memory-mb",
        envvar="DTE_WORKER_MEMORY_MB",
        type=Whole(64),
        metavar="N",
        help="Memory of each process with handlers, in megabytes. A call that needs more fails "
        "alone.  [default: no limit]",
    ),
    option(
        "--calls-per-process",
        envvar="DTE_WORKER_CALLS_PER_PROCESS",
        type=Whole(1),
        metavar="N",
        help="Number of calls after which a process with handlers is replaced by a new one.  "
        "[default: no limit]",
    ),
)


def journal_options(default: str | None, shown: str = "") -> Callable[[F], F]:
    """Options for the file and the durability of the journal.

    Args:
        shown: describes the default if that depends on other options.
    """
    return options(
        option(
            "--journal",
            metavar="FILE",
            default=default,
            help="File that keeps jobs across restarts; none: keep them in memory only."
            + (f"  [default: {shown}]" if shown else ""),
        ),
        option(
            "--journal-sync",
            type=click.Choice([sync.value for sync in Sync]),
            default=Sync.FULL.value,
            callback=lambda ctx, param, value: Sync(value),
            help="Durability of accepted jobs. full: they survive a loss of power; normal: they "
            "survive a crash of the process.",
        ),
        option(
            "--journal-without-wal",
            is_flag=True,
            help="Use a journal that was cut from its file -wal. The changes in that file are "
            "lost.",
        ),
    )


class RenamedOption(Once):
    """An option that is also taken by its old name, which help and errors do not mention.

    Args:
        old_name: the old name of its parameter.
    """

    def __init__(self, *names: Any, old_name: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self._old_option = f"--{old_name.replace('_', '-')}"
        self._old_variable = f"DTE_{old_name.upper()}"

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        parser.add_option(obj=self, opts=[self._old_option], dest=self.name, action="append")

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return super().resolve_envvar_value(ctx) or os.environ.get(self._old_variable) or None


webhook_option = option(
    "--webhook-secret",
    cls=RenamedOption,
    old_name="notify_secret",
    metavar="TEXT",
    default="",
    show_default=False,
    help="Signs the webhooks of jobs that have ended. Better set in the environment or in a file: "
    "other users can see command lines.",
)


tokens_option = option(
    "--tokens",
    metavar="FILE",
    default="",
    show_default=False,
    help="File of tokens, which dte token new makes; the master reads it again when it changes.  "
    "[default: dte.tokens beside the journal]",
)


def bounds() -> Callable[[F], F]:
    """An option for each bound of the master."""
    decorators = []
    for field in fields(Settings):
        if "help" not in field.metadata:
            continue
        number = Seconds if isinstance(field.default, float) else Whole
        old_name = field.metadata.get("old_name")
        renamed = {"cls": RenamedOption, "old_name": old_name} if old_name else {}
        decorators.append(
            option(
                f"--{field.name.replace('_', '-')}",
                field.name,
                type=number(field.metadata["minimum"], field.metadata.get("maximum")),
                default=field.default,
                metavar="N",
                help=field.metadata["help"],
                **renamed,
            )
        )
    return options(*decorators)
