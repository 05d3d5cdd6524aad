"""The log of a child process, beside a configuration of the user's."""

from __future__ import annotations

import sys

import pytest
from harness.processes import run

START = """
import logging, sys
from dte.worker.processes import prints
root, mine, library = map(logging.getLogger, (None, "mine", "library"))
"""
SCRIPTS = {
    "records from a level up": (
        'prints.log("info"); mine.info("seen"); mine.debug("not seen")',
        "INFO mine: seen\n",
    ),
    "another level": ('prints.log("error"); mine.warning("not seen")', ""),
    "a configuration of the user's": (
        'logging.basicConfig(format="own: %(message)s"); prints.log("info"); '
        'mine.info("not seen"); mine.warning("once")',
        "own: once\n",
    ),
    "a level of the user's": (
        'root.setLevel(logging.DEBUG); prints.log("info"); mine.debug("seen")',
        "DEBUG mine: seen\n",
    ),
    "a logger of the user's that prints by itself": (
        'prints.log("info"); mine.addHandler(logging.StreamHandler()); '
        'logging.getLogger("mine.part").warning("once")',
        "once\n",
    ),
    "a library that prints nothing": (
        'prints.log("info"); library.addHandler(logging.NullHandler()); library.warning("seen")',
        "WARNING library: seen\n",
    ),
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_log_records_are_printed_once_and_as_configured(what: str) -> None:
    script, expected = SCRIPTS[what]
    assert run(sys.executable, "-c", START + script).stderr == expected
