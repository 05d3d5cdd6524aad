"""Disks that fail, as far as this machine can fake them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.skips import missing
from torture.disk.faulty import FaultyDisk, compile_library
from torture.disk.small_disk import small_disk
from torture.runner import CannotPlay

MEMORY = Path("/dev/shm")
SMALL_DISK_MB = 16


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is such a file system: hundreds of journals are synced there."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="dte-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that fakes faults, where it can be compiled."""
    try:
        return compile_library(tmp_path_factory.mktemp("library"))
    except CannotPlay as error:
        missing(str(error))


@pytest.fixture
def faulty_disk(tmp_path: Path, faulty_library: Path) -> FaultyDisk:
    """A disk that behaves as it is told, at the folder `disk`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = FaultyDisk(folder, faulty_library)
    disk.behave()
    return disk


@pytest.fixture
def mounted_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes, where one can be mounted."""
    try:
        with small_disk(tmp_path / "disk", SMALL_DISK_MB) as folder:
            yield folder
    except CannotPlay as error:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a disk")
        missing(str(error))
