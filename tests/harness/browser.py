"""Chromium without a window."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness.skips import missing

TIMEOUT_S = 120
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--disable-default-apps"),
)


class Browser:
    """A browser with a profile of its own, that reaches this machine alone.

    Args:
        names: names of hosts, which lead to 127.0.0.1.
    """

    def __init__(self, profile: Path, names: tuple[str, ...] = ()) -> None:
        program = shutil.which("chromium")
        if program is None:
            missing("Chromium is not installed")
        known = [f"MAP {name} 127.0.0.1" for name in names]
        hosts = ("127.0.0.1", "127.0.0.2", "localhost")
        rules = [*known, "MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in hosts)]
        self._command = [
            program,
            *OPTIONS,
            f"--host-resolver-rules={', '.join(rules)}",
            f"--user-data-dir={profile}",
        ]

    def show(self, url: str, budget_ms: int = 10_000) -> str:
        """Open a page, let its scripts run, and return its elements as HTML."""
        return self._run(f"--virtual-time-budget={budget_ms}", "--dump-dom", url)

    def photograph(self, url: str, file: Path, size: str = "1280,800", *options: str) -> None:
        """Save a picture of a page."""
        self._run(f"--screenshot={file}", f"--window-size={size}", *options, url)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return done.stdout
