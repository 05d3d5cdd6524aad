"""The messages between a worker and one of its child processes, and their encoding.

A packet is a list of messages in MessagePack, preceded by its length in bytes, so that messages
that are ready together travel together. The worker sends `Begin` and `Stop`. The child sends an
empty list when it is ready, and then `Outcome`, `Worn`, `ProgressUpdate` and `Broken`; or
`NotReady` before it ends.

A child runs code of handlers, which may write anything into the channel. So the worker bounds what
it reads, and takes everything else for the child's end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec

READ_BYTES = 65_536
"""More at once take longer: buffers of 131,072 bytes are mapped and unmapped each time."""
LENGTH_BYTES = 8
MESSAGES_MAX = 1000
PACKET_BYTES_EXTRA = 1_000_000
"""The bytes of a longest packet besides a longest result."""
OUTCOME_BYTES_MAX = 100
"""The longest encoding of an outcome without its result and its texts."""
CHARACTER_BYTES_MAX = 4
ERROR_CHARS_MAX = 2000
TRACE_CHARS_MAX = 8000
PROGRESS_CHARS_MAX = 500

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()


Error = Annotated[str, msgspec.Meta(max_length=ERROR_CHARS_MAX)]
Trace = Annotated[str, msgspec.Meta(max_length=TRACE_CHARS_MAX)]
ProgressText = Annotated[str, msgspec.Meta(max_length=PROGRESS_CHARS_MAX)]
Leases = Annotated[list[int], msgspec.Meta(max_length=MESSAGES_MAX)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Begin(msgspec.Struct, array_like=True, tag=0):
    """Call a handler with the JSON of a list of arguments, or of an object of named ones.

    `kwargs` is the JSON of named ones beside a list; it is empty if there are none.
    """

    lease: int
    handler: str
    args: bytes
    job_id: int = 0
    node: str = ""
    kwargs: bytes = b""


class Stop(msgspec.Struct, array_like=True, tag=1):
    """Cancel the task of an async call."""

    lease: int


class Outcome(msgspec.Struct, array_like=True, tag=2):
    """The outcome of a call: its result as JSON, or the reason of its failure.

    Attributes:
        retry: a retry may help.
        trace: the stack trace of the error.
        worn: the reason why the process takes no more calls, as in "it ran out of memory". The
            child notes it here, and tells the worker by `Worn`.
    """

    lease: int
    result: bytes | None = None
    error: Error | None = None
    retry: bool = True
    trace: Trace = ""
    worn: Error = ""


class ProgressUpdate(msgspec.Struct, array_like=True, tag=3):
    """The progress of a call, see `dte.wire.messages.calls.Progress`."""

    lease: int
    fraction: Fraction
    text: ProgressText


class Broken(msgspec.Struct, array_like=True, tag=4):
    """The child cannot run calls any more; the text continues "the handler's process"."""

    how: Error


class NotReady(msgspec.Struct, array_like=True, tag=5):
    """The reason why a child cannot start."""

    reason: Error
    trace: Trace = ""


class Worn(msgspec.Struct, array_like=True, tag=6):
    """The child begins no more calls, because one that ended has changed its state.

    It is looked at after the outcome is sent, so the worker may have sent the next order already.

    Attributes:
        running: the leases of the calls that have begun and not ended.
    """

    reason: Error
    running: Leases = []


def packet(messages: Sequence[object]) -> bytearray:
    """Encode messages as one packet."""
    encoded = bytearray(LENGTH_BYTES)
    _encoder.encode_into(messages, encoded, LENGTH_BYTES)
    encoded[:LENGTH_BYTES] = (len(encoded) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "little")
    return encoded


def packets(outcomes: Sequence[Outcome]) -> Iterator[bytearray]:
    """Encode outcomes as packets, none of which is too long for the worker."""
    group: list[Outcome] = []
    room = PACKET_BYTES_EXTRA
    for each in outcomes:
        texts = len(each.error or "") + len(each.trace) + len(each.worn)
        size = OUTCOME_BYTES_MAX + len(each.result or b"") + CHARACTER_BYTES_MAX * texts
        if group and (size > room or len(group) == MESSAGES_MAX):
            yield packet(group)
            group, room = [], PACKET_BYTES_EXTRA
        group.append(each)
        room -= size
    yield packet(group)


class Receiver(Generic[M]):
    """Receives messages of a type, which is a union, from the descriptor of a channel.

    Args:
        packet_bytes_max: the longest packet; None for no bound.

    Attributes:
        received: the number of bytes so far.
        is_broken: something else than messages has arrived, or a packet that is too long.
    """

    def __init__(self, fileno: int, kind: type[M], packet_bytes_max: int | None = None) -> None:
        self._fileno = fileno
        several: Any = Annotated[list[kind], msgspec.Meta(max_length=MESSAGES_MAX)]  # type: ignore[valid-type]
        self._decoder: msgspec.msgpack.Decoder[list[M]] = msgspec.msgpack.Decoder(several)
        self._packet_bytes_max = packet_bytes_max
        self._buffer = bytearray()
        self.is_broken = False
        self.received = 0

    @property
    def is_amid(self) -> bool:
        """True if a packet has begun and is not complete."""
        return bool(self._buffer)

    def receive(self) -> list[M] | None:
        """Read once, and return the messages of all packets that are complete.

        Returns:
            None if the other end is closed.
        """
        data = os.read(self._fileno, READ_BYTES)
        if not data:
            return None
        self._buffer += data
        self.received += len(data)
        messages: list[M] = []
        done = 0
        try:
            while (end := self._packet_end(done)) <= len(self._buffer):
                messages += self._decoder.decode(
                    memoryview(self._buffer)[done + LENGTH_BYTES : end]
                )
                done = end
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.is_broken = True
            return messages
        del self._buffer[:done]
        return messages

    def _packet_end(self, start: int) -> int:
        """Return the end of the packet at `start`, beyond the buffer if that is incomplete."""
        head = self._buffer[start : start + LENGTH_BYTES]
        if len(head) < LENGTH_BYTES:
            return len(self._buffer) + 1
        length = int.from_bytes(head, "little")
        if self._packet_bytes_max is not None and length > self._packet_bytes_max:
            raise ValueError(f"a packet of {length} bytes")
        return start + LENGTH_BYTES + length
