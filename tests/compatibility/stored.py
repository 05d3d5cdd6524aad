"""Journals as texts, for people to review: the statements that make one again."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from compatibility.scenario import RECEIVER, WORKER

FOLDER = Path(__file__).with_name("journals")
PRAGMAS = ("application_id", "user_version")
"""What a file has besides its tables."""
BLANKS = re.compile(r" {100,}")
SHORTENED = re.compile(r"<(\d+) blanks>")


def dump_journal(journal: Path, worker: str) -> str:
    """The text of a journal that no master has open.

    Args:
        worker: the address that becomes `WORKER`.
    """
    with closing(sqlite3.connect(journal)) as db:
        values = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS}
        lines = [f"PRAGMA {name} = {value};" for name, value in values.items()]
        text = "\n".join([*lines, *db.iterdump()]) + "\n"
    return shorten(text).replace(f"{worker}'", f"{WORKER}'").replace(f'{worker}"', f'{WORKER}"')


def restore_journal(text: str, journal: Path, worker: str, receiver: str) -> None:
    """Make a journal of its text.

    Args:
        worker: the address of the worker that the journal remembers.
        receiver: the address that its notices go to.
    """
    text = lengthen(text).replace(f"{WORKER}'", f"{worker}'").replace(f'{WORKER}"', f'{worker}"')
    with closing(sqlite3.connect(journal)) as db:
        db.executescript(text.replace(f"//{RECEIVER}/", f"//{receiver}/"))


def shorten(text: str) -> str:
    """The text with the number of blanks in the place of many of them."""
    return BLANKS.sub(lambda match: f"<{len(match[0])} blanks>", text)


def lengthen(text: str) -> str:
    """The text before it was shortened."""
    return SHORTENED.sub(lambda match: " " * int(match[1]), text)


def as_text(value: dict[str, Any]) -> str:
    """A JSON object with a line for each of its members' members."""
    parts = []
    for name, members in value.items():
        pairs = members.items() if isinstance(members, dict) else enumerate(members)
        named = isinstance(members, dict)
        lines = [
            (f"{json.dumps(key)}: " if named else "") + json.dumps(each, ensure_ascii=False)
            for key, each in pairs
        ]
        begin, end = "{}" if named else "[]"
        parts.append(f"{json.dumps(name)}: {begin}\n" + ",\n".join(lines) + f"\n{end}")
    return shorten("{\n" + ",\n".join(parts) + "\n}\n")
