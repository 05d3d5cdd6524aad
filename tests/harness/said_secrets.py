"""Finds secrets in logs: in none of the whole suite may one stand."""

from __future__ import annotations

import logging
import re
from pathlib import Path

SECRET = re.compile(r"dte_[crwa]_[A-Za-z0-9_-]{43}")
"""A token, as `dte token new` makes them."""


class Watch(logging.Handler):
    """Keeps the secrets that any logger of this process says.

    Attributes:
        found: the records with one, shortened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s: %(message)s %(stack_info)s"))

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{self.format(record)} {vars(record)}"
        if SECRET.search(text):
            self.found.append(text[:200])

    def take(self) -> list[str]:
        found, self.found = self.found, []
        return found


def check_file(log: Path) -> None:
    """Check what a program has printed."""
    if log.exists():
        assert not SECRET.search(log.read_text(errors="replace")), f"a token is in {log}"
