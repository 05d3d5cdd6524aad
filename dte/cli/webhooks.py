"""The options of a master for webhooks: the secret that signs them, and where they may go."""

from __future__ import annotations

from typing import Any

import click

from dte.cli.options import option, options, webhook_option
from dte.master.destinations import allowed_by

SECRET_BYTES_MAX = 1_000


def read_secret(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Return the secret that a file has, without the line break at its end."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).decode().strip()
    except OSError as error:
        raise click.BadParameter(f"cannot read {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path!r} is not UTF-8 text") from None
    if not 1 <= len(secret) <= SECRET_BYTES_MAX:
        raise click.BadParameter(f"{path!r} must have 1 to {SECRET_BYTES_MAX} bytes")
    return secret


def check_places(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        allowed_by(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


webhook_options = options(
    webhook_option,
    option(
        "--webhook-secret-file",
        metavar="FILE",
        callback=read_secret,
        help="File with the secret that signs webhooks.",
    ),
    option(
        "--webhook-to",
        metavar="PLACES",
        default="",
        show_default=False,
        callback=check_places,
        help="Places that webhooks may go to besides public addresses, separated by commas: "
        "https://host, host:port, *.example.com, or 10.0.0.0/8.",
    ),
)


def with_secret(values: dict[str, Any]) -> dict[str, Any]:
    """Return a master's options with the secret of webhooks, wherever it was given."""
    from_file = values["webhook_secret_file"]
    if from_file is not None and values["webhook_secret"]:
        raise click.UsageError("give --webhook-secret or --webhook-secret-file, not both")
    others = {name: value for name, value in values.items() if name != "webhook_secret_file"}
    return others if from_file is None else others | {"webhook_secret": from_file}
