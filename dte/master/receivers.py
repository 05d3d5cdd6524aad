"""The receivers of webhooks: what waits for each of them, and whose turn it is.

Receivers that take their webhooks, those that nobody has asked yet, and those that fail stand in
three lines, and each line has turns of its own: so whoever fails, or never answers, delays none of
the others. A receiver that fails is asked about one webhook at a time, with pauses.

There is room for a bounded number of webhooks. Half of it is for one receiver that fails. Beyond
that, and where there is no room at all, the oldest webhooks of the receivers that fail go first:
of the one that has most of them, by powers of two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from dte.master.destinations import URLS_NOTED_MAX

AT_A_TIME = 20
"""Deliveries that are being posted at a time to receivers that take them."""
NEW_AT_A_TIME = 100
"""Deliveries to receivers that have not replied yet, one to each: some may never reply."""
FAILING_AT_A_TIME = 10
"""Deliveries to receivers that fail."""
AT_A_TIME_TO_A_HOST = 4
"""Deliveries to one receiver at a time. It gets one at a time until it has replied, while it fails,
and while half of the turns of its line are in use, so that a few slow receivers do not block the
others."""
RANKS = 64
KNOWN_MAX = 10_000
"""Most names of receivers that have answered before and for which nothing waits now."""


@dataclass(slots=True, eq=False)
class Delivery:
    """The end of an owner's job, at `since` on the core's clock, to be posted to a URL."""

    number: int
    url: str
    since: float
    owner: str
    failures: int = 0  # Replies that did not take it.


@dataclass(slots=True, eq=False)
class Receiver:
    """A receiver of deliveries.

    Attributes:
        name: the host, with its port.
        line: the line in which it stands; None while it has no turn to wait for.
        waiting: deliveries that can be posted.
        active: the number of deliveries that are being posted.
        failures: times in a row that it did not take one.
        answered: it has ever replied.
        doubtful: it has not replied, and a while has passed since it was to be asked first.
        asked_at: when it was first asked; None before.
        resting: nothing is posted for a while, because it fails.
        deliveries: the number of all its unfinished deliveries.
        undeliverable: the number of those that wait, while it fails or is doubtful.
        rank: the power of two of that number, from 1; 0 for none.
    """

    name: str
    line: Line | None = None
    waiting: deque[Delivery] = field(default_factory=deque)
    active: int = 0
    failures: int = 0
    answered: bool = False
    doubtful: bool = False
    asked_at: float | None = None
    resting: bool = False
    deliveries: int = 0
    undeliverable: int = 0
    rank: int = 0


class Line:
    """Receivers in the order of their turns.

    Args:
        most: deliveries at a time, for all of them.
        newest_too: every second turn is that of the last that came.
    """

    def __init__(self, most: int, newest_too: bool = False) -> None:
        self._most = most
        self._newest_too = newest_too
        self._receivers: deque[Receiver] = deque()
        self._turns = 0
        self.active = 0

    def add(self, receiver: Receiver) -> None:
        receiver.line = self
        self._receivers.append(receiver)

    def next(self) -> Receiver | None:
        """Take the receiver whose turn it is out of the line; None if none has a turn now."""
        while self._receivers and self.active < self._most:
            self._turns += 1
            newest = self._newest_too and self._turns % 2 == 0
            receiver = self._receivers.pop() if newest else self._receivers.popleft()
            if receiver.line is not self:
                continue  # It has changed to another line.
            receiver.line = None
            if not receiver.resting and receiver.waiting and self._may_have_more(receiver):
                return receiver
        return None

    def _may_have_more(self, receiver: Receiver) -> bool:
        if not receiver.active:
            return True
        few = self.active < self._most // 2
        is_good = receiver.answered and not receiver.failures
        return few and is_good and receiver.active < AT_A_TIME_TO_A_HOST


class Receivers:
    """Every receiver for which a delivery is unfinished.

    Args:
        deliveries_max: the most unfinished deliveries.

    Attributes:
        count: the unfinished deliveries.
        undeliverable: those that wait for receivers that fail.
    """

    def __init__(self, deliveries_max: int) -> None:
        self._max = deliveries_max
        self._receivers: dict[str, Receiver] = {}
        self._good = Line(AT_A_TIME)
        self._new = Line(NEW_AT_A_TIME, newest_too=True)
        self._failing = Line(FAILING_AT_A_TIME)
        self._known: dict[str, None] = {}
        self._by_rank: list[dict[Receiver, None]] = [{} for _ in range(RANKS)]
        self.count = 0
        self.undeliverable = 0

    def __iter__(self) -> Iterator[Receiver]:
        return iter(self._receivers.values())

    @property
    def is_full(self) -> bool:
        """True if no more deliveries can be taken, even if those that can go went."""
        return self.count - self.undeliverable >= self._max

    def add(self, delivery: Delivery) -> Receiver:
        """Take in a delivery."""
        name = receiver_of(delivery.url)
        receiver = self._receivers.get(name)
        if receiver is None:
            receiver = self._receivers[name] = Receiver(name, answered=name in self._known)
        self.count += 1
        receiver.deliveries += 1
        self.put_back(receiver, delivery)
        return receiver

    def put_back(self, receiver: Receiver, delivery: Delivery) -> None:
        """Let a delivery wait for its turn."""
        receiver.waiting.append(delivery)
        self._rank(receiver)
        self.queue(receiver)

    def excess(self, receiver: Receiver) -> Iterator[tuple[Receiver, Delivery]]:
        """Take out the deliveries for which there is no room, after one was added."""
        while receiver.undeliverable > max(1, self._max // 2):
            yield receiver, self._take_oldest(receiver)
        while self.count > self._max:
            longest = next((each for each in reversed(self._by_rank) if each), None)
            if longest is None:
                break
            first = next(iter(longest))
            yield first, self._take_oldest(first)

    def _take_oldest(self, receiver: Receiver) -> Delivery:
        delivery = receiver.waiting.popleft()
        self._rank(receiver)
        return delivery

    def take_older(self, receiver: Receiver, moment: float) -> list[Delivery]:
        """Take out the deliveries that wait for a receiver since before a moment."""
        older = [each for each in receiver.waiting if each.since < moment]
        if older:
            receiver.waiting = deque(each for each in receiver.waiting if each.since >= moment)
            self._rank(receiver)
        return older

    # Turns

    def queue(self, receiver: Receiver) -> None:
        """Let a receiver wait for its turn, if it has deliveries."""
        line = self._line_of(receiver)
        if receiver.waiting and not receiver.resting and receiver.line is not line:
            line.add(receiver)

    def _line_of(self, receiver: Receiver) -> Line:
        if receiver.failures:
            return self._failing
        return self._good if receiver.answered else self._new

    def take(self, now: float) -> tuple[Receiver, Delivery, Line] | None:
        """Take the delivery that is to be posted next; None for none now.

        Returns:
            Its line too, for `posted`.
        """
        for line in (self._good, self._new, self._failing):
            receiver = line.next()
            if receiver is None:
                continue
            delivery = self._take_oldest(receiver)
            receiver.active += 1
            line.active += 1
            if receiver.asked_at is None:
                receiver.asked_at = now
            self.queue(receiver)
            return receiver, delivery, line
        return None

    def posted(self, receiver: Receiver, line: Line) -> None:
        """A delivery is not being posted any more, however it ended."""
        receiver.active -= 1
        line.active -= 1

    # Outcomes

    def replied(self, receiver: Receiver) -> None:
        """A receiver has replied, whatever it said."""
        receiver.answered, receiver.doubtful = True, False
        self._rank(receiver)
        self._known.pop(receiver.name, None)
        self._known[receiver.name] = None
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def doubt(self, receiver: Receiver) -> None:
        """A while has passed since a new receiver was to be asked."""
        if not receiver.answered:
            receiver.doubtful = True
            self._rank(receiver)

    def took(self, receiver: Receiver) -> None:
        """A receiver has taken a delivery, so it does not fail."""
        receiver.failures, receiver.resting = 0, False
        self._rank(receiver)

    def failed(self, receiver: Receiver) -> None:
        """A receiver has not taken a delivery."""
        receiver.failures += 1
        self._rank(receiver)

    def finished(self, receiver: Receiver) -> None:
        """A delivery is taken or given up."""
        self.count -= 1
        receiver.deliveries -= 1

    def forget_idle(self, receiver: Receiver) -> None:
        """Forget a receiver for which nothing is left to do."""
        if not receiver.deliveries and not receiver.active and not receiver.resting:
            self._receivers.pop(receiver.name, None)

    def _rank(self, receiver: Receiver) -> None:
        """Keep a receiver that fails among those with about as many waiting deliveries.

        One that lets its first request wait may never answer, so it counts as one that fails.
        """
        waiting = len(receiver.waiting) if receiver.failures or receiver.doubtful else 0
        self.undeliverable += waiting - receiver.undeliverable
        receiver.undeliverable = waiting
        rank = waiting.bit_length()
        if rank != receiver.rank:
            if receiver.rank:
                del self._by_rank[receiver.rank][receiver]
            if rank:
                self._by_rank[rank][receiver] = None
            receiver.rank = rank


@lru_cache(maxsize=URLS_NOTED_MAX)
def receiver_of(url: str) -> str:
    """The name of the receiver at a URL: its host, with the port."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""  # An unchecked URL; posting to it will fail and say why.
