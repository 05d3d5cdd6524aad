"""Shows what was measured: as a table, as JSON, and in docs/benchmarks.md."""

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
    """Everything as Markdown, for a document beside the plot."""
    lines = [
        f"{COMMAND} These are from: {circumstances.text}.",
        "",
        "![Operations a second, latency and growth](bench.png)",
        "",
        "| workload | figure | aim |",
        "|---|---|---|",
    ]
    for row in filter(says_more, rows):
        # Blanks at the beginning of a cell are not shown.
        label = "… " + row.label.strip() if row.label.startswith(" ") else row.label
        lines.append(f"| {label} | {row.text} | {row.aim} |")
    return "\n".join(lines) + "\n"


def says_more(row: Row) -> bool:
    """Tell whether a row adds to those above it, which already show a cost that does not grow."""
    return row.unit != "% more" or (row.value or 0.0) > 0


def write_into(document: Path, text: str) -> None:
    """Put the text between the two comments that mark its place.

    Raises:
        ValueError: there are none.
    """
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document.name} has no {BEGIN.strip()} … {END.strip()}")
    document.write_text(f"{before}{BEGIN}{text}{END}{after}")
