"""Tells what was measured: as a table, as JSON, and in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from figures import Row
from machine import Circumstances

BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"
COMMAND = "`scripts/bench` prints this table and draws this plot on your machine."


def line(row: Row) -> str:
    """A row for a terminal."""
    return f"{row.label:<62}{row.text:>32}  {row.aim}".rstrip()


def as_json(circumstances: Circumstances, rows: Sequence[Row]) -> str:
    """All of it for programs; the names of rows stay what they are."""
    found = {**msgspec.to_builtins(circumstances), "rows": rows}
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def as_markdown(circumstances: Circumstances, rows: Sequence[Row]) -> str:
    """All of it for the README."""
    lines = [
        f"{COMMAND} Here: {circumstances.text}.",
        "",
        "![Operations a second, latency and growth](bench.png)",
        "",
        "| workload | figure | aim |",
        "|---|---|---|",
    ]
    for row in rows:
        # Blanks at the beginning of a cell are not shown.
        label = "… " + row.label.strip() if row.label.startswith(" ") else row.label
        lines.append(f"| {label} | {row.text} | {row.aim} |")
    return "\n".join(lines) + "\n"


def write_into(readme: Path, text: str) -> None:
    """Put the text between the two comments that mark its place.

    Raises:
        ValueError: there are none.
    """
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme.name} has no {BEGIN.strip()} … {END.strip()}")
    readme.write_text(f"{before}{BEGIN}{text}{END}{after}")
