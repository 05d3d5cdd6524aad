"""Prints texts, and JSON, that are safe on a terminal. Commands print in no other way."""

from __future__ import annotations

import json
from typing import Any

import click

from dte.client.exact import encode
from dte.core.printable import escaped, printable


def say(text: str = "", *, err: bool = False) -> None:
    """Print a text; line breaks in it stay, and nothing else that cannot be printed."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def say_again(text: str) -> None:
    """Print a text on stderr in place of the last one, on a terminal."""
    click.echo(f"\r{printable(text)}", err=True, nl=False)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(printable_json(encode(value).decode()))


def printable_json(text: str) -> str:
    """Escape what cannot be printed. In JSON only texts have such characters."""
    return text if text.isprintable() else escaped(text, lambda char: json.dumps(char)[1:-1])


def spaced(text: str) -> str:
    """Put spaces in place of what cannot be printed, as for a formula of several lines."""
    return text if text.isprintable() else escaped(text, lambda char: " ")


def short(text: str, length: int = 40) -> str:
    text = spaced(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
