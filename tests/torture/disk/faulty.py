"""A folder whose disk can be slow, full or broken, for processes that preload a small library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from torture.runner import CannotPlay

SOURCE = Path(__file__).with_name("faulty_disk.c")
JOURNAL = "dte.db"
COMPILE_TIMEOUT_S = 60.0


def compile_library(folder: Path) -> Path:
    """Compile the library that fakes faults; its file, in `folder`.

    Raises:
        CannotPlay: there is no C compiler, or it does not know this system's calls.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotPlay("there is no C compiler")
    library = folder / "faulty_disk.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    if compiled.returncode:
        raise CannotPlay(f"{SOURCE.name} cannot be compiled here: {compiled.stderr[:200]}")
    return library


class FaultyDisk:
    """The disk below a folder, which behaves as it is told.

    Args:
        folder: with the files that are on that disk.
        library: what `compile_library` gave.
        log: where everything that is done to those files is written, if that is wanted.

    Attributes:
        environment: variables of a master whose journal is on this disk.
    """

    def __init__(self, folder: Path, library: Path, log: Path | None = None) -> None:
        self._control = folder.with_name(f"{folder.name}.control")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTY_DISK_FOLDER": str(folder.resolve()),
            "FAULTY_DISK_CONTROL": str(self._control),
            "DTE_JOURNAL": str(folder / JOURNAL),
        }
        if log is not None:
            self.environment["FAULTY_DISK_LOG"] = str(log)

    def behave(
        self, *, sync_ms: int = 0, sync_errno: int = 0, write_errno: int = 0, only_call: int = 0
    ) -> None:
        """Behave like this from now on; without arguments, well.

        Args:
            sync_ms: how much longer a sync takes.
            sync_errno: with what a sync fails; 0 if it does not.
            write_errno: with what a write fails; 0 if it does not.
            only_call: the number of the one call in each process that fails; 0 if all do.
        """
        text = (
            f"sync_ms={sync_ms} sync_errno={sync_errno} write_errno={write_errno} "
            f"only_call={only_call}"
        )
        fresh = self._control.with_suffix(".fresh")
        fresh.write_text(text)
        os.replace(fresh, self._control)  # Never half a text.
