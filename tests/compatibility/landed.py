"""The commits that have landed, and how to run their code."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from harness.processes import TESTS

LANDED = {
    "0722bd4": "schema 2; before its modules had folders",
    "b9b22b0": "schema 2; the last one whose journal has no stack traces",
    "78e7676": "schema 3; the first one whose time stands still while its loop does",
    "740d1c7": "schema 4; the last one without access control",
}
"""What is special about each. Every landing adds a line, and its journal: see `make_journal`."""
NEWEST = list(LANDED)[-1]
"""The one whose workers and clients are tried."""


class NotHere(Exception):
    """This checkout has no such history: a shallow clone, or no clone at all."""


def extract(commit: str, folder: Path) -> None:
    """Put the package `dte` of a commit into a folder.

    Raises:
        NotHere: the commit is not there.
    """
    try:
        archive = subprocess.run(
            ["git", "archive", commit, "dte"], cwd=TESTS.parent, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode().strip() or error
        raise NotHere(f"there is no commit {commit} in this checkout: {said}") from None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
