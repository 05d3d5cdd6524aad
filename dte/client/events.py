"""Events of a master: ``text/event-stream``, read in pieces and resumed after any event.

The shells share a `Subscription`: they send its attempts to the master and feed it the replies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from dte.client.errors import MasterFault, TlsFailed, Unreachable
from dte.client.exchange import LASTING, Attempt, NoReply, Response, advised, error_of, is_gone
from dte.client.job import TERMINAL
from dte.client.patience import HELD_S, SILENCE_S, Contact, Patience
from dte.core.errors import Unavailable
from dte.wire.codec import Decoder, Malformed
from dte.wire.current_call import call_header

LINE_BYTES_MAX = 1_000_000
NO_CONTENT = 204


class Event(msgspec.Struct, frozen=True):
    """An event in the life of a job.

    Attributes:
        id: the number of the event; later events have higher numbers.
        kind: ``job``: a job has a new state; ``node``: a call has a new state; ``progress``: a
            handler reports its progress; ``missed``: the master no longer has some events.
        job_id: the id of the job; 0 for missed events.
        state: the new state, or ``progress``.
        at: the time, by the master's clock.
        node: the name of the call.
        text: the reason of a failure, or the text of the progress.
        fraction: the progress of the handler, from 0 to 1, or of the job.
        missed: the number of missed events; None if it is unknown.
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
    """Reads events from the pieces of a stream. A new stream continues after `last_id`."""

    def __init__(self, last_id: int | None = None) -> None:
        self.last_id = last_id
        self._decoder: Decoder[Event] = Decoder(Event)
        self._rest = b""
        self._id = last_id
        self._kind = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            raise MasterFault("not a stream of events of a dte master: its line is too long")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line:
                self._field(line)
                continue
            self.last_id = self._id  # Only now, because an incomplete event comes again.
            if self._data:
                yield self._event()

    def cut(self) -> None:
        """Forget the incomplete event of a stream that was cut; it comes again."""
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
    """The events of all jobs or of one job, over any number of connections.

    Args:
        job: the id of a job; None for all jobs.
        after: the id of the event to continue after.

    Attributes:
        over: no more events will come.
        pause_s: the pause before the next attempt.
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
        self._shown: Mapping[str, str] = {}

    def _new_patience(self) -> Patience:
        return Patience(self._contact, float("inf"))

    def attempt(self) -> Attempt:
        """Return the next attempt. A healthy master is never silent for its timeout."""
        headers = {"Accept": "text/event-stream"}
        if self._job is not None:
            headers |= call_header()
        if self._reader.last_id is not None:
            headers["Last-Event-ID"] = str(self._reader.last_id)
        self._asked_at = time.monotonic()
        self._shown = self._contact.shown()
        return Attempt("GET", self._path, b"", headers, SILENCE_S, self.pause_s)

    def is_stream(self, status: int, content_type: str) -> bool:
        """Return True if the reply is a stream of events; pass any other reply to `refused`."""
        self._contact.answered = True
        return status == 200 and content_type.startswith("text/event-stream")

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that this piece completes."""
        if time.monotonic() - self._asked_at > HELD_S:
            self._patience = self._new_patience()
        self.pause_s = 0.0
        for event in self._reader.feed(piece):
            self._patience = self._new_patience()
            if self._job is not None and event.kind == "job" and event.state in TERMINAL:
                self.over = True
            yield event

    def refused(self, response: Response) -> None:
        """Handle a reply that is not a stream: raise its error unless a retry may help."""
        if response.status == NO_CONTENT:
            self.over = True
            return
        if response.is_good:
            raise MasterFault("not a stream of events of a dte master")
        error = error_of(response)
        if is_gone(response.status, error):
            self._again(NoReply(f"no reply from a master: {error}", sent=True))
            return
        if self._contact.may_ask_again(error, self._shown):
            self.pause_s = 0.0
            return
        if not isinstance(error, Unavailable) or isinstance(error, LASTING):
            raise advised(error, self._contact.access)
        self._again(error)

    def lost(self, failure: NoReply) -> None:
        """Handle a missing reply or a cut stream: raise an error if it is time to give up."""
        self._reader.cut()
        if not self.over:
            self._again(failure)

    def _again(self, failure: NoReply | Unavailable) -> None:
        pause_s = self._patience.pause_s(failure, time.monotonic(), 0.0)
        if pause_s is not None:
            self.pause_s = pause_s
        elif isinstance(failure, Unavailable):
            raise failure
        elif failure.insecure:
            raise TlsFailed(str(failure))
        else:
            raise Unreachable(str(failure))
