"""The environment in which a child process starts, and the one that its handlers find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dte.worker.processes.environment import restore, without_folder


def seen() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}


@pytest.mark.parametrize("safe", [None, "1", ""])
@pytest.mark.parametrize(
    ("path", "during"),
    [
        (None, ""),
        ("", ""),
        (".", ""),
        (":/a", "/a"),
        ("/a:.:/b:{here}", "/a:/b"),
        ("/a", "/a"),
    ],
)
def test_the_current_folder_is_left_out_at_the_start_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    during: str,
    safe: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("PYTHONPATH", path), ("PYTHONSAFEPATH", safe)):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value.format(here=tmp_path))
    before = dict(os.environ)
    usual = {name: value or None for name, value in seen().items()}
    with without_folder():
        assert seen() == {"PYTHONPATH": during, "PYTHONSAFEPATH": "1"}
        inherited = dict(os.environ)
    assert {**usual} == {name: value or None for name, value in seen().items()}
    # What a child does, which has inherited that.
    monkeypatch.setattr(os, "environ", inherited)
    restore()
    assert {name: value for name, value in before.items() if value} == {
        name: value for name, value in inherited.items() if value
    }


def test_a_process_that_was_started_otherwise_keeps_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a")
    restore()
    assert os.environ["PYTHONPATH"] == "/a"


def test_a_worker_whose_folder_was_deleted_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with without_folder():
        assert os.getcwd() == "/"
    assert "has been deleted" in caplog.text
