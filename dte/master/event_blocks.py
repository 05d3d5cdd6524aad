"""Events as blocks of ``text/event-stream``.

A block::

    id: 30000000007
    event: node
    data: {"job_id":7,"node":"a","state":"running","at":"2026-03-01T12:00:00.000000Z"}

Its kind, after ``event:``, is ``job`` for a new state of a job, ``node`` for a new state of a call,
``progress`` for the progress that a handler reports, and ``missed`` for events that are not kept
any more.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from dte.core.jobs.facts import Event
from dte.core.shares import token_of
from dte.wire.codec import encode

TEXT_CHARS_MAX = 2_000
"""A longer text of an event is cut."""
PROGRESS = "progress"

Shown = msgspec.UnsetType | str


class EventShown(msgspec.Struct, omit_defaults=True):
    """The data of an event's block. `state` is the new state, or ``progress``.

    `token` is the name of the token that submitted or cancelled the job.
    """

    job_id: int
    state: str
    at: datetime | None
    node: Shown = msgspec.UNSET
    text: Shown = msgspec.UNSET
    fraction: float | msgspec.UnsetType = msgspec.UNSET
    token: Shown = msgspec.UNSET


def event_block(number: int, event: Event, at: datetime | None) -> bytes:
    """The block of an event.

    Args:
        at: the moment of the event, on the wall's clock.
    """
    shown = EventShown(event.job, event.state, at)
    if event.node:
        shown.node = event.node
    if event.text:
        text = event.text
        shown.text = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
    if event.fraction is not None:
        shown.fraction = event.fraction
    if token := token_of(event.by):
        shown.token = token
    kind = PROGRESS if event.state == PROGRESS else "node" if event.node else "job"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), encode(shown))


def missed_block(number: int, count: int | None) -> bytes:
    """A block for the events up to a number that were missed.

    Args:
        count: the number of these events; None if it is unknown.
    """
    return b"id: %d\nevent: missed\ndata: %s\n\n" % (number, encode({"missed": count}))


def heartbeat(number: int) -> bytes:
    """A comment that keeps a stream open, with the event from which to go on."""
    return b": heartbeat\nid: %d\n\n" % number
