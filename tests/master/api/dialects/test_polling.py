"""Workers that poll, as the master knows them."""

from __future__ import annotations

import pytest

from dte.core.errors import InvalidRequest
from dte.core.workers.worker import Delivery
from dte.master.api.dialects.polling import poller


@pytest.mark.parametrize("name", ["", "a\nb", "a" * 201, "\0"])
def test_a_name_that_cannot_be_shown_is_none(name: str) -> None:
    with pytest.raises(InvalidRequest):
        poller(name, "queue", {}, 1.0, 1.0)


def test_a_poller_runs_one_call_at_a_time_and_cannot_be_stopped() -> None:
    announced = poller("w", "queue", {}, 120.0, 60.0)
    assert (announced.delivery, announced.can_stop, announced.handler_slots) == (
        Delivery.PULL,
        False,
        1,
    )
    assert not announced.arithmetic
    assert (announced.identity, announced.lease_s, announced.dead_after_s) == (
        "pull/queue:w",
        120.0,
        60.0,
    )
