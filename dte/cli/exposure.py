"""Options that say who reaches a master, and the refusal of one that anybody could use."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, TypeVar

import click

from dte.cli.options import option, options
from dte.cli.output import EXIT_USAGE, leave
from dte.master.access.tokens import FILE_NAME, TokenFile, file_beside
from dte.master.settings import Network, Settings
from dte.wire.http.listening import LOOPBACK, is_local

F = TypeVar("F", bound=Callable[..., Any])
HOST_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?", re.ASCII)

log = logging.getLogger("dte.access")

HOST_HELP = (
    "Address to listen on. localhost is for this machine alone; * is every address of it, IPv4 and "
    "IPv6."
)


def split_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Split names that are separated by commas or spaces."""
    return tuple(value.replace(",", " ").split())


def split_hosts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Split names of hosts; refuse what is no name, as no request would ever match it."""
    found = split_names(ctx, param, value)
    for name in found:
        if not HOST_NAME.fullmatch(name):
            advice = "expected a name alone, without a port or https://"
            raise click.BadParameter(f"{name!r} is not the name of a host; {advice}")
    return found


def split_networks(ctx: click.Context, param: click.Parameter, value: str) -> tuple[Network, ...]:
    """Read networks and addresses that are separated by commas or spaces."""
    found = []
    for text in split_names(ctx, param, value):
        try:
            found.append(ip_network(text))
        except ValueError as error:
            advice = "expected an address or a network, such as 10.0.0.7 or 10.0.0.0/8"
            raise click.BadParameter(f"{text!r} is neither of them ({error}); {advice}") from None
    return tuple(found)


def networks_option(name: str, help_text: str) -> Callable[[F], F]:
    return option(
        name,
        metavar="CIDR,…",
        default="",
        show_default=False,
        callback=split_networks,
        help=f"{help_text}  [default: none]",
    )


host_names_option = option(
    "--host-names",
    metavar="NAME,…",
    default="",
    show_default=False,
    callback=split_hosts,
    help="Further names by which clients may call this server, such as dte.example.com. An "
    "address, a name without a dot, and --host need not be named.",
)
tls_ca_option = option(
    "--tls-ca",
    metavar="FILE",
    default="",
    show_default=False,
    help="File with the certificates of the authorities that signed those of other machines.  "
    "[default: the authorities that this system trusts]",
)
tls_options = options(
    option(
        "--tls-cert",
        metavar="FILE",
        default="",
        show_default=False,
        help="File with the certificate of this server in PEM, and those between it and its "
        "authority. The server then speaks TLS, and shows it to others that demand one. SIGHUP has "
        "the files read again.",
    ),
    option(
        "--tls-key",
        metavar="FILE",
        default="",
        show_default=False,
        help="File with the key of --tls-cert, without a password.  [default: the same file]",
    ),
    option(
        "--tls-client-ca",
        metavar="FILE",
        default="",
        show_default=False,
        help="File with authorities: only clients with a certificate from one of them are served.",
    ),
)


def exposure_options(variable: str) -> Callable[[F], F]:
    """The options of a command that runs a master.

    Args:
        variable: the environment variable of its host.
    """
    return options(
        option("--host", envvar=variable, default=LOOPBACK, help=HOST_HELP),
        option(
            "--no-auth",
            is_flag=True,
            help="Serve everybody who reaches --host, without any token: they can run every "
            "handler, and see and cancel all jobs.",
        ),
        host_names_option,
        networks_option(
            "--trust-proxy",
            "Addresses of proxies in front of the master. It takes the address of a client from "
            "their X-Forwarded-For, and believes X-Forwarded-Host, X-Forwarded-Proto and "
            "X-Forwarded-Prefix.",
        ),
        networks_option(
            "--seeds",
            "Addresses from which workers may come without a token, for arithmetic and the tasks "
            "of their own protocol alone: programs that send no tokens.",
        ),
        option(
            "--open-clients",
            is_flag=True,
            help="Serve clients without a token, as if they all had the same token of a client; "
            "workers need theirs. For a port that only trusted clients reach.",
        ),
    )


def tokens_named(path: str) -> str:
    """The option for a file of tokens, in a command to print; nothing if it is the default."""
    here = os.environ.get("DTE_TOKENS") or file_beside(os.environ.get("DTE_JOURNAL") or FILE_NAME)
    return "" if path == here == FILE_NAME else f" --tokens {shlex.quote(path)}"


def check_exposure(settings: Settings) -> None:
    """Exit if a master would serve anybody without having been told so.

    Raises:
        TokensRefused: its file of tokens cannot be used.
    """
    path = settings.tokens_file
    has_tokens = bool(TokenFile(path).read())
    if settings.no_auth:
        if has_tokens:
            leave(
                EXIT_USAGE,
                f"--no-auth contradicts the tokens in {path}: leave out --no-auth or DTE_NO_AUTH, "
                "or delete the file",
            )
        log.warning(
            "the master serves everybody who reaches %s, without any token (--no-auth)",
            settings.host,
        )
    elif not has_tokens and not is_local(settings.host):
        where = tokens_named(path)
        leave(
            EXIT_USAGE,
            f"others could run your handlers: --host {settings.host} is reached from elsewhere, "
            f"and there are no tokens in {path}. Make one for each client and worker: dte token "
            f"new client NAME{where}, and dte token new worker NAME{where}. Or serve everybody: "
            "--no-auth or DTE_NO_AUTH=1",
        )
    elif not settings.tls_cert and not is_local(settings.host):
        log.warning(
            "tokens reach %s in the clear, where others may read them; to prevent that: --tls-cert "
            "and --tls-key, or a proxy with TLS before this port",
            settings.host,
        )
