"""What master and workers say to each other over HTTP.

A worker announces itself: ``POST /worker`` with an `Announce`, or with its name alone.

The master hands over: ``POST /compute`` with a `Single` to a worker that takes one operation a
request, with a `Batch` to one that announced more. In a batch the operations are columns, so that
encoding and decoding cost little an operation: `operations` has a symbol for each, ``"+*/-"``.
"""

from __future__ import annotations

import msgspec

from dte.core.graph.numbers import Number
from dte.wire.messages.handlers import Handlers


class Announce(msgspec.Struct, omit_defaults=True):
    """A worker's announcement.

    Attributes:
        worker_name: need not be unique.
        port: where it listens, on the address that it announces itself from.
        slots: how many requests it takes at a time.
        batch_max: how many operations it takes in a request.
        incarnation: differs for each start of the worker.
        draining: it wants no more operations.
        handlers: what it can call: names, or for each name a `HandlerInfo`.
        handler_slots: how many calls it takes at a time; 0 for as many as `slots`.
        arithmetic: whether it does the four operations.
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


class Single(msgspec.Struct):
    """One operation: ``sum``, ``sub``, ``mul`` or ``div`` of two operands."""

    operation: str
    op1: Number
    op2: Number


class SingleResult(msgspec.Struct):
    """A worker's reply to a `Single`; the seed's worker echoes the rest as well."""

    result: Number


class Refusal(msgspec.Struct):
    """A reply with an error status: why the operation failed, if that is what happened."""

    error: str


class Batch(msgspec.Struct):
    """Operations under one lease, as columns.

    Attributes:
        lease: the lease's number, given back with the results.
        operations: a symbol for each operation.
        op1: their first operands.
        op2: their second operands.
    """

    lease: int
    operations: str
    op1: list[Number]
    op2: list[Number]


class BatchResult(msgspec.Struct, omit_defaults=True):
    """A worker's reply to a `Batch`.

    Attributes:
        lease: the batch's lease.
        results: a number for each operation; 0 where it failed.
        errors: why operations failed, by their place in the batch.
        took_s: how long the worker took, so that the master knows how much it may hand over; else
            it counts the way there and back, and what kept itself from reading the reply.
    """

    lease: int
    results: list[Number]
    errors: dict[int, str] = {}
    took_s: float | None = None
