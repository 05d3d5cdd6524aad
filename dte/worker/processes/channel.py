"""The messages between a worker and one of its child processes, and their encoding.

A packet is a list of messages in MessagePack, preceded by its length in bytes, so that messages
that are ready together travel together. The worker sends `Begin` and `Stop`. The child sends an
empty list when it is ready, and then `Outcome` and `ProgressUpdate`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

READ_BYTES = 262_144
LENGTH_BYTES = 8

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()


class Begin(msgspec.Struct, array_like=True, tag=0):
    """Call a handler with the JSON of a list of arguments, or of an object of named ones."""

    lease: int
    handler: str
    args: bytes


class Stop(msgspec.Struct, array_like=True, tag=1):
    """Cancel the task of an async call."""

    lease: int


class Outcome(msgspec.Struct, array_like=True, tag=2):
    """The outcome of a call: its result as JSON, or the reason of its failure.

    Attributes:
        retry: a retry may help.
        trace: the stack trace of the error, for the log.
    """

    lease: int
    result: bytes | None = None
    error: str | None = None
    retry: bool = True
    trace: str = ""


class ProgressUpdate(msgspec.Struct, array_like=True, tag=3):
    """The progress of a call, see `dte.wire.messages.calls.Progress`."""

    lease: int
    fraction: float
    text: str


def packet(messages: Sequence[object]) -> bytes:
    """Encode messages as one packet."""
    body = _encoder.encode(messages)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


class Receiver(Generic[M]):
    """Receives messages of a type, which is a union, from the descriptor of a channel."""

    def __init__(self, fileno: int, kind: type[M]) -> None:
        self._fileno = fileno
        self._decoder = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]
        self._buffer = bytearray()

    def receive(self) -> list[M] | None:
        """Read once, and return the messages of all packets that are complete.

        Returns:
            None if the other end is closed.
        """
        data = os.read(self._fileno, READ_BYTES)
        if not data:
            return None
        self._buffer += data
        messages: list[M] = []
        done = 0
        while (end := self._packet_end(done)) <= len(self._buffer):
            messages += self._decoder.decode(memoryview(self._buffer)[done + LENGTH_BYTES : end])
            done = end
        del self._buffer[:done]
        return messages

    def _packet_end(self, start: int) -> int:
        """Return the end of the packet at `start`, beyond the buffer if that is incomplete."""
        length = self._buffer[start : start + LENGTH_BYTES]
        if len(length) < LENGTH_BYTES:
            return len(self._buffer) + 1
        return start + LENGTH_BYTES + int.from_bytes(length, "little")
