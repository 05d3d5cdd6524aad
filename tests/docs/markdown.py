"""Reads the project's documents: their fenced blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)

FENCE = re.compile(r"^( *)```(.*)$")
HEADING = re.compile(r"^#{1,6} +(.*)$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: the first word behind the fence.
        file: the second one, which names the file that the block is.
        line: the number of its first line in the document, from 1.
    """

    language: str
    file: str
    text: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    lines = document.read_text().splitlines()
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        if opened is None:
            opened = number, fence[1], fence[2]
            continue
        start, indent, info = opened
        opened = None
        language, _, file = info.strip().partition(" ")
        inside = [each.removeprefix(indent) for each in lines[start : number - 1]]
        yield Block(language, file, "".join(f"{each}\n" for each in inside), start + 1)
    assert opened is None, f"{document.name} leaves a block open"


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    kept: list[str] = []
    inside = False
    for line in document.read_text().splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as links have them behind ``#``."""
    found: set[str] = set()
    for line in prose(document).splitlines():
        heading = HEADING.match(line)
        if heading is None:
            continue
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        repeats = sum(
            each == slug or re.fullmatch(rf"{slug}-\d+", each) is not None for each in found
        )
        found.add(f"{slug}-{repeats}" if repeats else slug)
    return found


def links(document: Path) -> list[str]:
    """The targets of a document's links and pictures."""
    return LINK.findall(CODE_SPAN.sub("", prose(document)))


def code_spans(document: Path) -> list[str]:
    """The texts between backticks in a document's prose."""
    return CODE_SPAN.findall(prose(document))
