"""Texts that are safe to print, and fit into a line."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace characters that could break a line or control the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def short(text: str, length: int = 40) -> str:
    text = printable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
