"""Services as a service manager stops them: with signals to each of their processes."""

from __future__ import annotations

import os
import shlex
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.machine import children, kill
from harness.processes import Process


def read_unit(path: Path) -> dict[str, list[str]]:
    """The settings of a unit of systemd, each with all of its values."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def unit_environment(unit: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The environment variables that a unit sets."""
    pairs = [pair for line in unit["Environment"] for pair in shlex.split(line)]
    return dict(pair.split("=", 1) for pair in pairs)


def family(pid: int) -> Iterator[int]:
    """A process and all that it has started, down to the last; their control group."""
    yield pid
    for child in children(pid):
        yield from family(child)


def signal_all(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all that it has started, as KillMode=control-group does."""
    for each in list(family(pid)):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def stop(service: Process, kill_mode: str, timeout_s: float) -> int:
    """Stop a service as systemd does: SIGTERM, SIGCONT, and SIGKILL for what is left.

    Returns:
        The exit code of its main process.
    """
    members = list(family(service.pid))
    if kill_mode == "control-group":
        signal_all(service.pid, signal.SIGTERM)
        signal_all(service.pid, signal.SIGCONT)
    else:
        assert kill_mode == "mixed", kill_mode
        service.send(signal.SIGTERM)
        service.send(signal.SIGCONT)
    code = service.exit_code(timeout_s)
    for pid in members:
        kill(pid)
    return code
