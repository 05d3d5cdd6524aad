"""Parses lists of formulas, in slices."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator, Iterable, Sequence

from dte.core.errors import DteError, FormulaError, TooLarge
from dte.core.formula.formula import SLICE_CHARS, FormulaLimits, parse_in_slices
from dte.core.formula.templates import Templates
from dte.core.graph.work import Work
from dte.core.jobs.table import NewJob

FORMULA_CHARS = 15
"""Cost of parsing a formula besides its characters, in characters."""
NO_LIMITS = FormulaLimits(chars_max=sys.maxsize, operations_max=sys.maxsize, calls_max=sys.maxsize)
"""A job that was accepted before a restart is not refused after it."""


def parse_all(
    tasks: Sequence[str],
    templates: Templates,
    ensure_room: Callable[[int, int], None],
    pure: Collection[str] = (),
) -> Generator[None, None, list[NewJob]]:
    """Parse formulas into new jobs, all or none.

    Args:
        templates: parses the short ones.
        ensure_room: called after each slice with the number of jobs, and of operations so far; it
            may raise.

    Raises:
        FormulaError: a formula has a syntax error; `index` is its place in the list.
        TooLarge: a formula is too long, or has too many operations.
    """
    jobs: list[NewJob] = []
    chars = operations = 0
    for index, task in enumerate(tasks):
        try:
            if len(task) <= SLICE_CHARS:
                work = templates.parse(task, pure)
            else:
                work = yield from parse_in_slices(task, templates.limits, pure)
        except FormulaError as error:
            raise FormulaError(error.reason, error.column, error.caret, index) from None
        except TooLarge as error:
            raise TooLarge(f"formula {index}: {error}") from None
        jobs.append(NewJob(task, work))
        operations += work.operations
        chars += len(task) + FORMULA_CHARS
        if chars > SLICE_CHARS:
            ensure_room(len(tasks), operations)
            chars = 0
            yield
    return jobs


def parse_again(
    formulas: Iterable[tuple[int, str]], parsed: Callable[[int, Work], None]
) -> Generator[None, None, None]:
    """Parse formulas that were accepted before a restart.

    Args:
        formulas: the numbers of their jobs, with their texts.
        parsed: called with each number and its work; a formula that cannot be parsed any more
            becomes work that fails.
    """
    templates = Templates(NO_LIMITS)
    chars = 0
    for number, text in formulas:
        try:
            if len(text) <= SLICE_CHARS:
                work = templates.parse(text)
            else:
                work = yield from parse_in_slices(text, NO_LIMITS)
        except DteError as error:
            work = Work.failed(f"it cannot be read any more: {error}")
        parsed(number, work)
        chars += len(text) + FORMULA_CHARS
        if chars > SLICE_CHARS:
            chars = 0
            yield
