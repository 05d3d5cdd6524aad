"""The hot path does not become more expensive by a tenth unnoticed.

Nor cheaper, or half of the gain could be lost again unnoticed: take the new figures from
``python -m core.hot_path``, run in tests/. The count leaves out the work of C in one instruction,
and all but the core, its batches and a worker's arithmetic: scripts/bench measures requests,
sockets and the journal.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BASELINE = {
    "a balanced tree of sums": {
        "instructions an operation": 566.0,
        "leases a thousand operations": 13.68,
    },
    "a chain of float sums": {
        "instructions an operation": 2386.1,
        "leases a thousand operations": 1000.0,
    },
    "formulas of one shape": {
        "instructions an operation": 622.6,
        "leases a thousand operations": 6.0,
    },
    "formulas of many shapes": {
        "instructions an operation": 1352.6,
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
