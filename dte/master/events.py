"""The last events, numbered, and those who listen to them.

All listeners read the same events, each from its own position, so a slow one holds no memory: when
its next event is not kept any more it hears how many it missed, and goes on. Nothing is encoded
unless somebody takes it, and then once for all. Who listens to one job is not woken by others.

An event is given as a block of ``text/event-stream``::

    id: 30000000007
    event: node
    data: {"job_id":7,"node":"a","state":"running","at":"2026-03-01T12:00:00.000000Z"}

The word after ``event:`` is ``job`` for a new state of a job, ``node`` for one of a call of it,
``progress`` for what a handler says of how far it is, and ``missed`` for what is not kept any more.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime
from sys import getsizeof

import msgspec

from dte.core.errors import Busy, Unavailable
from dte.core.jobs.facts import Event
from dte.core.jobs.job import TERMINAL
from dte.wire.codec import encode

EVENTS_KEPT = 10_000
"""At least so many of the last events are kept, and up to twice as many."""
TEXTS_BYTES_MAX = 16_000_000
"""Unless their texts take more than this."""
EVENTS_OF_A_BOOT = 10_000_000_000
"""Numbers of events begin with the boot's, so that they grow across restarts."""
TOLD_A_TURN = 4
"""Listeners that are given something in a turn of the loop."""
TAKEN_BYTES = 65_536
"""About how much a listener takes at a time."""
ENCODED_KEPT = 2_000
"""How many events are kept as they were encoded: listeners are mostly at about the same ones."""
TEXT_CHARS_MAX = 2_000
"""Where an event's text is cut."""
HEARTBEAT_S = 15.0
"""How often listeners hear that there is nothing new: proxies close what is silent for long."""
PROGRESS = "progress"
ENDS = frozenset(state.value for state in TERMINAL)

Shown = msgspec.UnsetType | str


class EventShown(msgspec.Struct, omit_defaults=True):
    """What is shown of an event: `state` is the new one, or ``progress``."""

    job_id: int
    state: str
    at: datetime | None
    node: Shown = msgspec.UNSET
    text: Shown = msgspec.UNSET
    fraction: float | msgspec.UnsetType = msgspec.UNSET


class EventLog:
    """Keeps the last events, and wakes those who listen.

    Args:
        boot: the number of this start.
        wall_time: gives a moment of the core's clock as people write it.
        streams_max: how many may listen at a time.
        kept: at least how many events are kept.
        texts_bytes_max: how many bytes their texts may take.
        heartbeat_s: how often those who listen hear something in any case.
    """

    def __init__(
        self,
        boot: int,
        wall_time: Callable[[float | None], datetime | None],
        *,
        streams_max: int = 1_000,
        kept: int = EVENTS_KEPT,
        texts_bytes_max: int = TEXTS_BYTES_MAX,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._wall_time = wall_time
        self._streams_max = streams_max
        self._kept = kept
        self._texts_bytes_max = texts_bytes_max
        self._heartbeat_s = heartbeat_s
        self._base = boot * EVENTS_OF_A_BOOT
        self._events: list[Event] = []
        self._first = self._base + 1
        self._texts_bytes = 0
        self._encoded: dict[int, bytes] = {}
        self._listeners: set[Listener] = set()
        self._idle: set[Listener] = set()
        self._watched: dict[int, _Watched] = {}
        self._line: deque[Listener] = deque()
        self._beating: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._listeners)

    @property
    def last(self) -> int:
        """The number of the last event; before the first, that of its start alone."""
        return self._first + len(self._events) - 1

    def add(self, events: Collection[Event]) -> None:
        """Number events and keep them, and wake those who listen for them."""
        if not events:
            return
        number = self.last
        self._events += events
        self._texts_bytes += _texts_bytes(events)
        if self._watched:
            for event in events:
                number += 1
                watched = self._watched.get(event.job)
                if watched is not None:
                    watched.numbers.append(number)
                    self._wake(watched.idle)
        if len(self._events) > 2 * self._kept or self._texts_bytes > self._texts_bytes_max:
            self._trim()
        if self._idle:
            self._wake(self._idle)

    def _trim(self) -> None:
        """Forget the oldest; half at a time, as forgetting moves all the others."""
        count = max(0, len(self._events) - self._kept)
        bytes_left = self._texts_bytes - _texts_bytes(self._events[:count])
        if bytes_left > self._texts_bytes_max:
            while count < len(self._events) and bytes_left > self._texts_bytes_max // 2:
                bytes_left -= _texts_bytes(self._events[count : count + 1])
                count += 1
        del self._events[:count]
        self._texts_bytes = bytes_left
        self._first += count
        for watched in self._watched.values():
            watched.forget(self._first)

    # Listening

    def since(self, number: int | None, job: int | None = None) -> Listener:
        """Listen to what comes after an event.

        Args:
            number: the event's, None for the last there is. If it is not known, or what followed
                it is not kept any more, `Listener.lost` is set, and all goes on with the oldest
                event that is kept; of a job, with the next.
            job: the number of a job, to listen to that alone.

        Raises:
            Busy: too many listen already.
            Unavailable: the log is closed.
        """
        if self._closed:
            raise Unavailable("the master is ending; try again when it is back")
        if len(self._listeners) >= self._streams_max:
            raise Busy(f"{self._streams_max} streams of events are open already (streams_max)")
        listener = Listener(self, job, self.last if number is None else number)
        if number is not None and not self._first - 1 <= number <= self.last:
            listener.lost = True
            if job is not None:
                listener.number = self.last
            elif not self._base <= number <= self.last:
                listener.number = self._first - 1
                listener.uncounted = True
        if job is not None:
            watched = self._watch(job)
            watched.listeners.add(listener)
            listener.place = watched.place_after(listener.number)
        self._listeners.add(listener)
        if self._beating is None:
            self._beat_later()
        return listener

    def _watch(self, job: int) -> _Watched:
        watched = self._watched.get(job)
        if watched is None:
            numbered = enumerate(self._events, self._first)
            numbers = [number for number, event in numbered if event.job == job]
            watched = self._watched[job] = _Watched(numbers)
        return watched

    def leave(self, listener: Listener) -> None:
        """Listen no more."""
        self._listeners.discard(listener)
        self._idle.discard(listener)
        if listener.job is not None and (watched := self._watched.get(listener.job)) is not None:
            watched.idle.discard(listener)
            watched.listeners.discard(listener)
            if not watched.listeners:
                del self._watched[listener.job]
        if not self._listeners and self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def close(self) -> None:
        """Let all who listen hear that no more comes."""
        self._closed = True
        for listener in list(self._listeners):
            listener.leave()

    def ready(self, listener: Listener) -> None:
        """Put a listener into the line if there is something for it, else wake it later."""
        if self.has_more(listener):
            self._wake({listener})
        elif listener.job is None:
            self._idle.add(listener)
        else:
            self._watched[listener.job].idle.add(listener)

    def has_more(self, listener: Listener) -> bool:
        """Whether there is something for a listener."""
        if listener.job is None:
            return listener.lost or listener.number < self.last
        return listener.lost or listener.place < self._watched[listener.job].count

    def _wake(self, listeners: set[Listener]) -> None:
        if not self._line and listeners:
            asyncio.get_running_loop().call_soon(self._tell)
        self._line.extend(listeners)
        listeners.clear()

    def _tell(self) -> None:
        # Thousands that are given much in the same turn would keep the loop from all else.
        for _ in range(min(TOLD_A_TURN, len(self._line))):
            self._line.popleft().tell()
        if self._line:
            asyncio.get_running_loop().call_soon(self._tell)

    def _beat_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._beating = loop.call_later(self._heartbeat_s, self._beat)

    def _beat(self) -> None:
        self._wake(self._idle)
        for watched in self._watched.values():
            self._wake(watched.idle)
        self._beat_later()

    # Giving

    def take(self, listener: Listener) -> bytes:
        """The next blocks for a listener, about `TAKEN_BYTES`; or that there are none."""
        if listener.job is not None:
            return self._take_of_job(listener, self._watched[listener.job])
        parts: list[bytes] = []
        missed = self._first - 1 - listener.number
        if listener.lost or missed > 0:
            listener.number = max(listener.number, self._first - 1)
            parts.append(missed_block(listener.number, None if listener.uncounted else missed))
            listener.lost = listener.uncounted = False
        size = 0
        number, last = listener.number, self.last
        while number < last and size < TAKEN_BYTES:
            number += 1
            parts.append(self._block(number))
            size += len(parts[-1])
        listener.number = number
        return b"".join(parts) or heartbeat(number)

    def _take_of_job(self, listener: Listener, watched: _Watched) -> bytes:
        parts: list[bytes] = []
        missed = watched.forgotten - listener.place
        if missed > 0:
            listener.number, listener.place = self._first - 1, watched.forgotten
        if listener.lost or missed > 0:
            parts.append(missed_block(listener.number, None if listener.lost else missed))
            listener.lost = False
        size = 0
        while listener.place < watched.count and size < TAKEN_BYTES:
            listener.number = watched.numbers[listener.place - watched.forgotten]
            listener.place += 1
            parts.append(self._block(listener.number))
            size += len(parts[-1])
            event = self._events[listener.number - self._first]
            listener.over |= not event.node and event.state in ENDS
        if listener.place == watched.count:
            listener.number = self.last  # What came after is of other jobs.
        return b"".join(parts) or heartbeat(listener.number)

    def _block(self, number: int) -> bytes:
        block = self._encoded.get(number)
        if block is None:
            if len(self._encoded) >= ENCODED_KEPT:
                self._encoded.clear()
            block = self.block(number, self._events[number - self._first])
            self._encoded[number] = block
        return block

    def block(self, number: int, event: Event) -> bytes:
        """An event as a block of ``text/event-stream``."""
        shown = EventShown(event.job, event.state, self._wall_time(event.at))
        if event.node:
            shown.node = event.node
        if event.text:
            text = event.text
            shown.text = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
        if event.fraction is not None:
            shown.fraction = event.fraction
        kind = PROGRESS if event.state == PROGRESS else "node" if event.node else "job"
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), encode(shown))


class Listener:
    """Somebody who listens to the events of all jobs, or of one.

    Attributes:
        job: the job's number; None for all.
        number: of the last event that it was given, or that is not for it.
        place: which of its job's events, from 0, is the next.
        lost: whether it is to hear that it missed some, whatever follows.
        uncounted: whether nobody knows how many these are.
        over: whether the end of its job was among what it has taken.
    """

    def __init__(self, log: EventLog, job: int | None, number: int) -> None:
        self._log = log
        self._told: asyncio.Future[bool] | None = None
        self._left = False
        self.job = job
        self.number = number
        self.place = 0
        self.lost = False
        self.uncounted = False
        self.over = False

    @property
    def has_more(self) -> bool:
        """Whether there is something to take."""
        return not self._left and self._log.has_more(self)

    async def turn(self) -> bool:
        """Return when there is something to take, or it is time for a heartbeat.

        Returns:
            Whether to go on: not when it, or all, are to listen no more.
        """
        if self._left:
            return False
        self._told = asyncio.get_running_loop().create_future()
        self._log.ready(self)
        # It may have left since it was told.
        return await self._told and not self._left

    def tell(self) -> None:
        """It is its turn."""
        if self._told is not None and not self._told.done():
            self._told.set_result(not self._left)

    def take(self) -> bytes:
        """What there is for it, in part if it is much; a heartbeat if there is nothing."""
        return self._log.take(self)

    def leave(self) -> None:
        """Listen no more."""
        self._left = True
        self._log.leave(self)
        self.tell()


class _Watched:
    """A job that somebody listens to.

    Attributes:
        numbers: of those of its events that are kept.
        forgotten: how many are not kept any more, since it is watched.
        listeners: who listens.
        idle: which of them have nothing to take.
    """

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.forgotten = 0
        self.listeners: set[Listener] = set()
        self.idle: set[Listener] = set()

    @property
    def count(self) -> int:
        """How many events it has had."""
        return self.forgotten + len(self.numbers)

    def place_after(self, number: int) -> int:
        """Which of them, from 0, is the first after an event."""
        return self.forgotten + bisect_right(self.numbers, number)

    def forget(self, first: int) -> None:
        """Events before `first` are not kept any more."""
        count = bisect_left(self.numbers, first)
        self.forgotten += count
        del self.numbers[:count]


def missed_block(number: int, count: int | None) -> bytes:
    """That events up to a number are not kept any more, and how many; None if nobody knows."""
    return b"id: %d\nevent: missed\ndata: %s\n\n" % (number, encode({"missed": count}))


def heartbeat(number: int) -> bytes:
    """A comment; with it, without any event, where to go on from."""
    return b": heartbeat\nid: %d\n\n" % number


def _texts_bytes(events: Collection[Event]) -> int:
    return sum([getsizeof(event.text) for event in events if event.text])
