"""This machine: its free ports, its processes, its connections."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
FIRST_PORT = 10_000
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
OUTGOING_FIRST = 32_768
"""The first port of outgoing connections on Linux, unless the machine says otherwise."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which a server can listen, and listen again after a restart.

    Outgoing connections get their ports from a range above these. So none of them takes the port of
    a server that is away.
    """
    end = int(OUTGOING_PORTS.read_text().split()[0]) if OUTGOING_PORTS.exists() else OUTGOING_FIRST
    candidates = random.SystemRandom().sample(range(FIRST_PORT, max(end, 2 * FIRST_PORT)), 1_000)
    found: list[int] = []
    for port in candidates:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"this machine has fewer than {count} free ports")


def free_port() -> int:
    """A port as `free_ports` gives it."""
    return free_ports(1)[0]


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with warnings.catch_warnings():
            # Tornado leaves a socket that it could not bind to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            yield other.getsockname()[1]
            gc.collect()


def listens(port: int) -> bool:
    """Connect to a port of 127.0.0.1; true when somebody accepts it."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def connections(port: int) -> int:
    """The number of established connections to a port of this machine."""
    with open("/proc/net/tcp") as table:
        fields = [line.split() for line in table][1:]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in fields)


def memory_bytes(pid: int, which: str = "VmRSS") -> int:
    """The resident memory of a process: ``VmRSS`` is that of now, ``VmHWM`` the peak.

    It is 0 when the process has ended.
    """
    return int(_status(pid).get(which, "0").split()[0]) * 1024


def has_pending(pid: int, number: signal.Signals) -> bool:
    """True while a process has been sent a signal and has not received it."""
    return bool(int(_status(pid).get("ShdPnd", "0"), 16) >> (number - 1) & 1)


def _status(pid: int) -> dict[str, str]:
    """What the kernel says of a process; nothing when it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":", 1) for line in lines)
    return {}


def cpu_s(pid: int) -> float:
    """The time that a process has spent on a core, in seconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) * 1e-9


def kill(pid: int) -> None:
    """End a process by force, if it lives."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # A process may end meanwhile.
            state, parent = _fields(stat)[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """True for a process that lives; not for one that has ended and waits for its parent."""
    return state_of(pid) not in ("", "Z")


def state_of(pid: int) -> str:
    """The letter that Linux has for the state of a process; empty when there is none."""
    try:
        return _fields(Path(f"/proc/{pid}/stat"))[0]
    except OSError:
        return ""


def _fields(stat: Path) -> list[str]:
    """The fields behind the program's name, which may have blanks in it."""
    return stat.read_text().rpartition(")")[2].split()
