"""The commands that a document's block has, each with the output that the document shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from .markdown import Block

PROMPT = "$ "
ANYTHING = "…"
"""Stands for any text within a line, and alone on a line for any lines."""
LONG_NUMBER = re.compile(r"\b\d{12,}\b")
"""The number of a lease or an event, which differs in each run."""
PRINT = re.compile(r"^ *print\(.*\)(?:  # (?P<shown>.*))?$")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a reader types.

    Attributes:
        shown: the output that the document shows; None if the document does not say.
        line: where it stands in the document.
    """

    text: str
    shown: str | None
    line: int


def of_console(block: Block) -> Iterator[Command]:
    """The commands of a block in which each stands behind a prompt, above its output."""
    text, shown, first = "", "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith(PROMPT):
            if text:
                yield Command(text, shown, first)
            text, shown, first = line.removeprefix(PROMPT), "", number
        elif _is_open(text):
            text += f"\n{line}"
        else:
            assert text, f"line {number}: a console block begins with {PROMPT!r}"
            shown += f"{line}\n"
    yield Command(text, shown, first)


def of_shell(block: Block) -> Command:
    """A block without prompts is one script, whose output is not shown."""
    return Command(block.text, None, block.line)


def of_python(block: Block, file: str) -> Command:
    """A program; it shows the output of each `print` in a comment behind it."""
    shown = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        printing = PRINT.match(line)
        if printing is not None:
            assert printing["shown"], f"line {number}: say what it prints: print(…)  # …"
            shown.append(f"{printing['shown']}\n")
    return Command(f"python {file}", "".join(shown), block.line)


def _is_open(text: str) -> bool:
    """Tell whether a command continues on the next line."""
    if text.endswith("\\"):
        return True
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False


class Output:
    """Compares output with what documents show.

    Attributes:
        numbers: the long numbers of this run, by those that the document has in their places.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}

    def matches(self, shown: str, output: str) -> bool:
        """Tell whether output is as a document shows it, and learn its long numbers."""
        pattern, places = self._pattern(shown)
        found = re.fullmatch(
            pattern, output if output.endswith("\n") or not output else f"{output}\n"
        )
        if found is None:
            return False
        self.numbers |= dict(zip(places, found.groups(), strict=True))
        return True

    def with_numbers(self, command: str) -> str:
        """A command with the long numbers of this run."""
        return LONG_NUMBER.sub(lambda number: self.numbers.get(number[0], number[0]), command)

    def _pattern(self, shown: str) -> tuple[str, list[str]]:
        """A regular expression, and the numbers of the document that are its groups, in order."""
        places: list[str] = []

        def number_pattern(number: str) -> str:
            if number in self.numbers:
                return self.numbers[number]
            if number in places:
                return rf"\{places.index(number) + 1}"
            places.append(number)
            return r"(\d{12,})"

        def line_pattern(line: str) -> str:
            pattern, end = "", 0
            for number in LONG_NUMBER.finditer(line):
                pattern += _text_pattern(line[end : number.start()]) + number_pattern(number[0])
                end = number.end()
            return pattern + _text_pattern(line[end:])

        patterns = [
            r"(?:.*\n)*" if line == ANYTHING else f"{line_pattern(line)}\n"
            for line in shown.splitlines()
        ]
        return "".join(patterns), places


def _text_pattern(text: str) -> str:
    return ".*".join(map(re.escape, text.split(ANYTHING)))
