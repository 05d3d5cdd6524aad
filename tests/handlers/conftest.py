from __future__ import annotations

import pytest

from dte.handlers import registry


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget handlers that a test registers."""
    registry.load()
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
