"""Keeps a journal's files to their owner: they have arguments, results and URLs with secrets."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress

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


def is_open_to_all(path: str) -> bool:
    """True for a file that every user may write, so that nobody knows who has written it."""
    with suppress(OSError):
        found = os.stat(path)
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IWOTH)
    return False


def close_to_others(path: str) -> None:
    """Take from the group and all others what they may do with a journal's files."""
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else PRIVATE
    if not mode & OTHERS:
        return
    try:
        for file in (path, str(log_of(path))):
            with suppress(FileNotFoundError):
                os.chmod(file, mode & ~OTHERS)
    except OSError as error:
        text = "others may open %s (mode %04o), and this user cannot change that: %s"
        log.warning(text, path, mode, error.strerror)
    else:
        log.warning("others could open %s (mode %04o); now they cannot", path, mode)
