"""Puts many texts to the test, in blocks that processes share."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from random import Random

from torture.fuzz import formulas, parser
from torture.fuzz.parser import Difference, Parse
from torture.fuzz.shrink import shrink

from dte.core.formula import formula

BLOCK = 1000
INPUT_TIMEOUT_S = 30
FOUND_MAX = 20
"""More differences would show nothing new."""
SHRUNK_CHARS_MAX = 20_000
RECURSION_MAX = 10_000
"""What Python's compiler needs for the longest chains."""
INPUTS_MAX = 10**12
"""The number of an input is below it, so that no two seeds share one."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A difference.

    Attributes:
        number: the input's; with the seed it gives `text` again.
        shorter: as short a text as was found that shows a difference.
        what: what is different, for `text`.
    """

    number: int
    text: str
    shorter: str
    what: str


@dataclass(slots=True)
class Tally:
    """The numbers of inputs by their end (`parser.OUTCOMES`), and the differences."""

    outcomes: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def inputs(self) -> int:
        return self.outcomes.total() + len(self.found)


def run(
    seed: int,
    inputs: int,
    *,
    processes: int = 1,
    progress: Progress = lambda done: None,
    parse: Parse = formula.parse,
    found_max: int = FOUND_MAX,
) -> Tally:
    """Put the inputs 0 to `inputs` of a seed to the test; stop after `found_max` differences.

    Args:
        processes: with 1, it is done in this one.
        progress: told the number of inputs done, after each block.
        parse: what is put to the test, if it is done in this process.
    """
    started = time.monotonic()
    blocks = [(start, min(inputs, start + BLOCK)) for start in range(0, inputs, BLOCK)]
    total = Tally()
    tallies: Iterator[Tally]
    if processes == 1:
        tallies = (check_block(seed, *block, parse, found_max) for block in blocks)
    else:
        tallies = _in_processes(seed, blocks, processes)
    for tally in tallies:
        total.outcomes += tally.outcomes
        total.found += tally.found
        progress(total.inputs)
        if len(total.found) >= found_max:
            break
    total.found.sort(key=lambda found: found.number)
    total.took_s = time.monotonic() - started
    return total


def _in_processes(seed: int, blocks: list[tuple[int, int]], processes: int) -> Iterator[Tally]:
    # Not forked: what this process has loaded and opened is none of theirs.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_leave_ctrl_c_to_the_first
    )
    try:
        futures = {pool.submit(check_block, seed, *block): block for block in blocks}
        for future in as_completed(futures):
            start, end = futures[future]
            try:
                yield future.result()
            except BrokenExecutor:
                what = f"a process died of an input; perhaps of one from {start} to {end}"
                yield Tally(found=[Found(start, "", "", what)])
                return
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c_to_the_first() -> None:
    """A process that is interrupted while it takes a block leaves the others waiting for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_block(
    seed: int, start: int, end: int, parse: Parse = formula.parse, found_max: int = FOUND_MAX
) -> Tally:
    """Put the inputs `start` to `end` to the test; stop after `found_max` differences."""
    tally = Tally()
    with _room_for_python():
        for number in range(start, end):
            text, rng = text_of(seed, number)
            try:
                with _bounded_time():
                    outcome = parser.check(text, rng, parse)
            except Difference as difference:
                shorter = _shrunk(text, parse)
                tally.found.append(Found(number, text, shorter, str(difference)))
                if len(tally.found) >= found_max:
                    break
            else:
                tally.outcomes[outcome] += 1
    return tally


def text_of(seed: int, number: int) -> tuple[str, Random]:
    """Input `number` of a seed, and the chance that goes with it."""
    rng = Random(seed * INPUTS_MAX + number)
    return formulas.text(rng), rng


def _shrunk(text: str, parse: Parse) -> str:
    def differs(shorter: str) -> bool:
        try:
            for chance in range(5):  # What is looked at besides the value is left to chance.
                parser.check(shorter, Random(chance), parse)
        except Difference:
            return True
        return False

    return shrink(text, differs) if len(text) <= SHRUNK_CHARS_MAX else text


@contextmanager
def _room_for_python() -> Iterator[None]:
    """Let Python compile long chains, and say nothing about what it compiles."""
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(max(depth, RECURSION_MAX))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.setrecursionlimit(depth)


@contextmanager
def _bounded_time() -> Iterator[None]:
    """Raise where an input takes longer than `INPUT_TIMEOUT_S` seconds."""
    before = signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, INPUT_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _time_is_up(*_: object) -> None:
    raise TimeoutError(f"it takes more than {INPUT_TIMEOUT_S} s")
