from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in the log is a bug: nobody else hears of an exception in a callback."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelname == "ERROR"]
    assert not errors
