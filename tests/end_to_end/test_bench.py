"""scripts/bench, as it is run after a change."""

from __future__ import annotations

import json
import sys

from harness.processes import TESTS, run

BENCHMARKS = str(TESTS.parent / "scripts" / "benchmarks")


def test_a_quick_run_prints_its_figures_for_a_program() -> None:
    options = ("--quick", "--only", "chain", "--json")
    done = run(sys.executable, BENCHMARKS, *options, timeout_s=120, PYTHONPATH=str(TESTS))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, row in zip(("chain", "chain.plain"), found["rows"], strict=True):
        assert (row["name"], row["unit"]) == (name, "ms")
        assert 0 < row["percentiles"]["p50"] <= row["percentiles"]["p99"]
    assert {"machine", "versions", "date"} <= set(found)
