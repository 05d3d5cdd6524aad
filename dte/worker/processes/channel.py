"""The line between a worker and one of its child processes: what they say, and how it is sent.

A message is a list, so that whatever is there to be said goes together: the length of its bytes,
and then these, MessagePack. The worker says `Begin` and `Stop`; the child says that it is there,
with an empty list, and then `Outcome` and `News`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

READ_BYTES = 262_144
LENGTH_BYTES = 8

Said = TypeVar("Said")

_encoder = msgspec.msgpack.Encoder()


class Begin(msgspec.Struct, array_like=True, tag=0):
    """Call a handler.

    Attributes:
        lease: what is said of this call is said under it.
        handler: its name.
        args: the JSON of a list of arguments, or of an object of named ones.
    """

    lease: int
    handler: str
    args: bytes


class Stop(msgspec.Struct, array_like=True, tag=1):
    """Cancel the task of an async call."""

    lease: int


class Outcome(msgspec.Struct, array_like=True, tag=2):
    """What became of a call.

    Attributes:
        result: JSON; None if there is an error.
        error: why there is no result.
        retry: whether trying again can make sense.
        trace: where the error came from, for the log.
    """

    lease: int
    result: bytes | None = None
    error: str | None = None
    retry: bool = True
    trace: str = ""


class News(msgspec.Struct, array_like=True, tag=3):
    """How far a call is: see `dte.wire.messages.calls.Progress`."""

    lease: int
    fraction: float
    text: str


def message(said: Sequence[object]) -> bytes:
    """What is said together, as it is sent."""
    body = _encoder.encode(said)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


class Listener(Generic[Said]):
    """Puts together what comes over a line.

    Args:
        fileno: where it is read.
        kind: the type of what is said, one of them.
    """

    def __init__(self, fileno: int, kind: type[Said]) -> None:
        self._fileno = fileno
        self._decoder = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]
        self._read = bytearray()

    def hear(self) -> list[Said] | None:
        """Read once: what has been said in full since the last time.

        Returns:
            None if nobody is at the other end any more.

        Raises:
            BlockingIOError: there is nothing to read, and the line is not one that waits.
            OSError: the line is broken.
        """
        data = os.read(self._fileno, READ_BYTES)
        if not data:
            return None
        self._read += data
        said: list[Said] = []
        done = 0
        while (end := self._end(done)) <= len(self._read):
            said += self._decoder.decode(memoryview(self._read)[done + LENGTH_BYTES : end])
            done = end
        del self._read[:done]
        return said

    def _end(self, start: int) -> int:
        """Where a message ends that starts there; beyond what there is if that is not known."""
        length = self._read[start : start + LENGTH_BYTES]
        if len(length) < LENGTH_BYTES:
            return len(self._read) + 1
        return start + LENGTH_BYTES + int.from_bytes(length, "little")
