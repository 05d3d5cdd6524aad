"""The command `scripts/disk-faults`, without its scenarios."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torture.disk import __main__ as command
from torture.disk import faulty
from torture.disk.faulty import compile_library
from torture.disk.scenarios import SCENARIOS
from torture.disk.small_disk import small_disk
from torture.runner import CannotPlay, Found

FIGURES = {"accepted": 1_234, "refused": {507: 5, 503: 1}, "commits": 7}


def run(monkeypatch: pytest.MonkeyPatch, found: Found | Exception, *arguments: str) -> int:
    def play(name: str, seconds: float, quick: bool) -> Found:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(command, "play", play)
    monkeypatch.setattr(sys, "argv", ["disk-faults", *arguments])
    return command.main()


def test_a_row_for_each_scenario(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Found(FIGURES)) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(SCENARIOS)
    assert rows[2].split("  ")[0] == "a full disk"
    assert rows[2].endswith("1,234 accepted, 5 with 507 and 1 with 503 refused; no problems")


def test_problems_are_told_and_are_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Found(FIGURES, ["job 1 is lost"]), "--only", "full disk") == 1
    told = capsys.readouterr()
    assert told.out.endswith("; 1 problem\n")
    assert "job 1 is lost" in told.err


def test_json_has_all_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Found(FIGURES), "--only", "full disk", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["scenario"] == "a full disk"
    assert (said["accepted"], said["commits"], said["problems"]) == (1_234, 7, [])


def test_what_cannot_be_done_here_is_passed_over_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, CannotPlay("no compiler"), "--only", "full disk") == 0
    assert "a full disk: not here: no compiler" in capsys.readouterr().err


def test_a_scenario_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, Found({}), "--only", "moon")
    assert ended.value.code == 2


def test_a_scenario_is_played(faulty_library: Path) -> None:
    found = command.play("power fails around each sync", 0.0, quick=True)
    assert found.problems == []
    assert found.figures["looked"] > 300


def test_without_a_compiler_nothing_is_faked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CannotPlay, match="no C compiler"):
        compile_library(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(faulty, "SOURCE", tmp_path / "missing.c")
    with pytest.raises(CannotPlay):
        compile_library(tmp_path)


def test_who_may_not_mount_has_no_small_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "mount: must be superuser.\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(CannotPlay, match="must be superuser"), small_disk(tmp_path / "disk", 1):
        raise AssertionError
