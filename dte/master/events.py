"""The log of the last events, and its listeners.

All listeners read the same numbered events, each from its own position, so a slow listener holds no
memory. When its next event is not kept any more, it gets the number of events that it missed, and
goes on. An event is encoded once, when the first listener takes it. A listener to one job is not
woken by events of others.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime
from sys import getsizeof

from dte.core.errors import Busy, Unavailable
from dte.core.jobs.facts import Event
from dte.core.jobs.job import TERMINAL
from dte.core.shares import OWN_USER, Shares
from dte.master.event_blocks import event_block, heartbeat, missed_block

EVENTS_KEPT = 10_000
"""The log keeps at least this many of the last events, and at most twice as many."""
TEXTS_BYTES_MAX = 16_000_000
"""It keeps fewer if their texts take more than this."""
EVENTS_OF_A_BOOT = 10_000_000_000
"""Numbers of events begin with the boot's, so that they grow across restarts."""
WOKEN_AT_A_TIME = 4
"""Listeners that are woken in an iteration of the loop."""
TAKEN_BYTES = 65_536
"""About how much a listener takes at a time."""
ENCODED_KEPT = 2_000
"""Events that are kept in encoded form: most listeners are near the end of the log."""
HEARTBEAT_S = 15.0
"""Longest silence of a stream: proxies close connections that are silent for long."""
ENDS = frozenset(state.value for state in TERMINAL)


class EventLog:
    """Keeps the last events, and wakes their listeners.

    Args:
        boot: the number of this start.
        wall_time: turns the times of events into datetimes.
        view_of_job: gives the `view_of` the owner of a job; None if it is not in memory any more.
        streams_max: the most listeners.
    """

    def __init__(
        self,
        boot: int,
        wall_time: Callable[[float | None], datetime | None],
        *,
        view_of_job: Callable[[int], str | None] = lambda job: OWN_USER,
        streams_max: int,
        kept: int = EVENTS_KEPT,
        texts_bytes_max: int = TEXTS_BYTES_MAX,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._wall_time = wall_time
        self._streams_max = streams_max
        self._shares = Shares("streams of events", "streams_max", streams_max)
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
        self._view_of_job = view_of_job
        self._watched: dict[int | str, _Watched] = {}
        self._line: deque[Listener] = deque()
        self._beating: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """The number of listeners."""
        return len(self._listeners)

    @property
    def last(self) -> int:
        """The number of the last event; before the first, that of its start alone."""
        return self._first + len(self._events) - 1

    def add(self, events: Collection[Event]) -> None:
        """Number events, keep them, and wake their listeners."""
        if not events:
            return
        number = self.last
        self._events += events
        self._texts_bytes += _texts_bytes(events)
        if self._watched:
            by_view = any(isinstance(key, str) for key in self._watched)
            for event in events:
                number += 1
                for key in (event.job, self._view_of_job(event.job)) if by_view else (event.job,):
                    watched = self._watched.get(key) if key is not None else None
                    if watched is not None:
                        watched.numbers.append(number)
                        self._wake(watched.idle)
        if len(self._events) > 2 * self._kept or self._texts_bytes > self._texts_bytes_max:
            self._trim()
        if self._idle:
            self._wake(self._idle)

    def _trim(self) -> None:
        """Forget the oldest events; half at a time, as forgetting moves all the others."""
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

    def since(
        self,
        number: int | None,
        job: int | None = None,
        owner: str = OWN_USER,
        view: str | None = None,
    ) -> Listener:
        """Listen to the events after an event.

        Args:
            number: the event's; None for the last one. If it is unknown, or the event after it is
                not kept any more, `Listener.lost` is set, and the listener goes on with the oldest
                event that is kept; a listener to one job, with the next one.
            job: the number of a job, to listen to that job alone.
            owner: whose listener it is.
            view: listen to the jobs of these owners alone; see `view_of`.

        Raises:
            Busy: there are too many listeners.
            Unavailable: the log is closed.
        """
        if self._closed:
            raise Unavailable("the master is ending; try again when it is back")
        if len(self._listeners) >= self._streams_max:
            raise Busy(f"too many streams of events: {self._streams_max} are open (streams_max)")
        self._shares.ensure_room(owner)
        listener = Listener(self, self.last if number is None else number, owner)
        if number is not None and not self._first - 1 <= number <= self.last:
            listener.lost = True
            if job is not None:
                listener.number = self.last
            elif not self._base <= number <= self.last:
                listener.number = self._first - 1
                listener.uncounted = True
        key = view if job is None else job
        if key is not None:
            watched = listener.watched = self._watch(key)
            watched.listeners.add(listener)
            listener.position = watched.position_after(listener.number)
        self._listeners.add(listener)
        self._shares.add(owner)
        if self._beating is None:
            self._beat_later()
        return listener

    def _watch(self, key: int | str) -> _Watched:
        """Watch a job by its number, or the jobs of a view."""
        watched = self._watched.get(key)
        if watched is None:
            key_of = self._view_of_job if isinstance(key, str) else int
            numbered = enumerate(self._events, self._first)
            numbers = [number for number, event in numbered if key_of(event.job) == key]
            watched = self._watched[key] = _Watched(key, numbers)
        return watched

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        if listener not in self._listeners:
            return
        self._listeners.remove(listener)
        self._shares.remove(listener.owner)
        self._idle.discard(listener)
        if (watched := listener.watched) is not None:
            watched.idle.discard(listener)
            watched.listeners.discard(listener)
            if not watched.listeners:
                del self._watched[watched.key]
        if not self._listeners and self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in list(self._listeners):
            listener.leave()

    def wake_when_ready(self, listener: Listener) -> None:
        """Wake a listener when there is something for it."""
        if listener.has_more:
            self._wake({listener})
        else:
            idle = self._idle if listener.watched is None else listener.watched.idle
            idle.add(listener)

    def _wake(self, listeners: set[Listener]) -> None:
        if not self._line and listeners:
            asyncio.get_running_loop().call_soon(self._wake_some)
        self._line.extend(listeners)
        listeners.clear()

    def _wake_some(self) -> None:
        # Thousands that take much in one iteration would block the loop.
        for _ in range(min(WOKEN_AT_A_TIME, len(self._line))):
            self._line.popleft().wake()
        if self._line:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _beat_later(self) -> None:
        self._beating = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _beat(self) -> None:
        self._wake(self._idle)
        for watched in self._watched.values():
            self._wake(watched.idle)
        self._beat_later()

    # Taking

    def take(self, listener: Listener) -> bytes:
        """The next blocks for a listener, about `TAKEN_BYTES`; a heartbeat if there are none."""
        if listener.watched is not None:
            return self._take_of_job(listener, listener.watched)
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
            parts.append(self._encoded_block(number))
            size += len(parts[-1])
        listener.number = number
        return b"".join(parts) or heartbeat(number)

    def _take_of_job(self, listener: Listener, watched: _Watched) -> bytes:
        parts: list[bytes] = []
        missed = watched.forgotten - listener.position
        if missed > 0:
            listener.number, listener.position = self._first - 1, watched.forgotten
        if listener.lost or missed > 0:
            parts.append(missed_block(listener.number, None if listener.lost else missed))
            listener.lost = False
        size = 0
        while listener.position < watched.count and size < TAKEN_BYTES:
            listener.number = watched.numbers[listener.position - watched.forgotten]
            listener.position += 1
            parts.append(self._encoded_block(listener.number))
            size += len(parts[-1])
            event = self._events[listener.number - self._first]
            listener.over |= watched.is_job and not event.node and event.state in ENDS
        if listener.position == watched.count:
            listener.number = self.last  # Later events are those of other jobs.
        return b"".join(parts) or heartbeat(listener.number)

    def _encoded_block(self, number: int) -> bytes:
        block = self._encoded.get(number)
        if block is None:
            if len(self._encoded) >= ENCODED_KEPT:
                self._encoded.clear()
            block = self.block(number, self._events[number - self._first])
            self._encoded[number] = block
        return block

    def block(self, number: int, event: Event) -> bytes:
        """The block of an event."""
        return event_block(number, event, self._wall_time(event.at))


class Listener:
    """A position in the events of all jobs, or of one.

    Attributes:
        owner: whose listener it is.
        watched: the events of a job or of a view; None for all jobs.
        number: the last event that was taken, or that is not for this listener.
        position: which of its job's events, from 0, is the next.
        lost: it has missed events, whatever follows.
        uncounted: nobody knows how many.
        over: it has taken the end of its job.
    """

    def __init__(self, log: EventLog, number: int, owner: str) -> None:
        self._log = log
        self.owner = owner
        self._woken: asyncio.Future[bool] | None = None
        self._left = False
        self.watched: _Watched | None = None
        self.number = number
        self.position = 0
        self.lost = False
        self.uncounted = False
        self.over = False

    @property
    def has_more(self) -> bool:
        """True if there is something to take."""
        watched = self.watched
        more = self.number < self._log.last if watched is None else self.position < watched.count
        return not self._left and (self.lost or more)

    async def ready(self) -> bool:
        """Return when there is something to take, or it is time for a heartbeat.

        Returns:
            Whether to go on: False after it has left, or the log was closed.
        """
        if self._left:
            return False
        self._woken = asyncio.get_running_loop().create_future()
        self._log.wake_when_ready(self)
        # It may have left since it was woken.
        return await self._woken and not self._left

    def wake(self) -> None:
        """Have `ready` return."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(not self._left)

    def take(self) -> bytes:
        return self._log.take(self)

    def leave(self) -> None:
        """Listen no more."""
        self._left = True
        self._log.leave(self)
        self.wake()


class _Watched:
    """The events of a job, or of the jobs of a view, that have listeners of their own.

    Attributes:
        key: the job's number, or the view.
        numbers: the numbers of its events that are kept.
        forgotten: events that are not kept any more, since the job is watched.
        idle: the listeners that have nothing to take.
    """

    def __init__(self, key: int | str, numbers: list[int]) -> None:
        self.key = key
        self.numbers = numbers
        self.forgotten = 0
        self.listeners: set[Listener] = set()
        self.idle: set[Listener] = set()

    @property
    def is_job(self) -> bool:
        return isinstance(self.key, int)

    @property
    def count(self) -> int:
        """The number of its events so far."""
        return self.forgotten + len(self.numbers)

    def position_after(self, number: int) -> int:
        """The position, from 0, of its first event after another event."""
        return self.forgotten + bisect_right(self.numbers, number)

    def forget(self, first: int) -> None:
        """Events before `first` are not kept any more."""
        count = bisect_left(self.numbers, first)
        self.forgotten += count
        del self.numbers[:count]


def _texts_bytes(events: Collection[Event]) -> int:
    return sum([getsizeof(event.text) for event in events if event.text])
