"""Events as they happen, for a browser's ``EventSource`` and for ``curl -N``.

What the blocks of a stream are is said in `dte.master.events`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
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
"""How long a browser waits before it connects again."""
LAST_EVENT_ID = Annotated[str, Meta(description="go on after this event", pattern="^[0-9]{1,18}$")]


class EventsHandler(JobHandler):
    """Base of the routes that give events."""

    def last_event_id(self) -> int | None:
        """The number of the event after which the client wants to go on; None if it begins.

        Raises:
            InvalidRequest: it is no number.
        """
        text = self.request.headers.get("Last-Event-ID", "").strip()
        # Where no header can be set, the query says the same.
        text = text or self.get_query_argument("last_event_id", "")
        if text and not NUMBER.fullmatch(text):
            raise InvalidRequest("Last-Event-ID is no number that an event here has had")
        return int(text) if text else None

    async def stream(self, listener: Listener, first: bytes = b"", last: bool = False) -> None:
        """Give what a listener hears until its job has ended, the client hangs up or all end.

        What the client does not take is waited for, so that one that is slow misses events.

        Args:
            first: what is given before.
            last: whether nothing follows but what there is to take already.
        """
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")  # Else nginx gathers events for a while.
        self.gone.add_done_callback(lambda gone: listener.leave())
        try:
            self.write(b"retry: %d\nid: %d\n\n%s" % (RETRY_MS, listener.number, first))
            await self.flush()
            while not listener.over and (listener.has_more or not last):
                if not await listener.turn():
                    break
                self.write(listener.take())
                await self.flush()
        except StreamClosedError:
            pass  # The client has hung up, or was too slow.
        finally:
            listener.leave()


class AllEvents(EventsHandler):
    """``GET /events``: what happens to all jobs."""

    @documented(
        "What happens to all jobs, as it happens",
        query={"last_event_id": LAST_EVENT_ID},
        headers={"Last-Event-ID": LAST_EVENT_ID},
        replies={200: EVENTS},
        errors=(503,),
        description="The events `job`, `node` and `progress`, and `missed` with the number of those"
        " that are not kept any more.",
    )
    async def get(self) -> None:
        await self.stream(self.master.events.since(self.last_event_id()))


class JobEvents(EventsHandler):
    """``GET /job/{id}/events``: what happens to a job, until it has ended."""

    @documented(
        "What happens to a job, until it has ended",
        query={"last_event_id": LAST_EVENT_ID},
        headers={"Last-Event-ID": LAST_EVENT_ID},
        replies={200: EVENTS, 204: None},
        errors=(404, 503),
        description="Begins with how the job stands, unless `Last-Event-ID` says which event was "
        "the last one heard. Who has heard the end is answered with 204, and need not ask again.",
    )
    async def get(self, number: str) -> None:
        last = self.last_event_id()
        job = await self.find(number)
        finished = job.is_terminal
        await asyncio.sleep(0)  # What has just come into effect is among the events a turn later.
        listener = self.master.events.since(last, job.number)
        if last is not None and not listener.lost:
            if finished and not listener.has_more:
                listener.leave()
                self.set_status(HTTPStatus.NO_CONTENT)
                self.clear_header("Content-Type")
                return
            await self.stream(listener, last=finished)
            return
        first = listener.take() if listener.lost else b""
        first += self.master.events.block(listener.number, _standing(job))
        await self.stream(listener, first, last=finished)


def _standing(job: Job) -> Event:
    """How a job stands, as an event."""
    # That it ends is no news before how it ended is.
    state = job.state
    if state is JobState.ENDING:
        state = JobState.CANCELLING if job.cancelled else JobState.RUNNING
    at = job.ended_at or job.started_at or job.submitted_at
    fraction = None
    if state is JobState.RUNNING and job.operations:
        fraction = job.progress / job.operations
    return Event(at, job.number, "", state.value, job.error, fraction)
