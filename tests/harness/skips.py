"""Tests that this machine cannot do: they are skipped, and listed at the end of the run.

With DTE_TEST_ALL=1 a test fails for want of a program or a server, as both can be installed. The
user's rights and the version of Python can not: for want of them a test is only skipped.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

NOT_HERE = "not here: "
"""How the reasons begin for which tests are skipped on some machines alone."""
MUST_ALL = os.environ.get("DTE_TEST_ALL") == "1"


def missing(what: str) -> NoReturn:
    """End a test that needs what can be installed, and is not."""
    if MUST_ALL:
        pytest.fail(f"{what}; scripts/setup-servers installs it", pytrace=False)
    pytest.skip(f"{NOT_HERE}{what}")


def skipped(reports: list[pytest.TestReport]) -> Counter[str]:
    """How many tests were skipped on this machine alone, by their reasons."""
    reasons = (report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple))
    return Counter(each.partition(NOT_HERE)[2] for each in reasons if NOT_HERE in each)
