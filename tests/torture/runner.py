"""The commands of the long tests: help, seeds, progress, reports, exit codes.

Each is `scripts/NAME`. Its `__main__` makes a `parser`, does its work with `Progress`, gives a
`Report` to `conclude`, and hands its `main` to `run`. Those that play scenarios use `play`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from textwrap import fill
from threading import Event, Thread
from typing import Any, NoReturn, Protocol

WRONG, MISTAKE, INTERRUPTED = 1, 2, 130
EXIT_CODES = (
    "exit codes: 0 all is well; 1 {wrong}; 2 the command is wrong; 130 Ctrl-C; 143 SIGTERM."
)
ONLY = "only scenarios whose names contain this"
SAID = "dte: "
"""The beginning of the line with which dte refuses to start."""
HELP_CHARS = 99
NUMBER_MAX = 10**12
SEED_MAX = 10**9
FIRST_TOLD_S, TOLD_EVERY_S, TERMINAL_S = 2.0, 10.0, 0.2


class Report(Protocol):
    """The result of a long test."""

    @property
    def good(self) -> bool:
        """Nothing happened that must not."""

    def as_json(self) -> Mapping[str, Any]:
        """Everything, for programs."""

    def table(self) -> str:
        """Everything, for people."""


class Options(ArgumentParser):
    """A parser whose errors are the reason alone, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISTAKE, f"{self.prog}: {message}\n")


def parser(name: str, description: str, examples: str = "", wrong: str = "") -> ArgumentParser:
    """The options of `scripts/NAME`, with a help that teaches; all of them have ``--json``.

    Args:
        wrong: what exit code 1 means.
    """
    codes = fill(EXIT_CODES.format(wrong=wrong or "something is wrong"), HELP_CHARS)
    options = Options(
        prog=f"scripts/{name}",
        description=description,
        epilog=f"examples:\n{examples}\n{codes}" if examples else codes,
        formatter_class=RawDescriptionHelpFormatter,
    )
    options.add_argument("--json", action="store_true", help="print JSON, for programs")
    return options


def add_seed(options: ArgumentParser, what: str) -> None:
    """Add the option ``--seed``; without it, each run has another one."""
    default = SystemRandom().randrange(1, SEED_MAX)
    text = f"{what} (default: another each time)"
    options.add_argument("--seed", metavar="N", type=number, default=default, help=text)


def number(text: str) -> int:
    """A number of an option, from 0 to 10^12."""
    if not text.isascii() or not text.isdigit() or int(text) > NUMBER_MAX:
        raise ArgumentTypeError(f"{text!r} must be an integer from 0 to 10^12")
    return int(text)


def count(text: str) -> int:
    """A number of an option, from 1 to 10^12."""
    if not number(text):
        raise ArgumentTypeError(f"{text!r} must be an integer from 1 to 10^12")
    return int(text)


def seconds(text: str) -> float:
    """A time of an option."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} must be a number of seconds greater than 0")
    return value


def again(name: str, *words: object, **options: object) -> str:
    """The command that does something again."""
    given = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return shlex.join([f"scripts/{name}", *given, *map(str, words)])


def run(main: Callable[[], int]) -> int:
    """Run a command, and give its exit code; SIGTERM and SIGHUP end it as Ctrl-C does."""
    code = INTERRUPTED

    def interrupt(number: int, _: object) -> None:
        nonlocal code
        code = 128 + number
        signal.raise_signal(signal.SIGINT)  # So a loop's tasks are cancelled, and clean up.

    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        return code


def conclude(report: Report, as_json: bool) -> int:
    """Print a report, and give the exit code."""
    print(json.dumps(report.as_json(), indent=2) if as_json else report.table(), flush=True)
    return 0 if report.good else WRONG


class Progress:
    """Tells on stderr how far something is, if that takes longer than two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + FIRST_TOLD_S
        self._told = False

    def tell(self, text: str) -> None:
        """Tell something, unless something was told just now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._told = True
        self._next = now + (TERMINAL_S if self._terminal else TOLD_EVERY_S)
        before, end = ("\r\033[K", "") if self._terminal else ("", "\n")
        print(f"{before}{self._name}: {text}", end=end, file=sys.stderr, flush=True)

    def of(self, total: int, what: str) -> Callable[[int], None]:
        """Tells the number that are done, of a total."""
        return lambda done: self.tell(f"{done:,} of {total:,} {what}")

    def end(self) -> None:
        """Leave the line of a terminal to what follows."""
        if self._told and self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextmanager
def going_on(name: str) -> Iterator[None]:
    """Tells how long a ``with`` block has been going on."""
    progress, over, began_at = Progress(name), Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(TERMINAL_S):
            progress.tell(f"{time.monotonic() - began_at:.0f} s")

    telling = Thread(target=tell, daemon=True)
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()
        progress.end()


@dataclass
class Folder:
    """A folder for journals and logs.

    Attributes:
        keep: whether it stays, for people to look into.
    """

    path: Path
    keep: bool = False


@contextmanager
def folder(name: str) -> Iterator[Folder]:
    """A folder that is deleted after the ``with`` block, unless something was wrong in it."""
    made = Folder(Path(tempfile.mkdtemp(prefix=f"dte-{name}-")))
    try:
        yield made
    except KeyboardInterrupt:
        made.keep = False
        raise
    except BaseException:
        made.keep = True
        raise
    finally:
        if made.keep:
            print(f"{name}: journal and logs are kept in {made.path}", file=sys.stderr)
        else:
            shutil.rmtree(made.path, ignore_errors=True)


class CannotPlay(Exception):
    """This machine has not what a scenario needs; the text says what."""


@dataclass
class Found:
    """The result of a scenario.

    Attributes:
        figures: what was counted and measured.
        problems: what must not happen and did, as sentences.
    """

    figures: dict[str, Any]
    problems: list[str] = field(default_factory=list)


def chosen(options: ArgumentParser, only: str, names: Sequence[str]) -> list[str]:
    """The scenarios whose name contains a text; it is an error if there is none."""
    found = [name for name in names if only in name]
    if not found:
        known = "\n  ".join(["no scenario has a name with that text; all names:", *names])
        options.error(f"--only {only}: {known}")
    return found


@contextmanager
def refusing(options: ArgumentParser) -> Iterator[None]:
    """End with one line if dte refuses, within the ``with`` block, to start as it was told to."""
    try:
        yield
    except AssertionError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith(SAID)]
        if not reasons:
            raise
        options.error(reasons[-1].removeprefix(SAID))


def play(
    names: Sequence[str],
    scenario: Callable[[str], Found],
    row: Callable[[str, Found], str],
    as_json: bool,
) -> int:
    """Play scenarios one after another, print each when it is done, and give the exit code.

    Args:
        row: a scenario's line in the table.
    """
    problems = 0
    for name in names:
        try:
            with going_on(name):
                found = scenario(name)
        except CannotPlay as reason:
            print(f"{name}: not here: {reason}", file=sys.stderr)
            continue
        problems += len(found.problems)
        shown = {"scenario": name} | found.figures | {"problems": found.problems}
        print(json.dumps(shown) if as_json else row(name, found), flush=True)
        for problem in found.problems:
            print(f"  {problem}", file=sys.stderr)
    return WRONG if problems else 0
