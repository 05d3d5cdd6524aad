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
HOSTILE = ("misbehave", "misbehave_async", "misbehave_coroutine")
"""These are pure, or most runs of few kills would take longer: a master that is restarted waits for
the results of other calls for half a minute.
"""
HOSTILE_RECORDED = "misbehave_recorded"
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


@handler(HOSTILE_RECORDED)
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
