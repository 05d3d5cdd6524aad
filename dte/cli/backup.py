"""The command `dte backup`."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import click

from dte.cli.options import json_option, master_option, option, shown_to_master
from dte.cli.output import EXIT_USAGE, UNWATCHED_S, explained, files_explained, hinted, leave
from dte.cli.text import say, say_again, say_json
from dte.client.backup import Backup
from dte.core.printable import printable
from dte.wire.access import Access

TERMINAL_S, LINE_S = 0.5, 10.0
"""Time between messages of progress on a terminal, which replace each other, and elsewhere."""


@click.command("backup", short_help="Copy the master's journal to a file.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@option(
    "--force", envvar="DTE_BACKUP_FORCE", is_flag=True, help="Replace FILE if it exists already."
)
@master_option
@json_option
def backup_command(file: Path, force: bool, master_url: str, as_json: bool) -> None:
    """Copy the journal of a running master to FILE on this machine.

    FILE has all jobs of the moment in which the copy was finished. To restore it, start a master
    with it: dte master --journal FILE.

    FILE appears when it is complete. Only its owner can read it: it has the arguments and results
    of all jobs.
    """
    target = _target(file, force)
    with explained(master_url):
        with files_explained():
            access = Access(master_url, **shown_to_master())
            access.check()
        with hinted(f"the master at {master_url} copies its journal; then it sends the copy"):
            backup = Backup(access)
        with closing(backup), _leaving_by_exit():
            _write(target, backup, force)
    if as_json:
        say_json({"file": str(target), "bytes": backup.size})
    else:
        text = f"{file}: {_mb(backup.size)} MB; to restore it: dte master --journal {file}"
        say(printable(text))


def _target(file: Path, force: bool) -> Path:
    """The file to write; exit if it cannot be written."""
    try:
        target = Path(os.path.realpath(file))
    except FileNotFoundError:
        leave(EXIT_USAGE, f"the current folder has been deleted; give {file} with its whole path")
    if target.is_dir():
        leave(EXIT_USAGE, f"{file} is a folder; FILE must be a file")
    if target.exists() and not target.is_file():
        leave(EXIT_USAGE, f"{file} is not a regular file")
    if target.exists() and not force:
        leave(EXIT_USAGE, f"{file} exists; to replace it: --force")
    _check_log(target)
    if not target.parent.is_dir():
        leave(EXIT_USAGE, f"there is no folder {file.parent}")
    return target


def _check_log(target: Path) -> None:
    """Exit if a log is beside the file: a master uses both, or it would damage the copy."""
    log = Path(f"{target}-wal")
    if log.exists():
        text = f"{log} exists, so {target} is a journal that a master uses or has not closed"
        leave(EXIT_USAGE, f"{text}; give another FILE")


@contextmanager
def _leaving_by_exit() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise an exception, so that no part of a copy is left."""
    signals = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    changed = [each for each in signals if each and signal.getsignal(each) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _ensure_room(target: Path, size: int) -> None:
    """Exit if the copy does not fit: to fill the disk would harm others, perhaps the master."""
    free = shutil.disk_usage(target.parent).free
    if free < size:
        text = f"the copy has {_mb(size)} MB, and {_mb(free)} MB are free there"
        leave(EXIT_USAGE, f"cannot write {target}: {text}")


def _write(target: Path, backup: Backup, force: bool) -> None:
    """Write the copy beside its place, and put it there when it is complete."""
    # Named before it is there: a signal may come as soon as it is.
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        _ensure_room(target, backup.size)
        with open(part, "xb", opener=partial(os.open, mode=0o600)) as file:
            _receive(backup, file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists() and not force:
            leave(EXIT_USAGE, f"{target} exists now; to replace it: --force")
        _check_log(target)
        os.replace(part, target)
    except OSError as error:
        leave(EXIT_USAGE, f"cannot write {target}: {error.strerror or error}")
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _receive(backup: Backup, file: IO[bytes]) -> None:
    """Receive the copy; after two seconds show the progress."""
    received, shown, is_terminal = 0, False, sys.stderr.isatty()
    show_at = time.monotonic() + UNWATCHED_S
    for piece in backup.pieces():
        file.write(piece)
        received += len(piece)
        if time.monotonic() > show_at:
            shown, show_at = True, time.monotonic() + (TERMINAL_S if is_terminal else LINE_S)
            text = f"received {_mb(received)} of {_mb(backup.size)} MB"
            say_again(text) if is_terminal else say(text, err=True)
    if is_terminal and shown:
        say(err=True)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
