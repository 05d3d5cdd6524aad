"""No regular expression of dte takes more than linear time, so no text can hold up a process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from regular_expressions import CPU_S_IN_ALL, TooSlow, called, worst_ms

SECONDS = 2 * CPU_S_IN_ALL


def test_every_expression_is_linear() -> None:
    """In a process of its own, whose CPU time is limited: a slow expression cannot be stopped."""
    command = [sys.executable, "-m", "regular_expressions"]
    tests = Path(__file__).parent
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    took: dict[str, float | None] = json.loads(done.stdout)
    assert [name for name, ms in took.items() if ms is None] == []
    assert len(took) > 60, "there are that many"
    for module in ("dte.wire.duplicates:", "dte.worker.decoding:", "dte.core.formula.parser:"):
        assert any(place.startswith(module) for place in took), module
    assert any(place.startswith("openapi.py") for place in took)


def test_an_expression_is_not_computed_from_what_others_send() -> None:
    """The one that is computed is made of the paths of routes, which are looked at too."""
    assert [place.partition(",")[0] for place, text, _ in called() if text is None] == ["base.py"]


@pytest.mark.parametrize(
    "pattern",
    [
        r"\s*x",
        r'"[^"\\]*(?:\\.[^"\\]*)*"',
        r"(.*?)(?: - at (.*)!)?$",
        rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]',
    ],
)
def test_a_quadratic_expression_is_noticed(pattern: str | bytes) -> None:
    """It takes a hundred times as long for a text that is ten times as long."""
    used = {"finditer", "fullmatch"}
    short_ms, long_ms = (worst_ms(re.compile(pattern), used, 500, long) for long in (1_000, 10_000))
    assert long_ms > 40 * short_ms


def test_being_too_slow_is_nothing_that_matching_could_catch() -> None:
    assert not issubclass(TooSlow, Exception)
