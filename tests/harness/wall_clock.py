"""A wall clock for processes: the machine's, and beside it what a file says."""

from __future__ import annotations

import os
from pathlib import Path

SITE = """\
import time

_time = time.time


def set_time():
    with open({offset!r}) as file:
        return _time() + float(file.read())


time.time = set_time
"""


class WallClock:
    """A clock that can be set, for processes that are started with its settings.

    Attributes:
        settings: environment variables.
    """

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "clock-offset"
        self.set(0.0)
        site = folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE.format(offset=str(self._offset)))
        paths = (str(site), os.environ.get("PYTHONPATH", ""))
        self.settings = {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    def set(self, offset_s: float) -> None:
        """Set it so far ahead of the machine's."""
        # At once or not at all: somebody may be reading it.
        new = self._offset.with_suffix(".new")
        new.write_text(str(offset_s))
        new.replace(self._offset)
