"""The hot path does not get dearer by a tenth without somebody saying so here.

Nor cheaper, or half of that could be lost again and nobody would hear of it: take the new figures
from ``python -m core.hot_path``, run in tests/. What is not watched is what C does in one
instruction, and what is not the core, its batches or a worker's arithmetic: for requests, sockets
and the journal there is scripts/bench.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BASELINE = {
    "a balanced tree of sums": {
        "instructions an operation": 566.2,
        "leases a thousand operations": 13.68,
    },
    "a chain of float sums": {
        "instructions an operation": 2471.1,
        "leases a thousand operations": 1000.0,
    },
    "formulas of one shape": {
        "instructions an operation": 617.6,
        "leases a thousand operations": 6.0,
    },
    "formulas of many shapes": {
        "instructions an operation": 1347.8,
        "leases a thousand operations": 21.25,
    },
}
BASELINE_PYTHON = (3, 11)
"""Other versions of Python have other instructions."""
BETTER, WORSE = 0.9, 1.1


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    """The figures, from a process of its own: coverage traces this one."""
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "core.hot_path"]
    output = subprocess.run(command, cwd=tests, check=True, capture_output=True, text=True).stdout
    figures: dict[str, dict[str, float]] = json.loads(output)
    return figures


@pytest.mark.skipif(
    sys.version_info[:2] != BASELINE_PYTHON,
    reason="the instructions of this version of Python have no baseline",
)
@pytest.mark.parametrize("workload", BASELINE)
def test_the_hot_path_costs_what_it_did_give_or_take_a_tenth(
    workload: str, measured: dict[str, dict[str, float]]
) -> None:
    for what, figure in BASELINE[workload].items():
        assert BETTER * figure <= measured[workload][what] <= WORSE * figure, what


def test_all_workloads_are_compared(measured: dict[str, dict[str, float]]) -> None:
    assert measured.keys() == BASELINE.keys()
