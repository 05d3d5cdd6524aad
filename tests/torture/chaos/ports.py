"""Ports for servers that are killed and start again at the same one."""

from __future__ import annotations

import socket
from pathlib import Path
from random import SystemRandom

FIRST = 10_000
OUTGOING_FIRST = 32_768
"""Where the ports of outgoing connections begin on Linux, unless the machine says otherwise."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now, nor gets by chance later.

    They lie below those that the system takes for outgoing connections, as one of these might have
    taken the port of a server between its end and its next start.
    """
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(range_file.read_text().split()[0]) if range_file.exists() else OUTGOING_FIRST
    candidates = SystemRandom().sample(range(FIRST, max(end, FIRST + 10_000)), 1_000)
    found: list[int] = []
    for port in candidates:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"there are no {count} free ports")
