"""Writes the table of routes by roles into docs/security.md, from the table of routes."""

from __future__ import annotations

import sys
from pathlib import Path

from dte.master.access.tokens import Role
from dte.master.api.routes import ROUTES

PAGE = Path(__file__).parent.parent / "docs" / "security.md"
BEGIN, END = "<!-- roles -->\n", "<!-- /roles -->\n"


def table() -> str:
    """The table in Markdown: a row for each method of a route, a column for each role."""
    lines = [f"| | none | {' | '.join(Role)} |", "|---|---|" + "---|" * len(Role)]
    shown = {route.path for route in ROUTES}
    for route in ROUTES:
        if route.path.removeprefix("/scheduler") in shown - {route.path}:
            continue
        for method, roles in route.may.items():
            cells = [not roles, *(not roles or role in roles for role in Role)]
            marks = " | ".join("✓" if cell else "" for cell in cells)
            lines.append(f"| `{method.upper()} {route.shown_path}` | {marks} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/security.md with the table as it is now."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    sys.stdout.write(page())
