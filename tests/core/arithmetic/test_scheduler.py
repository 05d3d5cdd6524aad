"""Leases of batches that end."""

from __future__ import annotations

import pytest

from core.checked import Core, at
from dte.core.arithmetic import scheduler


def test_leases_that_end_together_end_in_several_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(*(at(port, name=f"w{port}", slots=1) for port in range(25)))
    core.add(*(["1+2"] * 25))
    assert len(core.tick(0.0).batches) == 25
    monkeypatch.setattr(scheduler, "LEASES_IN_TICK", 10)
    lost = [len(core.tick(10.0).lost)]
    while core.following(10.0) <= 10.0:
        lost.append(len(core.tick(10.0).lost))
    assert lost[:3] == [10, 10, 5]


def test_operations_that_are_lost_together_are_so_in_several_ticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core(*(at(port, name=f"w{port}", slots=1) for port in range(4)))
    core.add(*(["1+2"] * 12))
    count = [lease.count for lease in core.tick(0.0).batches]
    monkeypatch.setattr(scheduler, "OPERATIONS_IN_TICK", count[0] + 1)
    assert [len(core.tick(10.0).lost), core.following(10.0)] == [2, 10.0]
