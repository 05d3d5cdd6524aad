"""Messages for workers and their arithmetic.

A worker announces itself by ``POST /worker`` with an `Announce`, or with its name alone.

The master hands over operations by ``POST /compute``: a `Single` to a worker that takes one
operation per request, a `Batch` to a worker that announced more. A batch has its operations in
columns, which makes encoding and decoding cheap; `operations` has a symbol for each, ``"+*/-"``.
"""

from __future__ import annotations

import msgspec

from dte.core.graph.numbers import Number
from dte.wire.messages.handlers import Handlers


class Announce(msgspec.Struct, omit_defaults=True):
    """A worker's announcement.

    Attributes:
        worker_name: the worker's name; it need not be unique.
        port: the port on which the worker listens, at the address of this request.
        slots: the number of requests that it takes at once.
        batch_max: the number of operations that it takes in one request.
        incarnation: a text that differs for each start of the worker.
        draining: the worker is leaving and takes no more work.
        handlers: its handlers: names, or a `HandlerInfo` for each name.
        handler_slots: the number of calls that it takes at once; 0 for the value of `slots`.
        arithmetic: the worker does the four operations.
        failing: the reason why it cannot start processes for handlers, and gets no calls.
        replaced: the built-in handlers that its own ones of the same names replace. It runs them
            under their names with the prefix ``builtin:``.
        kwargs: it takes calls with arguments by position and by name.
        tls: the worker speaks TLS on its port.
        secret: the text that the master must show to give it work. Such a worker has a session.
    """

    worker_name: str
    port: int = 6000
    slots: int = 1
    batch_max: int = 1
    incarnation: str = ""
    draining: bool = False
    handlers: Handlers = {}
    handler_slots: int = 0
    arithmetic: bool = True
    failing: str | None = None
    replaced: Handlers = {}
    kwargs: bool = False
    tls: bool = False
    secret: str = ""

    def __repr__(self) -> str:
        return f"Announce({self.worker_name!r}, port={self.port})"  # Without the secret.


class Hello(msgspec.Struct):
    """The body of ``POST /hello`` to a worker, before anything else on a connection.

    Attributes:
        challenge: a text that is new each time.
    """

    challenge: str


class HelloReply(msgspec.Struct):
    """The reply to a `Hello`.

    Attributes:
        proof: HMAC-SHA256 of the challenge with the worker's secret as the key, in hexadecimal.
    """

    proof: str


class Single(msgspec.Struct):
    """One operation: ``sum``, ``sub``, ``mul`` or ``div`` of two operands."""

    operation: str
    op1: Number
    op2: Number


class SingleResult(msgspec.Struct):
    """The reply to a `Single`. Some workers echo the operation as well."""

    result: Number


class Refusal(msgspec.Struct):
    """A reply with an error status. With `error`, the operation itself failed for that reason."""

    error: str


class Batch(msgspec.Struct):
    """Operations under one lease, in columns. The results carry the number of the lease too."""

    lease: int
    operations: str
    op1: list[Number]
    op2: list[Number]


class BatchResult(msgspec.Struct, omit_defaults=True):
    """The reply to a `Batch`.

    Attributes:
        results: a number for each operation; 0 for a failed one.
        errors: the reasons of failures, by position in the batch.
        took_s: the computing time in seconds, by which the master sizes later batches. Without it
            the master measures the whole request, with transfer and its own delays.
    """

    lease: int
    results: list[Number]
    errors: dict[int, str] = {}
    took_s: float | None = None
