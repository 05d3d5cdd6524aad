"""The handlers of the workers: hostile ones, and those that are harmed if hostile ones do harm.

Formulas have only numbers as arguments, so a recipe of `worker.hostile` is known by its number.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from worker.hostile import DEEDS, ERRORS, RAISED, RESULTS, do

from dte.handlers.registry import handler

RECIPES = [
    (deed, name, raised)
    for deed in DEEDS
    for name in (ERRORS if deed == "raise" else RESULTS)
    for raised in RAISED
]
HOSTILE = {
    "misbehave": 4,
    "misbehave_async": 4,
    "misbehave_coroutine": 4,
    "misbehave_recorded": 1,
}
"""The hostile handlers with their weights.

All but the last are pure. A master that is restarted waits for half a minute for the result of a
call that is not, and so would most runs of few kills.
"""
RESTING = ("rest", "rest_async")
NOTE = "rest-{}"
"""The file in the current folder by which a rest says that it has begun, with its number."""
OVER = "rests-are-over"
"""The file in the current folder that ends all rests."""
POLL_S = 0.02


@handler("misbehave", pure=True)
def misbehave(recipe: int) -> Any:
    return do(*RECIPES[recipe])


@handler("misbehave_async", pure=True)
async def misbehave_async(recipe: int) -> Any:
    await asyncio.sleep(0)
    return do(*RECIPES[recipe])


@handler("misbehave_coroutine", pure=True)
def misbehave_coroutine(recipe: int) -> Any:
    return misbehave_async(recipe)


@handler("misbehave_recorded")
def misbehave_recorded(recipe: int) -> Any:
    return do(*RECIPES[recipe])


@handler("nap", pure=True)
def nap(seconds: float) -> float:
    """Do as the built-in `sleep` does, with a process to itself."""
    time.sleep(seconds)
    return seconds


@handler("rest")
def rest(number: int) -> int:
    """Say that this call has begun, and wait until all rests are over."""
    Path(NOTE.format(number)).touch()
    while not Path(OVER).exists():
        time.sleep(POLL_S)
    return number


@handler("rest_async")
async def rest_async(number: int) -> int:
    """As `rest`, beside other async calls."""
    Path(NOTE.format(number)).touch()
    while not Path(OVER).exists():
        await asyncio.sleep(POLL_S)
    return number
