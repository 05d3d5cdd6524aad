"""Keeps a journal's files to their owner: they have arguments, results and URLs with secrets."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from dte import ownership
from dte.master.journal.wal import log_of

log = logging.getLogger("dte.master")

PRIVATE = 0o600
OTHERS = 0o077
"""What the group and all others may do."""


def create_private(path: str) -> None:
    """Create a journal that only its owner can read, unless it exists.

    SQLite gives the files beside it the same permissions.
    """
    with suppress(OSError):  # Opening it raises the error again.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL, PRIVATE))


def files_of(path: str) -> tuple[str, ...]:
    """A journal's file, and those beside it that SQLite reads with it."""
    return path, str(log_of(path)), f"{path}-shm", f"{path}-journal"


Distrust = tuple[str, str]
"""Why a file is refused, and what would be right."""


def written_by_others(path: str) -> Iterator[Distrust]:
    """Why others than this user, and root, may have written a journal's files."""
    for file in files_of(path):
        if is_open_to_all(file):
            yield written_by_all(file)
        with suppress(OSError):
            found, user = os.stat(file), os.geteuid()
            if stat.S_ISREG(found.st_mode) and ownership.is_foreign(found):
                reason = f"{file} belongs to the user {found.st_uid}, and this is the user {user}"
                yield reason, f"if you trust it: chown {user} {file}"


def written_by_all(file: str) -> Distrust:
    """Why a file is refused that is open to all."""
    reason = f"every user may write to {file}, so anybody may have changed its jobs"
    return reason, f"if you trust it: chmod 600 {file}"


def is_open_to_all(file: str) -> bool:
    """True for a file that every user may write, so that nobody knows who has written it."""
    with suppress(OSError):
        found = os.stat(file)
        return stat.S_ISREG(found.st_mode) and ownership.is_open_to_all(found)
    return False


def close_to_others(path: str) -> None:
    """Take from the group and all others what they may do with a journal's files."""
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else PRIVATE
    if not mode & OTHERS:
        return
    try:
        for file in files_of(path):
            with suppress(FileNotFoundError):
                os.chmod(file, mode & ~OTHERS)
    except OSError as error:
        text = "others may open %s (mode %04o), and this user cannot change that: %s"
        log.warning(text, path, mode, error.strerror)
    else:
        log.warning("others could open %s (mode %04o); now they cannot", path, mode)
