"""Starts and ends the programs of this folder; `harness.processes` has the rest."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.processes import TESTS, Processes

FOLDER = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": str(TESTS), "DTE_LOG_LEVEL": "warning"}


def python(program: str, *arguments: str | int) -> list[str]:
    """The command that runs a program of this folder."""
    return [sys.executable, str(FOLDER / program), *map(str, arguments)]


def unwind_on_sigterm() -> None:
    """Have SIGTERM end this program as Ctrl-C does, so that what it has started ends as well."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def starting() -> Iterator[Processes]:
    """Starts processes that end with the ``with`` block; then prints what they have said."""
    with TemporaryDirectory(prefix="dte-bench-") as folder:
        try:
            with Processes(Path(folder), **ENVIRONMENT) as processes:
                yield processes
                processes.end_all()
        finally:
            for log in sorted(Path(folder).glob("*.log")):
                sys.stderr.write(log.read_text(errors="replace"))
