"""Waiting on a loop for what must come, and no longer. `processes.until` waits without a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any


async def until(
    condition: Callable[[], Any], what: str, timeout_s: float = 60.0, poll_s: float = 0.001
) -> None:
    """Let the loop run until a condition holds; fail after `timeout_s` seconds.

    Args:
        condition: gives whether it holds, or an awaitable of that.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = condition()
        if await found if isawaitable(found) else found:
            return
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(poll_s)
