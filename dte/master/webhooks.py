"""Webhooks: posting the end of a job to a URL.

A delivery is a POST of what ``GET /job/{id}`` gives. Any 2xx takes it, and 410 Gone refuses it for
good. After any other reply, a redirect too, it is tried again with growing pauses, for a day. A
delivery may come more than once: receivers recognise it by its ``job_id``.

A receiver that fails a few times in a row is asked about one delivery at a time, with growing
pauses, and the others wait. One that has never replied loses its deliveries after an hour.
`dte.master.receivers` has what waits for whom, `dte.master.posting` the signatures, and
`dte.master.destinations` the addresses to which webhooks may go. One that may not go to the address
of its receiver is given up at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from random import Random

from dte.core.backoff import backoff_s
from dte.core.errors import Busy, NotFound, Unavailable
from dte.core.shares import OWN_USER, Shares
from dte.logs import LimitedLog, one_line
from dte.master.destinations import Destinations, NotAllowed
from dte.master.posting import TIMEOUT_S, Message, Poster
from dte.master.receivers import Delivery, Line, Receiver, Receivers

log = logging.getLogger("dte.master")

GIVEN_UP = "webhooks given up"
REASON_CHARS_MAX = 300
POSTED_BYTES_MAX = 64_000_000
"""No body is made for a receiver that has never replied while those that are being posted have
more bytes."""
FAILURES_MIN = 3
"""Replies in a row that take nothing, after which a receiver fails as one that does not reply."""
DOUBT_S = 1.0
"""A receiver that has never replied takes no room from others after this time."""
NEVER_ANSWERED_S = 3_600.0
"""Time after which a receiver that has never replied loses a delivery."""
BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 600.0
FORGET_AGAIN_S = 1.0
"""Pause before the journal is asked again to forget deliveries."""
FORGOTTEN_AT_A_TIME = 1_000
CLOSE_S = 1.0
"""Time in which finished deliveries are forgotten when the master ends."""


class Webhooks:
    """Posts the ends of jobs until they are taken.

    Args:
        message: gives the message for a job by its number. It raises `NotFound` if the job is
            deleted and `Unavailable` if the journal cannot be read.
        forget: called with the jobs whose deliveries are finished; may raise `Unavailable`.
        destinations: decides where they may go.
        timeout_s: the time that a receiver has for its reply.

    Attributes:
        given_up: how many deliveries were given up.
    """

    def __init__(
        self,
        message: Callable[[int], Awaitable[Message]],
        forget: Callable[[Sequence[int]], Awaitable[None]],
        destinations: Destinations,
        *,
        webhook_secret: str,
        webhook_for_s: float,
        webhooks_max: int,
        timeout_s: float = TIMEOUT_S,
        pause_first_s: float = BACKOFF_FIRST_S,
        random: Random | None = None,
    ) -> None:
        self._message = message
        self._forget = forget
        self._for_s = webhook_for_s
        self._max = webhooks_max
        self._pause_first_s = pause_first_s
        self._random = random or Random()
        self._destinations = destinations
        self._poster = Poster(webhook_secret, destinations, timeout_s)
        self._receivers = Receivers(webhooks_max)
        self._shares = Shares("undelivered webhooks", "webhooks_max", webhooks_max)
        self._posting: set[asyncio.Task[None]] = set()
        self._posted_bytes = 0
        self._body_gone = asyncio.Event()
        self._making = asyncio.Lock()
        self._begins = False
        self._to_forget: deque[int] = deque()
        self._forgetting: asyncio.Task[None] | None = None
        self._closed = False
        self._limited = LimitedLog(log)
        self.given_up = 0

    def __len__(self) -> int:
        """The number of unfinished deliveries."""
        return self._receivers.count

    def check(self, url: str) -> None:
        """Check that a job may have a webhook to a URL; raise `InvalidRequest` if not."""
        self._destinations.check(url)

    def ensure_room(self, owner: str = OWN_USER) -> None:
        """Check that an owner's job may have a webhook; raise `Busy` if not.

        What waits for receivers that fail takes no room from others: it goes when there is none.
        """
        if self._receivers.is_full:
            count = self._receivers.count
            raise Busy(f"{count} webhooks are undelivered, of {self._max} (webhooks_max)")
        self._shares.ensure_room(owner)

    def restore(self, deliveries: Iterable[tuple[int, str, float, str]]) -> None:
        """Take over the deliveries of the journal."""
        for number, url, since, owner in deliveries:
            self.add(number, url, since, owner)

    def add(self, number: int, url: str, since: float, owner: str = OWN_USER) -> None:
        """Post the end of an owner's job, at `since` on the core's clock, to a URL."""
        if self._closed:
            return
        self._shares.add(owner)
        receiver = self._receivers.add(Delivery(number, url, since, owner))
        if receiver.deliveries == 1 and not receiver.answered:
            asyncio.get_running_loop().call_later(DOUBT_S, self._doubt, receiver)
        self._drop_excess(receiver)
        self._begin_soon()

    def _doubt(self, receiver: Receiver) -> None:
        self._receivers.doubt(receiver)
        self._drop_excess(receiver)

    async def close(self) -> None:
        """Stop; unfinished deliveries are posted again after the next start."""
        self._closed = True
        self._limited.close()
        posting = list(self._posting)
        for task in posting:
            task.cancel()
        await asyncio.gather(*posting, return_exceptions=True)
        self._destinations.close()
        if (forgetting := self._forgetting) is not None:
            await asyncio.wait((forgetting,), timeout=CLOSE_S)
            forgetting.cancel()

    # Posting

    def _begin_soon(self) -> None:
        if not self._begins:
            self._begins = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin to post what may be posted now."""
        self._begins = False
        loop = asyncio.get_running_loop()
        while not self._closed and (turn := self._receivers.take(loop.time())) is not None:
            receiver, delivery, line = turn
            task = loop.create_task(self._post(receiver, delivery))
            self._posting.add(task)
            task.add_done_callback(partial(self._posted, receiver, line))

    def _posted(self, receiver: Receiver, line: Line, task: asyncio.Task[None]) -> None:
        self._posting.discard(task)
        self._receivers.posted(receiver, line)
        self._after(receiver)

    def _after(self, receiver: Receiver) -> None:
        self._receivers.queue(receiver)
        self._receivers.forget_idle(receiver)
        self._begin_soon()

    async def _post(self, receiver: Receiver, delivery: Delivery) -> None:
        """Post a delivery, and finish it or try it again."""
        try:
            message = await self._message_for(receiver, delivery)
        except NotFound:
            self._give_up(receiver, delivery, "the job is deleted")
            return
        except Unavailable:  # The journal cannot be read.
            self._try_again(receiver, delivery)
            return
        try:
            status = await self._poster.post(delivery.url, message)
        except NotAllowed as error:
            self._give_up(receiver, delivery, str(error))
        except Exception as error:  # Refused, silent, not HTTP, unknown host, invalid certificate.
            self._no_reply(receiver, delivery, str(error) or type(error).__name__)
        else:
            self._replied(receiver, delivery, status)
        finally:
            self._posted_bytes -= len(message.body)
            self._body_gone.set()

    async def _message_for(self, receiver: Receiver, delivery: Delivery) -> Message:
        """Make a message, and count it; for one that may never be taken, once there is room."""
        if receiver.answered:
            message = await self._message(delivery.number)
            self._posted_bytes += len(message.body)
            return message
        async with self._making:
            while self._posted_bytes > POSTED_BYTES_MAX:
                self._body_gone.clear()
                await self._body_gone.wait()
            message = await self._message(delivery.number)
            self._posted_bytes += len(message.body)
        return message

    def _replied(self, receiver: Receiver, delivery: Delivery, status: int) -> None:
        self._receivers.replied(receiver)
        if 200 <= status < 300:
            self._receivers.took(receiver)
            self._finish(receiver, delivery)
        elif status == HTTPStatus.GONE:
            self._receivers.took(receiver)
            self._give_up(receiver, delivery, f"status {status}")
        else:
            self._receivers.failed(receiver)
            if delivery.since < self._oldest(receiver):
                self._give_up(receiver, delivery, f"status {status}")
            else:
                self._try_again(receiver, delivery)
            if receiver.failures >= FAILURES_MIN:
                self._rest(receiver, f"status {status}", receiver.failures + 1 - FAILURES_MIN)

    def _no_reply(self, receiver: Receiver, delivery: Delivery, reason: str) -> None:
        self._receivers.put_back(receiver, delivery)
        self._receivers.failed(receiver)
        self._rest(receiver, reason, receiver.failures)

    def _rest(self, receiver: Receiver, reason: str, failures: int) -> None:
        """Leave a receiver alone that fails: its deliveries wait."""
        late = self._receivers.take_older(receiver, self._oldest(receiver))
        if late:
            self._log(GIVEN_UP, "gave up %s webhooks to %s: %s", len(late), receiver.name, reason)
            for each in late:
                self._drop(receiver, each)
        self._drop_excess(receiver)
        if receiver.resting or not receiver.deliveries:
            return  # Several deliveries were under way, or none is left.
        receiver.resting = True
        if failures == 1:
            text = "webhooks to %s are paused: %s"
            self._log("pauses of receivers", text, receiver.name, reason)
        pause_s = self._pause_s(failures)
        if receiver.waiting and not receiver.answered:
            # Its first delivery is to be given up in time, and not after the pause.
            asked_at = receiver.asked_at or 0.0
            given_up_at = max(asked_at, receiver.waiting[0].since) + NEVER_ANSWERED_S
            left_s = given_up_at - asyncio.get_running_loop().time()
            pause_s = min(pause_s, max(self._pause_first_s, left_s))
        asyncio.get_running_loop().call_later(pause_s, self._rested, receiver)

    def _rested(self, receiver: Receiver) -> None:
        receiver.resting = False
        self._after(receiver)

    def _try_again(self, receiver: Receiver, delivery: Delivery) -> None:
        """Let a delivery alone wait for a while."""
        delivery.failures += 1
        pause_s = self._pause_s(delivery.failures)
        asyncio.get_running_loop().call_later(pause_s, self._again, receiver, delivery)

    def _again(self, receiver: Receiver, delivery: Delivery) -> None:
        self._receivers.put_back(receiver, delivery)
        self._after(receiver)

    def _pause_s(self, failures: int) -> float:
        return backoff_s(self._random, failures, self._pause_first_s, BACKOFF_MAX_S)

    # Ends

    def _oldest(self, receiver: Receiver) -> float:
        """The moment before which a receiver's deliveries are too old, on the core's clock."""
        now = asyncio.get_running_loop().time()
        if receiver.answered or receiver.asked_at is None:
            return now - self._for_s
        # It is not to lose what came before this master, and before it could be asked.
        asked_for_s = now - receiver.asked_at
        for_s = NEVER_ANSWERED_S if asked_for_s >= NEVER_ANSWERED_S else self._for_s
        return now - min(self._for_s, for_s)

    def _drop_excess(self, receiver: Receiver) -> None:
        """Give up the oldest deliveries to receivers that fail, where there is no room."""
        for failing, delivery in self._receivers.excess(receiver):
            waiting = len(failing.waiting)
            text = "gave up the webhook of job %s: %s others wait for %s, which takes none"
            self._log(GIVEN_UP, text, delivery.number, waiting, failing.name)
            self._drop(failing, delivery)

    def _give_up(self, receiver: Receiver, delivery: Delivery, reason: str) -> None:
        # Without the whole URL, which may have secrets.
        text = "gave up the webhook of job %s to %s: %s"
        self._log(GIVEN_UP, text, delivery.number, receiver.name, reason)
        self._drop(receiver, delivery)

    def _log(self, kind: str, text: str, *values: object) -> None:
        shown = (one_line(str(value), REASON_CHARS_MAX) for value in values)
        self._limited.add(kind, logging.WARNING, text, *shown)

    def _drop(self, receiver: Receiver, delivery: Delivery) -> None:
        self.given_up += 1
        self._finish(receiver, delivery)

    def _finish(self, receiver: Receiver, delivery: Delivery) -> None:
        """A delivery was taken or given up: forget it."""
        self._receivers.finished(receiver)
        self._shares.remove(delivery.owner)
        self._to_forget.append(delivery.number)
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_all())

    async def _forget_all(self) -> None:
        while self._to_forget:
            count = min(len(self._to_forget), FORGOTTEN_AT_A_TIME)
            try:
                await self._forget([self._to_forget[index] for index in range(count)])
            except Unavailable:
                await asyncio.sleep(FORGET_AGAIN_S)
                continue
            for _ in range(count):
                self._to_forget.popleft()
        self._forgetting = None
