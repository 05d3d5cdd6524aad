"""Keeps results on disk while the master is away, each in a file of one folder."""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.calls import Report

log = logging.getLogger("dte.worker.spool")

SUFFIX = ".json"
GRACE_S = 600.0
"""A result that seems too old is kept this much longer: perhaps it is the clock that is wrong."""
UNFINISHED = ".unfinished-"
BROKEN = ".broken"
FILE_BYTES_MAX = 32_000_000
"""No result is longer."""


class SpoolUnusable(OSError):
    """The folder is not writable. The text gives the folder and the reason."""


class Spooled(msgspec.Struct):
    """A file of the spool: a report, and the name of the worker that had the lease."""

    worker: str
    report: Report


_spooled: Decoder[Spooled] = Decoder(Spooled)


class Spool:
    """A folder of results that the master has not received. Workers may share it.

    Args:
        folder: the folder; it is created if it does not exist.
        ttl_s: the age at which files are dropped, in seconds.

    Raises:
        SpoolUnusable: the folder cannot be created or written to.
    """

    def __init__(self, folder: Path, ttl_s: float) -> None:
        self._folder = folder
        self._ttl_s = ttl_s
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            with tempfile.TemporaryFile(prefix=UNFINISHED, dir=folder):
                pass
        except OSError as error:
            raise SpoolUnusable(f"cannot write to {folder}: {error.strerror or error}") from None

    def keep(self, worker: str, report: Report) -> bool:
        """Write a result completely or not at all; return True if it was written."""
        unfinished = None
        try:
            with tempfile.NamedTemporaryFile(
                prefix=UNFINISHED, dir=self._folder, delete=False
            ) as file:
                unfinished = Path(file.name)
                file.write(encode(Spooled(worker, report)))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path(report.lease))
        except OSError as error:
            log.warning("cannot keep the result of lease %d on disk: %s", report.lease, error)
            if unfinished is not None:
                with suppress(OSError):
                    unfinished.unlink()
            return False
        return True

    def drop(self, lease: int) -> None:
        """Remove a result if it exists."""
        with suppress(OSError):
            self._path(lease).unlink(missing_ok=True)

    def read(self) -> list[tuple[Spooled, float]]:
        """Return the results, the oldest first, with their ages in seconds.

        The ages are at most such that `GRACE_S` is left to report the results. Malformed files are
        renamed, and old files that were never finished are removed.
        """
        found = []
        oldest_s = max(0.0, self._ttl_s - GRACE_S)
        for path in self._folder.iterdir():
            try:
                written_at = path.stat().st_mtime
                age_s = max(0.0, time.time() - written_at)
                if path.suffix == SUFFIX:
                    spooled = _spooled.decode(self._content(path))
                    found.append((written_at, spooled, min(age_s, oldest_s)))
                elif path.name.startswith(UNFINISHED) and age_s > self._ttl_s:
                    path.unlink()
            except Malformed as error:
                log.warning("%s is malformed: %s", path, error)
                path.rename(path.with_suffix(BROKEN))
            except OSError as error:  # Another worker may have removed it.
                log.warning("cannot read %s: %s", path, error)
        found.sort(key=lambda each: each[0])
        return [(spooled, age_s) for _, spooled, age_s in found]

    def _close_to_others(self) -> None:
        """Take from others what they may do in the folder, if it has nothing but results."""
        found = self._folder.stat()
        mode = stat.S_IMODE(found.st_mode)
        if not mode & 0o077 or found.st_uid != os.geteuid() or mode & stat.S_ISVTX:
            return
        if all(_is_of_a_spool(name) for name in os.listdir(self._folder)):
            self._folder.chmod(mode & ~0o077)
            log.warning("others could open %s (mode %04o); now they cannot", self._folder, mode)

    def _content(self, path: Path) -> bytes:
        """The content of a file, unless somebody else has put it there.

        Raises:
            OSError: it is no regular file of this user or of the folder's owner, or too long.
        """
        with open(path, "rb", opener=_open_without_waiting) as file:
            found = os.fstat(file.fileno())
            owners = (os.geteuid(), self._folder.stat().st_uid)
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
                raise OSError(errno.EPERM, "it is no file of this user")
            if found.st_size > FILE_BYTES_MAX:
                raise OSError(errno.EFBIG, f"it has more than {FILE_BYTES_MAX} bytes")
            return file.read(FILE_BYTES_MAX)

    def _path(self, lease: int) -> Path:
        return self._folder / f"{lease}{SUFFIX}"


def _is_of_a_spool(name: str) -> bool:
    return name.startswith(UNFINISHED) or name.endswith((SUFFIX, BROKEN))


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, but no link to another one, and not a pipe until somebody writes to it."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
