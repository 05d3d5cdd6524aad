from __future__ import annotations

import pytest

from dte.handlers import registry


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    registry.load()
    monkeypatch.setattr(registry, "_handlers", registry.handlers())
