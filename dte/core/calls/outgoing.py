"""Bounds the arguments on their way to workers that are called.

A request with the arguments of a call is in memory until its worker has received it. A result of
many megabytes may be an argument of hundreds of calls, and a worker may receive slowly, or never.
So workers get no more calls while too many bytes are on their way. The last part of what all share
is for calls whose arguments are not long: long ones never hold up the others at another worker.
"""

from __future__ import annotations

from collections import Counter

from dte.core.calls.lease import CallLease
from dte.core.workers.worker import HTTPS, Delivery, Worker

BYTES_MAX = 256_000_000
HOST_BYTES_MAX = BYTES_MAX // 2
"""One host leaves the others as much."""
WORKER_BYTES_MAX = 32_000_000
"""Two of the longest requests: a stopped worker does not hold up the others on its host."""
LONG_PART = 0.75
"""The part of the first two bounds that long arguments may fill."""
SMALL_BYTES = 1_000
"""Shorter arguments are not counted; the slots of a worker bound their number."""


class Outgoing:
    """Counts the bytes of arguments that workers have not received yet.

    No call is cut: each count may exceed its bound by the arguments of one call.

    Attributes:
        bytes: those to all workers.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._of_hosts: Counter[str] = Counter()
        self._of_workers: Counter[str] = Counter()

    def has_room(self, worker: Worker, is_long: bool = False) -> bool:
        """True if a worker may get another call, or another with long arguments."""
        if self.bytes < WORKER_BYTES_MAX or worker.announcement.delivery is not Delivery.PUSH:
            return True
        address = worker.announcement.address
        part = LONG_PART if is_long else 1.0
        return (
            self.bytes < part * BYTES_MAX
            and self._of_hosts[_host(address)] < part * HOST_BYTES_MAX
            and self._of_workers[address] < WORKER_BYTES_MAX
        )

    def add(self, lease: CallLease) -> None:
        """Count the arguments of a call that is being handed over."""
        worker, call = lease.worker, lease.call
        if worker is None or worker.announcement.delivery is not Delivery.PUSH:
            return
        size = call.filled_size()
        if size > SMALL_BYTES:
            lease.unsent, lease.address = size, worker.announcement.address
            self._count(lease.address, size)

    def sent(self, lease: CallLease) -> None:
        """Stop counting the arguments of a call: its worker has them, or does not get them."""
        size, lease.unsent = lease.unsent, 0
        if size:
            self._count(lease.address, -size)

    def _count(self, address: str, size: int) -> None:
        self.bytes += size
        for counted, key in ((self._of_hosts, _host(address)), (self._of_workers, address)):
            counted[key] += size
            if not counted[key]:
                del counted[key]


def _host(address: str) -> str:
    return address.removeprefix(HTTPS).rpartition(":")[0]
