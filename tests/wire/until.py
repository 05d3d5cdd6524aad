"""Waiting for what must come, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> None:
    """Let the loop run until a condition holds; fail after `timeout_s` seconds."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.001)
