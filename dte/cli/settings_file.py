"""Settings from the file `.env` in the current folder.

The folder may be somebody else's, so the file sets only what dte itself knows. Other names decide
which code Python and other programs load, as PYTHONPATH and LD_PRELOAD do, or whom they trust.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dotenv.main import DotEnv
from dotenv.parser import parse_stream

from dte.cli import other_names
from dte.cli.output import EXIT_USAGE, leave
from dte.cli.text import say

PREFIX = "DTE_"
NOT_FOR_USERS = "DTE_SAVED_"
"""Begins what a worker sets for its processes alone."""
OF_HANDLERS = ("PRIMES_MAX_LIMIT", "PRIMES_DEFAULT_METHOD")
"""What built-in handlers read."""
KNOWN = {*OF_HANDLERS, *other_names.MASTER, *other_names.WORKER, other_names.HEARTBEAT}
LOADING = ("PYTHON", "LD_", "DYLD_", "PATH")
"""Begins what changes the code that programs load: whoever sets it expects that."""
WITH_HANDLERS = ("run", "worker")
"""Commands that run code of users, which may expect other variables."""
OF_A_PARENT = "--leave-with-stdin"
"""Given to a worker by a command that has warned already."""
SHOWN_MAX = 5


def load_settings() -> None:
    """Read `.env` in the current folder, unless that folder has been deleted."""
    try:
        file = Path.cwd() / ".env"
    except FileNotFoundError:
        return
    logging.getLogger("dotenv").setLevel(logging.ERROR)  # It names the line, but not the file.
    try:
        given = DotEnv(file, override=False).dict()
        if file.is_file():
            with file.open(encoding="utf-8") as stream:
                _show_broken(file, stream)
    except UnicodeDecodeError as error:
        place = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        leave(EXIT_USAGE, f"cannot read {file}: it is not UTF-8, {place}")
    except OSError as error:
        leave(EXIT_USAGE, f"cannot read {file}: {error.strerror}")
    for name, value in given.items():
        if is_known(name) and value is not None and "\0" not in value:
            os.environ.setdefault(name, value)
    _show_ignored(file, [name for name in given if not is_known(name)], sys.argv[1:])


def is_known(name: str) -> bool:
    """True for a variable that `.env` may set."""
    is_own = name.startswith(PREFIX) and not name.startswith(NOT_FOR_USERS)
    return is_own or name in KNOWN


def _show_ignored(file: Path, names: Sequence[str], arguments: Sequence[str]) -> None:
    """Print once which variables are ignored whose absence might surprise."""
    if OF_A_PARENT in arguments:
        return
    if arguments[:1] not in [[command] for command in WITH_HANDLERS]:
        names = [name for name in names if name.startswith(LOADING)]
    if names:
        more = len(names) - SHOWN_MAX
        shown = ", ".join(names[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        text = f"dte: {file} sets only what dte knows, so these are ignored: {shown}"
        say(f"{text}; to set others, use the environment", err=True)


def _show_broken(file: Path, stream: IO[str]) -> None:
    """Print where `.env` has settings of dte that cannot be read; other programs use it too."""
    for binding in parse_stream(stream):
        if binding.error and PREFIX in binding.original.string:
            text = f"dte: line {binding.original.line} of {file} is ignored; write NAME=VALUE"
            say(text, err=True)
