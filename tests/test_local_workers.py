"""The workers of `dte run`: when their files have changed, and which files those are.

`tests/cli/test_run.py` has the processes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dte import local_workers
from dte.handlers.modules import files_of
from dte.local_workers import _Files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are watched, one at first."""
    (tmp_path / "mine.py").write_text("x = 1\n")
    watched = [str(tmp_path / "mine.py")]
    monkeypatch.setattr(local_workers, "files_of", lambda modules: watched)
    return watched


def test_a_change_is_reported_once_when_the_files_are_still(files: list[str]) -> None:
    seen = _Files(["mine"])
    assert [seen.have_changed() for _ in range(3)] == [False, False, False]
    Path(files[0]).write_text("x = 12\n")
    assert [seen.have_changed() for _ in range(4)] == [False, True, False, False]
    Path(files[0]).write_text("x = 123\n")
    assert not seen.have_changed()
    Path(files[0]).write_text("x = 1234\n")  # It is still being written.
    assert [seen.have_changed() for _ in range(3)] == [False, True, False]


def test_a_file_that_is_touched_added_or_deleted_is_a_change(
    files: list[str], tmp_path: Path
) -> None:
    seen = _Files(["mine"])
    os.utime(files[0], (1, 1))
    assert [seen.have_changed() for _ in range(3)] == [False, True, False]
    (tmp_path / "more.py").write_text("")
    files.append(str(tmp_path / "more.py"))
    assert [seen.have_changed() for _ in range(3)] == [False, True, False]
    (tmp_path / "more.py").unlink()
    assert [seen.have_changed() for _ in range(3)] == [False, True, False]


def test_the_files_of_a_package_and_of_what_it_imports_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_package"
    package.mkdir()
    for path in (package / "__init__.py", package / "unused.py", tmp_path / "a_helper.py"):
        path.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a_package", "a_helper"):
        __import__(name)
    found = files_of(["a_package.part"])
    for path in (package / "__init__.py", package / "unused.py", tmp_path / "a_helper.py"):
        assert str(path) in found
    assert sys.modules["msgspec"].__file__ not in found
    assert sys.modules["json"].__file__ not in found
    assert local_workers.__file__ not in found
    for name in ("a_package", "a_helper"):
        del sys.modules[name]
