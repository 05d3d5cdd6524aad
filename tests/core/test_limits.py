from dataclasses import FrozenInstanceError, fields

import pytest

from dte.core.limits import SchedulerLimits


def test_every_bound_is_above_nothing() -> None:
    limits = SchedulerLimits()
    assert all(getattr(limits, field.name) > 0 for field in fields(limits))


def test_the_waits_fit_each_other() -> None:
    """A worker may miss a heartbeat, and a lease ends before its silent worker is given up."""
    limits = SchedulerLimits()
    assert 2 * limits.heartbeat_s < limits.dead_after_s
    assert limits.lease_s < limits.dead_after_s


def test_bounds_do_not_change_under_way() -> None:
    with pytest.raises(FrozenInstanceError):
        SchedulerLimits().jobs_kept = 1  # type: ignore[misc]
