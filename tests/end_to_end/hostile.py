"""A folder whose files have the names of other modules, with handlers of its own."""

from __future__ import annotations

import sys
from pathlib import Path

INSTALLED = ("click", "dotenv", "flint", "msgspec", "packaging", "pebble", "tornado")
HANDLERS = """
import os, queue, subprocess, sys
import dte
import beside

@dte.handler("own.double")
def double(x: int) -> int:
    import later
    queue.SimpleQueue().put(x)
    return beside.DOUBLED * x + later.NOTHING

@dte.handler("own.environment")
def environment() -> list[str]:
    return [name for name in os.environ if name.startswith(("PYTHONSAFE", "DTE_SAVED"))]

@dte.handler("own.first_folder")
def first_folder() -> str:
    command = [sys.executable, "-c", "import sys; print(repr(sys.path[0]))"]
    return subprocess.run(command, capture_output=True, text=True, cwd="/").stdout.strip()
"""


def fill(folder: Path) -> None:
    """Put a file for each module of Python and of dte's requirements into a folder.

    Its own module `mine` has handlers, which import `beside`, and `later` when they are called.
    """
    names = {*sys.stdlib_module_names, *INSTALLED} - {"asyncio", "json"}
    for name in names:
        (folder / f"{name}.py").write_text('raise RuntimeError("imported from here")\n')
    for name in ("asyncio", "json"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text('raise RuntimeError("imported from here")\n')
    (folder / "dte").mkdir()  # As if a checkout were beside them.
    (folder / "dte" / "README.md").write_text("The checkout.\n")
    (folder / "mine.py").write_text(HANDLERS)
    (folder / "beside.py").write_text("DOUBLED = 2\n")
    (folder / "later.py").write_text("NOTHING = 0\n")
