"""scripts/bench, as it is run after a change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


def test_a_quick_run_prints_its_figures_for_a_program() -> None:
    command = [sys.executable, str(BENCHMARKS), "--quick", "--only", "chain", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for name, row in zip(("chain", "chain.plain"), found["rows"], strict=True):
        assert (row["name"], row["unit"]) == (name, "ms")
        assert 0 < row["percentiles"]["p50"] <= row["percentiles"]["p99"]
    assert {"machine", "versions", "date"} <= set(found)
