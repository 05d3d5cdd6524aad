"""A disk of a few megabytes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.runner import CannotPlay

MOUNT_TIMEOUT_S = 20.0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system in memory, mounted at a folder.

    Raises:
        CannotPlay: this user may not mount one, or this system has none.
    """
    folder.mkdir()
    size = f"size={megabytes}m,mode=700"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder],
            capture_output=True,
            text=True,
            timeout=MOUNT_TIMEOUT_S,
        )
    except OSError as error:
        raise CannotPlay(f"nothing can be mounted here: {error}") from None
    if mounted.returncode:
        raise CannotPlay(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that was killed may not be gone yet.
        subprocess.run(["umount", "-l", folder], check=True, timeout=MOUNT_TIMEOUT_S)


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte; the file that does."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler
