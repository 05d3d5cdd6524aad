from __future__ import annotations

import asyncio

import pytest

from dte.core.errors import Busy, TooLarge
from dte.master.http.meters import Budget


def test_there_is_room_up_to_the_bound_but_nothing_long_is_begun_near_it() -> None:
    budget = Budget("replies_bytes_max", 1_000, 2)
    budget.add(750)
    budget.ensure_room()
    budget.add(1)
    budget.ensure_room(begun=True)
    with pytest.raises(Busy, match="replies_bytes_max"):
        budget.ensure_room()
    budget.add(250)
    with pytest.raises(Busy, match=r"1001 of 1000 bytes \(replies_bytes_max\)"):
        budget.ensure_room(begun=True)
    budget.remove(251)
    budget.ensure_room()
    budget.ensure_room(begun=True, more=250)
    with pytest.raises(Busy, match=r"1001 of 1000 bytes"):
        budget.ensure_room(begun=True, more=251)


def test_what_never_fits_is_no_reason_to_try_again() -> None:
    budget = Budget("replies_bytes_max", 1_000, 2)
    budget.ensure_room(begun=True, more=1_000)
    with pytest.raises(TooLarge, match=r"1001 > 1000 bytes \(replies_bytes_max\)"):
        budget.ensure_room(begun=True, more=1_001)
    budget.ensure_room(begun=True, owner="10.0.0.1", more=500)
    with pytest.raises(TooLarge, match="501 > 500 bytes"):
        budget.ensure_room(begun=True, owner="10.0.0.1", more=501)


async def test_few_long_ones_are_made_at_a_time() -> None:
    budget = Budget("bodies_bytes_max", 1_000, 1)
    async with budget.long_ones:
        other = asyncio.create_task(budget.long_ones.acquire())
        await asyncio.sleep(0)
        assert not other.done()
    await other
