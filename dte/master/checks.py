"""Bounds on the names and numbers that clients and workers send."""

from __future__ import annotations

import re

from dte.core.errors import InvalidRequest
from dte.core.graph.handlers import NAME_CHARS_MAX
from dte.core.printable import printable

TEXT_CHARS_MAX = 500

NUMBER_CHARS_SHOWN = 30
SECRET_CHARS = 16, 200
SECRET = re.compile(r"[A-Za-z0-9_-]*")


def check_name(field: str, text: str) -> None:
    """Raise `InvalidRequest` for a name that is too long or cannot be printed; it may be empty."""
    if len(text) > NAME_CHARS_MAX:
        raise InvalidRequest(f"{field} has more than {NAME_CHARS_MAX} characters")
    if not text.isprintable():
        raise InvalidRequest(f"{field} has characters that cannot be printed")


def one_line(text: str | None) -> str | None:
    """A text that people read, cut and without characters that cannot be printed."""
    if text is None:
        return None
    text = " ".join(text[: 2 * TEXT_CHARS_MAX].split())
    return printable(text)[:TEXT_CHARS_MAX] or None


def check_range(field: str, value: int, least: int, most: int) -> None:
    """Raise `InvalidRequest` if a number is out of its bounds."""
    if not least <= value <= most:
        raise InvalidRequest(
            f"{field} must be from {least:,} to {most:,}, not {shown_number(value)}"
        )


def shown_number(value: float) -> str:
    """A number for an error: a long one is cut."""
    text = f"{value:g}" if isinstance(value, float) else f"{value:,}"
    return text if len(text) <= NUMBER_CHARS_SHOWN else f"{text[:NUMBER_CHARS_SHOWN]}…"


def check_secret(secret: str, incarnation: str) -> None:
    """Check the text that a worker wants to be shown; "" is none.

    Raises:
        InvalidRequest: it cannot be shown, or the worker does not announce itself again and again.
            The error does not quote it.
    """
    if not secret:
        return
    if not incarnation:
        raise InvalidRequest("secret: a worker with a secret needs an incarnation too")
    least, most = SECRET_CHARS
    if not (SECRET.fullmatch(secret) and least <= len(secret) <= most):
        raise InvalidRequest(f"secret must have {least} to {most} letters, digits, - and _")
