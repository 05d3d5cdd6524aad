"""Gives free memory back to the system, which the C library would keep.

It keeps free memory as long as something small behind it is in use: after 80 jobs of 15 MB, one
after another, the master had 2 GB and used 0.25 GB.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress

LOOK_S = 3.0
"""Time between looks whether there may be much free memory."""
EVERY_S = 60.0
"""Time after which free memory is given back in any case."""
MUCH_BYTES = 4_000_000
"""Jobs of so many bytes have ended, or the process has grown so much."""
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""The options of `mallopt` in ``malloc.h``."""
LARGE_BLOCK_BYTES = 1 << 20
KEPT_BYTES = 1 << 25
"""Free memory at the end of the heap that the C library keeps for the next blocks."""


class Heap:
    """Has the C library give free memory back, in a thread: that takes longer the more there is.

    Args:
        ended_bytes: gives the bytes of all jobs that have ended so far.
    """

    def __init__(self, ended_bytes: Callable[[], int]) -> None:
        self._ended_bytes = ended_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._ended_then = 0
        self._resident_then = 0
        self._latest_s = 0.0
        self._trimming = False

    def start(self) -> None:
        """Look again and again until `stop`."""
        if _malloc_trim is not None:
            self._resident_then = resident_bytes()
            self._look_later()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._look_later()
        loop, ended = asyncio.get_running_loop(), self._ended_bytes()
        more = max(ended - self._ended_then, resident_bytes() - self._resident_then)
        if not self._trimming and (more > MUCH_BYTES or loop.time() >= self._latest_s):
            self._ended_then = ended
            self._latest_s = loop.time() + EVERY_S
            self._trimming = True
            loop.run_in_executor(None, self._trim)

    def _trim(self) -> None:
        assert _malloc_trim is not None
        _malloc_trim(0)
        self._resident_then = resident_bytes()
        self._trimming = False


def resident_bytes() -> int:
    """Return the memory of this process; 0 where the system does not say it."""
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def give_large_blocks_back() -> None:
    """Have the C library return large blocks to the system as soon as they are free.

    By default it soon keeps blocks of up to 32 MB, and small ones come to lie between them.
    """
    if _mallopt is not None:
        _mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the GNU C library; None if this process has another library."""
    with suppress(OSError, AttributeError, ValueError):
        if os.confstr("CS_GNU_LIBC_VERSION"):
            function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
            return function
    return None


_malloc_trim = _of_glibc("malloc_trim")
_mallopt = _of_glibc("mallopt")
