"""Keeps results on disk while the master is away, each in a file of one folder.

Whoever can write there could report results of others' calls. So the folder and its files belong to
the worker's user alone, and what somebody else has put there is passed over.
"""

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

from dte.ownership import OTHERS_MAY_WRITE, is_foreign, mode_of
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.calls import Report

log = logging.getLogger("dte.worker.spool")

SUFFIX = ".json"
GRACE_S = 600.0
"""A result that seems too old is kept this much longer: perhaps it is the clock that is wrong."""
UNFINISHED = ".unfinished-"
BROKEN = ".broken"
FILE_BYTES_MAX = 16_100_000
"""No result is longer, with all that is kept beside it."""


class SpoolUnusable(OSError):
    """The folder is not writable, or others may write there. The text gives the way out."""


class Spooled(msgspec.Struct):
    """A file of the spool: a report, and the name of the worker that had the lease.

    Attributes:
        is_named: the name was given to that worker, so no worker of another name reports this.
        session: that worker's; "" for none.
    """

    worker: str
    report: Report
    is_named: bool = False
    session: str = ""

    def __repr__(self) -> str:
        return f"Spooled({self.worker!r}, lease={self.report.lease})"  # Without the session.


_spooled: Decoder[Spooled] = Decoder(Spooled)


class Spool:
    """A folder of results that the master has not received. Workers may share it.

    Args:
        folder: the folder; it is created if it does not exist.
        ttl_s: the age at which files are dropped, in seconds.
        name: the name that was given to the worker, which reports no results of other names; None
            if it got one by itself, which is another after each start.

    Raises:
        SpoolUnusable: the folder cannot be created or written to, or others may write there.
    """

    def __init__(self, folder: Path, ttl_s: float, name: str | None = None) -> None:
        self._folder = folder
        self._ttl_s = ttl_s
        self._name = name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            self._refuse_open()
            with tempfile.TemporaryFile(prefix=UNFINISHED, dir=folder):
                pass
        except SpoolUnusable:
            raise
        except OSError as error:
            text = f"cannot write to {folder}: {error.strerror or error};"
            raise SpoolUnusable(text) from None

    def keep(self, worker: str, report: Report, session: str = "") -> bool:
        """Write a result completely or not at all; return True if it was written."""
        unfinished = None
        try:
            with tempfile.NamedTemporaryFile(
                prefix=UNFINISHED, dir=self._folder, delete=False
            ) as file:
                unfinished = Path(file.name)
                file.write(encode(Spooled(worker, report, worker == self._name, session)))
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
        renamed, and old files that were never finished are removed. Results that belong to a
        worker of another name are left to that one.
        """
        found = []
        oldest_s = max(0.0, self._ttl_s - GRACE_S)
        for path in self._folder.iterdir():
            try:
                written_at = path.lstat().st_mtime
                age_s = max(0.0, time.time() - written_at)
                if path.suffix == SUFFIX:
                    spooled = _spooled.decode(self._content(path))
                    if self._is_mine(spooled):
                        found.append((written_at, spooled, min(age_s, oldest_s)))
                elif path.name.startswith(UNFINISHED) and age_s > self._ttl_s:
                    path.unlink()
            except Malformed as error:
                log.warning("%s is malformed: %s", path, error)
                path.rename(path.with_suffix(BROKEN))
            except OSError as error:  # Another worker may have removed it.
                log.warning("%s is passed over: %s", path, error.strerror)
        found.sort(key=lambda each: each[0])
        return [(spooled, age_s) for _, spooled, age_s in found]

    def _is_mine(self, spooled: Spooled) -> bool:
        if self._name is not None:
            return spooled.worker == self._name
        return not spooled.is_named

    def _refuse_open(self) -> None:
        """Refuse a folder of somebody else, or one where others may write.

        Raises:
            SpoolUnusable: it is refused.
        """
        folder, found = self._folder, self._folder.stat()
        if is_foreign(found):
            user = os.geteuid()
            text = f"{folder} belongs to the user {found.st_uid}, and this is the user {user}"
            raise SpoolUnusable(f"{text}; chown {user} {folder}, or")
        if found.st_mode & OTHERS_MAY_WRITE:
            text = f"others may write to {folder} (mode {mode_of(found):04o}), and report results"
            raise SpoolUnusable(f"{text}; chmod 700 {folder}, or")

    def _close_to_others(self) -> None:
        """Take from others what they may do in the folder, if it has nothing but results.

        Where every user may write, they may have done so: that is refused.
        """
        found = self._folder.stat()
        mode = mode_of(found)
        if not mode & 0o077 or found.st_uid != os.geteuid() or mode & (stat.S_ISVTX | stat.S_IWOTH):
            return
        if all(_is_of_a_spool(name) for name in os.listdir(self._folder)):
            self._folder.chmod(mode & ~0o077)
            log.warning("others could open %s (mode %04o); now they cannot", self._folder, mode)

    def _content(self, path: Path) -> bytes:
        """The content of a file, unless somebody else has put it there.

        Raises:
            OSError: it is no regular file of this user, or too long.
        """
        _check_file(path.lstat())  # To open a device may do something.
        with open(path, "rb", opener=_open_without_waiting) as file:
            _check_file(os.fstat(file.fileno()))
            return file.read(FILE_BYTES_MAX)

    def _path(self, lease: int) -> Path:
        return self._folder / f"{lease}{SUFFIX}"


def _is_of_a_spool(name: str) -> bool:
    return name.startswith(UNFINISHED) or name.endswith((SUFFIX, BROKEN))


def _check_file(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EPERM, "it is not a regular file")
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"it belongs to the user {found.st_uid}")
    if found.st_size > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, f"it has more than {FILE_BYTES_MAX:,} bytes")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, but no link to another one, and not a pipe until somebody writes to it."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
