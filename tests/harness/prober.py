"""Asks a master for its health 50 times a second, from a process of its own.

    python -m harness.prober PORT

It asks until its stdin ends. Then it prints JSON: the milliseconds of each good reply, and the
number of other outcomes by name. `probed` runs it beside a ``with`` block.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.http import content_length
from harness.processes import TESTS, environment

HOST = "127.0.0.1"
INTERVAL_S = 0.02
TIMEOUT_S = 20.0
REQUEST = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Prober:
    """Asks at fixed moments, in turns on a new connection and on one that was kept.

    It does not wait for one answer to ask again: a master that stops for a second is late with all
    the questions of that second, and so it is counted.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept: list[Connection] = []
        self.answered_ms: list[float] = []
        self.others: Counter[str] = Counter()

    async def run(self, over: asyncio.Event) -> None:
        """Ask until it is over, and take the answers to what has been asked."""
        questions: list[asyncio.Task[None]] = []
        due = time.monotonic()
        while not over.is_set():
            questions.append(asyncio.create_task(self._ask(anew=len(questions) % 2 == 0)))
            due += INTERVAL_S
            await asyncio.sleep(due - time.monotonic())
        await asyncio.gather(*questions)
        for _, writer in self._kept:
            writer.close()

    async def _ask(self, anew: bool) -> None:
        asked = time.monotonic()
        status = "no answer"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await self._connected(anew)
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                status = head[9:12].decode()
                await reader.readexactly(content_length(head))
        except (OSError, asyncio.IncompleteReadError) as error:
            status = type(error).__name__
        if status == "200":
            self.answered_ms.append((time.monotonic() - asked) * 1e3)
            self._kept.append((reader, writer))
        else:
            self.others[status] += 1

    async def _connected(self, anew: bool) -> Connection:
        if self._kept and not anew:
            return self._kept.pop()
        if self._kept:
            self._kept.pop()[1].close()
        return await asyncio.open_connection(HOST, self._port)


@dataclass
class Health:
    """The replies of /health.

    Attributes:
        answered_ms: the times of the good ones, in order of size.
        others: the number of other outcomes, by status or exception.
    """

    answered_ms: list[float] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    def within_ms(self, share: float) -> float:
        """The time within which that share of the good replies came; 0 if there was none."""
        return within(self.answered_ms, share)


def within(ordered: list[float], share: float) -> float:
    """The value that this share of ordered values does not exceed; 0 if there is none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@contextmanager
def probed(port: int) -> Iterator[Health]:
    """Ask for /health while a ``with`` block goes on; the figures are there when it has ended."""
    health = Health()
    prober = subprocess.Popen(
        [sys.executable, "-m", "harness.prober", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=str(TESTS)),
    )
    try:
        yield health
    finally:
        said, _ = prober.communicate()
    found = json.loads(said)
    health.answered_ms, health.others = sorted(found["answered_ms"]), found["others"]


async def main() -> None:
    prober = Prober(int(sys.argv[1]))
    over = asyncio.Event()
    # Its end is the only thing that comes from there.
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    await prober.run(over)
    json.dump({"answered_ms": prober.answered_ms, "others": prober.others}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
