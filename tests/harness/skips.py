"""Tests that this machine cannot do: they are skipped, and listed at the end of the run.

With DTE_TEST_ALL=1 a test fails if a program or a server is missing, because it can be installed.
It is still skipped if the user's rights, the Python version or the git history do not suffice.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

MUST_ALL = os.environ.get("DTE_TEST_ALL", "") not in ("", "0")


def missing(what: str) -> NoReturn:
    """End a test that needs what can be had, and is not here."""
    if MUST_ALL:
        pytest.fail(f"{what}; DTE_TEST_ALL allows no test to be skipped for that", pytrace=False)
    pytest.skip(what)


def reasons(skipped: list[pytest.TestReport]) -> Counter[str]:
    """How many tests were skipped, by their reasons."""
    texts = (report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple))
    return Counter(text.removeprefix("Skipped: ") for text in texts)
