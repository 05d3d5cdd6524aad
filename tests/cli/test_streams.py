"""Closed streams, full disks and deleted folders: no command ends with a traceback."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from harness import processes as programs
from harness.master_thread import MasterThread

DTE = f"{shlex.quote(sys.executable)} -m dte"
DELETED = "mkdir gone && cd gone && rmdir ../gone && "


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("{dte} submit 1+2 >&-", 0, ""),
        ("{dte} submit 1+2 2>&-", 0, "1+2 = 3\n"),
        ("{dte} submit 1+2 <&-", 0, "1+2 = 3\n"),
        ("{dte} submit 1/0 <&- >&- 2>&-", 1, ""),
        ("{dte} jobs >&-", 0, ""),
        ("{dte} graph - <&-", 2, ""),
        ("{dte} run --workers=1 1+2 <&- >&- 2>&-", 0, ""),
        ("{dte} jobs | true", 0, ""),
        ("{dte} submit 1+2 3+4 | head -n 1", 0, "1+2 = 3\n"),
        ("{dte} workers > /dev/full", 3, ""),
        ("{dte} submit 1+2 > /dev/full", 3, ""),
        ("{dte} --help > /dev/full", 3, ""),
        ("{dte} submit 1/0 2> /dev/full", 1, ""),
        (DELETED + "{dte} submit 1+2", 0, "1+2 = 3\n"),
        (DELETED + "{dte} run --workers=1 'fibonacci(10)'", 0, "fibonacci(10) = 55\n"),
        (DELETED + "{dte} run --handlers mine 1+2", 2, ""),
        (DELETED + "{dte} master", 3, ""),
    ],
)
def test_a_command_ends_in_order(
    master: MasterThread, tmp_path: Path, script: str, code: int, output: str
) -> None:
    settings = {"DTE_MASTER": master.url, "DTE_JOURNAL": "dte.db"}
    command = script.replace("{dte}", DTE)
    if "run" in script:
        settings["DTE_JOURNAL"] = "none"
    done = programs.run("/bin/sh", "-c", command, folder=tmp_path, **settings)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stdout) == (code, output)


def test_a_full_disk_is_named(master: MasterThread) -> None:
    command = f"{DTE} submit 1+2 > /dev/full"
    done = programs.run("/bin/sh", "-c", command, DTE_MASTER=master.url)
    assert done.stderr.startswith("dte: cannot write: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_takes_the_number_of_no_closed_stream() -> None:
    """What is printed would be written into it."""
    program = (
        "from dte.cli.streams import open_missing\n"
        "open_missing()\n"
        "import os, sys\n"
        "with open('/dev/zero') as file: number = file.fileno()\n"
        "print('lost'); print('lost', file=sys.stderr); sys.stdin.read()\n"
        "os._exit(number)\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    assert programs.run("/bin/sh", "-c", command).returncode > 2
