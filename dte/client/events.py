"""Events of a master, as they come: ``text/event-stream`` read in pieces, from any of them on.

A `Subscription` is what the shells share: they carry its attempts to the master and give it what
comes back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import msgspec

from dte.client.errors import MasterFault, Unreachable
from dte.client.exchange import Attempt, NoReply, Response, error_of
from dte.client.job import TERMINAL
from dte.client.patience import HELD_S, SILENCE_S, Contact, Patience
from dte.core.errors import DteError, StorageFull, Unavailable
from dte.wire.codec import Decoder, Malformed

LINE_BYTES_MAX = 1_000_000
NO_CONTENT = 204


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a job.

    Attributes:
        id: its number; later events have higher ones.
        kind: ``job``: a job has a new state; ``node``: a call of it has one; ``progress``: its
            handler says how far it is; ``missed``: events were missed that the master does not
            keep any more.
        job_id: the job's number; 0 if they were missed.
        state: the new state, or ``progress``.
        at: when, by the master's clock.
        node: the call's name.
        text: why it failed, or what the handler says.
        fraction: how far the handler is, from 0 to 1; or how much of a job is done.
        missed: how many events were missed; None if nobody knows.
    """

    id: int = 0
    kind: str = "job"
    job_id: int = 0
    state: str = ""
    at: datetime | None = None
    node: str = ""
    text: str = ""
    fraction: float | None = None
    missed: int | None = None


class EventReader:
    """Reads events out of a stream, of which it is fed pieces.

    Attributes:
        last_id: from where to go on.
    """

    def __init__(self, last_id: int | None = None) -> None:
        self.last_id = last_id
        self._decoder: Decoder[Event] = Decoder(Event)
        self._rest = b""
        self._id = last_id
        self._kind = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that are whole with this piece of the stream.

        Raises:
            MasterFault: no master's stream is so.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            raise MasterFault("not a stream of events of a dte master: its line never ends")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line:
                self._field(line)
                continue
            self.last_id = self._id  # Only now: what was begun may be cut.
            if self._data:
                yield self._event()

    def cut(self) -> None:
        """The stream was cut: what was begun comes again."""
        self._rest, self._kind, self._data, self._id = b"", "", [], self.last_id

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"id" and value.isdigit() and len(value) <= 18:
            self._id = int(value)
        elif name == b"event":
            self._kind = value.decode(errors="replace")
        elif name == b"data":
            self._data.append(value)

    def _event(self) -> Event:
        kind, data = self._kind or "job", b"\n".join(self._data)
        self._kind, self._data = "", []
        try:
            event = self._decoder.decode(data)
        except Malformed as error:
            raise MasterFault(f"not an event of a dte master: {error}") from None
        return msgspec.structs.replace(event, id=self.last_id or 0, kind=kind)


class Subscription:
    """The events of all jobs, or of one, over as many connections as it takes.

    Args:
        job: the number of a job; None for all.
        contact: the client's standing with the master.
        after: the number of an event, to go on after it.

    Attributes:
        over: whether that was all.
        pause_s: the time before the next attempt.
    """

    def __init__(self, job: int | None, contact: Contact, after: int | None = None) -> None:
        self.over = False
        self.pause_s = 0.0
        self._path = "/events" if job is None else f"/job/{job}/events"
        self._job = job
        self._contact = contact
        self._reader = EventReader(after)
        self._patience = self._new_patience()
        self._asked_at = 0.0

    def _new_patience(self) -> Patience:
        return Patience(self._contact, float("inf"))

    def attempt(self) -> Attempt:
        """What to send; the master is silent for less than its timeout while all is well."""
        headers = {"Accept": "text/event-stream"}
        if self._reader.last_id is not None:
            headers["Last-Event-ID"] = str(self._reader.last_id)
        self._asked_at = time.monotonic()
        return Attempt("GET", self._path, b"", headers, SILENCE_S, self.pause_s)

    def is_stream(self, status: int, content_type: str) -> bool:
        """Whether the reply is a stream of events; else it is to be given to `refused`."""
        self._contact.answered = True
        return status == 200 and content_type.startswith("text/event-stream")

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that are whole with this piece of the stream."""
        if time.monotonic() - self._asked_at > HELD_S:
            self._patience = self._new_patience()
        self.pause_s = 0.0
        for event in self._reader.feed(piece):
            self._patience = self._new_patience()
            if self._job is not None and event.kind == "job" and event.state in TERMINAL:
                self.over = True
            yield event

    def refused(self, response: Response) -> None:
        """There is a reply, but no stream.

        Raises:
            DteError: what the master says is wrong.
        """
        self._contact.answered = True
        if response.status == NO_CONTENT:
            self.over = True
            return
        if response.is_good:
            raise MasterFault("not a stream of events of a dte master")
        error = error_of(response)
        if not isinstance(error, Unavailable) or isinstance(error, StorageFull):
            raise error
        self._again(error)

    def lost(self, failure: NoReply) -> None:
        """No reply came, or the stream was cut.

        Raises:
            Unreachable: the master has been away for as long as it is worth to be tried.
        """
        self._reader.cut()
        if not self.over:
            self._again(failure)

    def _again(self, failure: NoReply | Unavailable) -> None:
        pause_s = self._patience.pause_s(failure, time.monotonic(), 0.0)
        if pause_s is None:
            error: DteError = (
                failure if isinstance(failure, Unavailable) else Unreachable(str(failure))
            )
            raise error
        self.pause_s = pause_s
