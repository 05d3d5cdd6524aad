"""The hot path does not get dearer by a tenth without somebody saying so here.

After a change for the better, or a deliberate one for the worse, take the new figures from
``python -m core.hot_path``, run in tests/.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BASELINE = {
    "a balanced tree of sums": {
        "instructions an operation": 575.9,
        "leases a thousand operations": 19.05,
    },
    "a chain of float sums": {
        "instructions an operation": 2448.7,
        "leases a thousand operations": 1000.0,
    },
    "formulas of one shape": {
        "instructions an operation": 615.9,
        "leases a thousand operations": 7.5,
    },
    "formulas of many shapes": {
        "instructions an operation": 1341.6,
        "leases a thousand operations": 25.0,
    },
}
BASELINE_PYTHON = (3, 11)
"""Other versions of Python have other instructions."""
WORSE = 1.1


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    """The figures, from a process of its own: coverage traces this one."""
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "core.hot_path"]
    output = subprocess.run(command, cwd=tests, check=True, capture_output=True, text=True).stdout
    figures: dict[str, dict[str, float]] = json.loads(output)
    return figures


@pytest.mark.skipif(sys.version_info[:2] != BASELINE_PYTHON, reason="no baseline for this Python")
@pytest.mark.parametrize("workload", BASELINE)
def test_the_hot_path_is_not_a_tenth_dearer_than_it_was(
    workload: str, measured: dict[str, dict[str, float]]
) -> None:
    for what, figure in BASELINE[workload].items():
        assert measured[workload][what] <= WORSE * figure, what


def test_all_workloads_are_compared(measured: dict[str, dict[str, float]]) -> None:
    assert measured.keys() == BASELINE.keys()
