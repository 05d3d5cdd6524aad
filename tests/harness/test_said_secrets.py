"""What watches over secrets in the logs of the suite finds them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from conftest import SECRETS

from harness.processes import Processes, until

SECRET = "dte_c_" + "x" * 43


def test_a_secret_in_a_record_is_found() -> None:
    log = logging.getLogger("dte.master")
    log.warning("the token is %s", SECRET)
    log.warning("the token is here", extra={"header": f"Bearer {SECRET}"})
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("it failed")
    assert len(SECRETS.take()) == 3
    log.warning("the token shop is new")
    assert SECRETS.take() == []


def test_a_secret_that_a_program_prints_is_found(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    process = processes.start(f"echo {SECRET}", program=("sh", "-c"))
    until(lambda: not process.running, "the end")
    with pytest.raises(AssertionError, match="a token is in"):
        processes.__exit__()
