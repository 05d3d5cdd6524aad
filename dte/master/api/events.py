"""Streams of events, for a browser's ``EventSource`` and for ``curl -N``.

`dte.master.event_blocks` defines the blocks of a stream.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from tornado.iostream import StreamClosedError

from dte.core.errors import InvalidRequest
from dte.core.jobs.facts import Event
from dte.core.jobs.job import Job, JobState
from dte.master.api.job_handler import NUMBER, JobHandler
from dte.master.api.openapi import EVENTS, documented
from dte.master.events import Listener

RETRY_MS = 1_000
"""A browser reconnects after this time."""
LAST_EVENT_ID = Annotated[
    str, Meta(description="the event to continue after", pattern=f"^{NUMBER.pattern}$")
]


class EventsHandler(JobHandler):
    """Base of the routes that stream events."""

    def last_event_id(self) -> int | None:
        """The number of the event to continue after; None for a new stream.

        Raises:
            InvalidRequest: it is not a number.
        """
        text = self.request.headers.get("Last-Event-ID", "").strip()
        # A client that cannot set headers uses the query.
        asked = self.get_query_argument("last_event_id", text or None)
        text = text or asked or ""
        if asked is not None and not NUMBER.fullmatch(text):
            raise InvalidRequest("Last-Event-ID must be the id of an event, a number")
        return int(text) if text else None

    async def stream(self, listener: Listener, first: bytes = b"", last: bool = False) -> None:
        """Stream a listener's events until its job, the client or the master ends.

        A slow client misses events: nothing more is taken until the client has read.

        Args:
            first: blocks to send before the listener's.
            last: end the stream after the events that are ready now.
        """
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")  # Or nginx collects events for a while.
        self.gone.add_done_callback(lambda gone: listener.leave())
        try:
            if self.request.method == "HEAD":
                await self.flush()  # A stream has no length.
                return
            self.write(b"retry: %d\nid: %d\n\n%s" % (RETRY_MS, listener.number, first))
            await self.flush()
            while not listener.over and (listener.has_more or not last):
                if not await listener.ready() or not self.master.access.is_valid(self.caller):
                    break
                self.write(listener.take())
                await self.flush()
        except StreamClosedError:
            pass  # The client hung up, or was too slow.
        finally:
            listener.leave()


class AllEvents(EventsHandler):
    @documented(
        "Stream the events of all jobs",
        query={"last_event_id": LAST_EVENT_ID},
        headers={"Last-Event-ID": LAST_EVENT_ID},
        replies={200: EVENTS},
        errors=(503,),
        description="Events are `job`, `node` and `progress`; `missed` counts events that are no "
        "longer kept.",
    )
    async def get(self) -> None:
        self.master.publish()  # Events that are on their way belong to the time before.
        listener = self.master.events.since(
            self.last_event_id(), owner=self.owner, view=self.caller.view
        )
        await self.stream(listener)


class JobEvents(EventsHandler):
    @documented(
        "Stream the events of one job until it ends",
        query={"last_event_id": LAST_EVENT_ID},
        headers={"Last-Event-ID": LAST_EVENT_ID},
        replies={200: EVENTS, 204: None},
        errors=(404, 503),
        description="The stream begins with the state of the job, or continues after "
        "`Last-Event-ID`. After the last event the reply is 204, which stops a browser from "
        "reconnecting.",
    )
    async def get(self, number: str) -> None:
        last = self.last_event_id()
        job = await self.find(number)
        finished = job.is_terminal
        self.master.publish()  # The job may have changed since the last event.
        listener = self.master.events.since(last, job.number, self.owner)
        if last is not None and not listener.lost:
            if finished and not listener.has_more:
                listener.leave()
                self.reply_nothing()
                return
            first = b""
        else:
            first = listener.take() if listener.lost else b""
            first += self.master.events.block(listener.number, _state_event(job))
        self.leave_past()
        with self.master.waiters.noted(self.call_lease(), [job.number]):
            await self.stream(listener, first, last=finished)


def _state_event(job: Job) -> Event:
    state = job.shown_state
    at = job.ended_at or job.started_at or job.submitted_at
    fraction = None
    if state is JobState.RUNNING and job.operations:
        fraction = job.progress / job.operations
    return Event(at, job.number, "", state.value, job.error, fraction)
