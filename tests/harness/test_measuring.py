"""What slows tests down, and must not slow down those that are long."""

from __future__ import annotations

import pytest
from coverage import Coverage


@pytest.mark.no_cover
def test_what_is_not_to_be_measured_is_not_measured() -> None:
    assert Coverage.current() is None
