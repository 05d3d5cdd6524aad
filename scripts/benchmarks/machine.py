"""The circumstances of a measurement: machine, versions, date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from peers import Peer, version

from dte import __version__


class Circumstances(msgspec.Struct, frozen=True):
    """The circumstances on which figures depend.

    Attributes:
        machine: its cores, processor and kernel.
        versions: of all systems, by their names.
        date: when, in UTC.
    """

    machine: str
    versions: dict[str, str]
    date: str

    @property
    def text(self) -> str:
        """All of it in a line."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{versions}; {self.machine}; {self.date}"


def circumstances(peers: list[Peer]) -> Circumstances:
    """Those of now; of `peers`, the versions of those that can be run."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    versions = {"dte": __version__, platform.python_implementation(): platform.python_version()}
    for distribution in ("tornado", "msgspec"):
        versions[distribution] = version(distribution)
    for peer in peers:
        if not peer.missing:
            versions[peer.name] = version(peer.distribution)
    if "Celery" in versions:
        versions["Redis"] = redis_version()
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Circumstances(f"{cores} cores, {processor()}, {system}", versions, date)


def processor() -> str:
    """The processor's name, if the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")


def redis_version() -> str:
    """That of the program redis-server."""
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.partition("v=")[2].split()[0]
