"""Makes texts from elsewhere safe to print: they control no terminal, and stay in their line.

Clients, workers, handlers and whoever else answers at an address may write anything. Every text
that reaches a log or a terminal goes through `printable`.
"""

from __future__ import annotations

from collections.abc import Callable


def printable(text: str) -> str:
    r"""Escape line breaks, control characters, marks of direction and what cannot be seen.

    They are written as Python writes them: ``\n``, ``\x1b``, ``\u202e``, ``\ud800``.
    """
    return text if text.isprintable() else escaped(text, lambda char: repr(char)[1:-1])


def escaped(text: str, escape: Callable[[str], str]) -> str:
    """Replace each character that cannot be printed by what a function gives for it."""
    return text.translate({ord(char): escape(char) for char in set(text) if not char.isprintable()})
