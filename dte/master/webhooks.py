"""Webhooks: posting the end of a job to a URL.

A delivery is a POST of what ``GET /job/{id}`` gives. Any 2xx takes it, and 410 Gone refuses it for
good. After any other reply, a redirect too, it is tried again with growing pauses, for a day. A
delivery may come more than once: receivers recognise it by its ``job_id``.

A master that has a secret signs deliveries. The receiver computes the HMAC-SHA256, with the secret
as the key, of three things: the header ``X-Dte-Timestamp``, a full stop, and the body, byte by
byte. In hex, that is the part of ``X-Dte-Signature`` after ``sha256=``::

    signed = request.headers["X-Dte-Timestamp"].encode() + b"." + request.body
    expected = "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()
    authentic = hmac.compare_digest(expected, request.headers["X-Dte-Signature"])
    recent = abs(time.time() - int(request.headers["X-Dte-Timestamp"])) < 300

Each try has its own timestamp, so a delivery that is older than a few minutes is a replay.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from dte import __version__
from dte.core.backoff import backoff_s
from dte.core.errors import Busy, InvalidRequest, NotFound, Unavailable
from dte.logs import LimitedLog, one_line

log = logging.getLogger("dte.master")

GIVEN_UP = "webhooks given up"
REASON_CHARS_MAX = 300
URL_CHARS_MAX = 2_000
AT_A_TIME = 20
"""Deliveries that are being posted at a time."""
AT_A_TIME_TO_A_HOST = 4
"""Deliveries to one host at a time. A host gets one at a time while it does not reply, and while
half of `AT_A_TIME` are being posted, so that a few slow hosts do not block the others."""
TIMEOUT_S = 10.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 600.0
FORGET_AGAIN_S = 1.0
"""Pause before the journal is asked again to forget a delivery."""
CLOSE_S = 1.0
"""Time in which finished deliveries are forgotten when the master ends."""
REPLY_BYTES_MAX = 10_000_000
"""A reply is thrown away; a longer one is not even read."""


def check_notify(url: str) -> None:
    """Check that a URL can be posted to.

    Raises:
        InvalidRequest: it is not ``http://host…`` or ``https://host…``, or is too long.
    """
    if len(url) > URL_CHARS_MAX:
        raise InvalidRequest(f"notify is too long: {len(url)} characters > {URL_CHARS_MAX}")
    wrong = InvalidRequest("notify: http://host/… or https://host/… is expected")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise wrong
    if parts.netloc.endswith(":"):
        raise wrong


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The ``X-Dte-Signature`` of a body and a timestamp."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""  # An unchecked URL; posting to it will fail and say why.


def _look_at(fetching: asyncio.Future[HTTPResponse]) -> None:
    """Take note of the error of a request, so that it is no news if nobody waits any more."""
    if not fetching.cancelled():
        fetching.exception()


@dataclass(slots=True, eq=False)
class _Delivery:
    """The end of a job, at `since` on the core's clock, to be posted to a URL."""

    number: int
    url: str
    since: float
    failures: int = 0  # Replies that did not take it.


@dataclass(slots=True, eq=False)
class _Host:
    """A receiver of deliveries.

    Attributes:
        name: the host, with its port.
        waiting: deliveries that can be posted.
        active: the number of deliveries that are being posted.
        failures: times in a row without a reply.
        resting: nothing is posted for a while, because there was no reply.
        in_line: it is queued to be looked at.
        deliveries: the number of all its unfinished deliveries.
    """

    name: str
    waiting: deque[_Delivery] = field(default_factory=deque)
    active: int = 0
    failures: int = 0
    resting: bool = False
    in_line: bool = False
    deliveries: int = 0


class Webhooks:
    """Posts the ends of jobs until they are taken.

    Args:
        body: gives the body for a job by its number. It raises `NotFound` if the job is deleted
            and `Unavailable` if the journal cannot be read.
        forget: called when a delivery is finished; may raise `Unavailable`.
        timeout_s: the time that a receiver has for its reply.
    """

    def __init__(
        self,
        body: Callable[[int], Awaitable[bytes]],
        forget: Callable[[int], Awaitable[None]],
        *,
        webhook_secret: str,
        webhook_for_s: float,
        webhooks_max: int,
        timeout_s: float = TIMEOUT_S,
        pause_first_s: float = BACKOFF_FIRST_S,
        random: Random | None = None,
    ) -> None:
        self._body = body
        self._forget = forget
        self._secret = webhook_secret
        self._for_s = webhook_for_s
        self._max = webhooks_max
        self._timeout_s = timeout_s
        self._pause_first_s = pause_first_s
        self._random = random or Random()
        self._client: AsyncHTTPClient | None = None
        self._count = 0
        self._hosts: dict[str, _Host] = {}
        self._line: deque[_Host] = deque()
        self._posting: set[asyncio.Task[None]] = set()
        self._to_forget: deque[int] = deque()
        self._forgetting: asyncio.Task[None] | None = None
        self._closed = False
        self._limited = LimitedLog(log)

    def __len__(self) -> int:
        """The number of unfinished deliveries."""
        return self._count

    def ensure_room(self) -> None:
        """Raise `Busy` if too many deliveries are unfinished."""
        if self._count >= self._max:
            raise Busy(f"{self._count} webhooks are undelivered, of {self._max} (webhooks_max)")

    def restore(self, deliveries: Iterable[tuple[int, str, float]]) -> None:
        """Take over the deliveries of the journal."""
        for number, url, since in deliveries:
            self.add(number, url, since)

    def add(self, number: int, url: str, since: float) -> None:
        """Post the end of a job, at `since` on the core's clock, to a URL."""
        if self._closed:
            return
        name = _host_of(url)
        host = self._hosts.setdefault(name, _Host(name))
        self._count += 1
        host.deliveries += 1
        host.waiting.append(_Delivery(number, url, since))
        self._queue(host)

    async def close(self) -> None:
        """Stop; unfinished deliveries are posted again after the next start."""
        self._closed = True
        self._limited.close()
        posting = list(self._posting)
        for task in posting:
            task.cancel()
        await asyncio.gather(*posting, return_exceptions=True)
        if (forgetting := self._forgetting) is not None:
            await asyncio.wait((forgetting,), timeout=CLOSE_S)
            forgetting.cancel()
        if self._client is not None:
            self._client.close()

    # Hosts in turns

    def _queue(self, host: _Host) -> None:
        if not host.in_line:
            host.in_line = True
            if not self._line:
                asyncio.get_running_loop().call_soon(self._begin)
            self._line.append(host)

    def _begin(self) -> None:
        """Begin to post what may be posted now, one delivery of each host in turn."""
        while self._line and len(self._posting) < AT_A_TIME and not self._closed:
            host = self._line.popleft()
            host.in_line = False
            if host.resting or not host.waiting or not self._may_have_more(host):
                continue  # It is queued again when that changes.
            host.active += 1
            posting = self._post(host, host.waiting.popleft())
            task = asyncio.get_running_loop().create_task(posting)
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)
            if host.waiting:
                host.in_line = True
                self._line.append(host)

    def _may_have_more(self, host: _Host) -> bool:
        if not host.active:
            return True
        few = len(self._posting) < AT_A_TIME // 2
        return few and not host.failures and host.active < AT_A_TIME_TO_A_HOST

    def _after(self, host: _Host) -> None:
        if not host.deliveries and not host.active and not host.resting:
            self._hosts.pop(host.name, None)
        else:
            self._queue(host)
        self._begin()

    # Posting

    async def _post(self, host: _Host, delivery: _Delivery) -> None:
        """Post a delivery, and finish it or try it again."""
        try:
            await self._post_once(host, delivery)
        except NotFound:
            self._give_up(host, delivery, "the job is deleted")
        except Unavailable:  # The journal cannot be read.
            self._try_again(host, delivery)
        finally:
            host.active -= 1
            asyncio.get_running_loop().call_soon(self._after, host)

    async def _post_once(self, host: _Host, delivery: _Delivery) -> None:
        body = await self._body(delivery.number)
        try:
            status = await self._status_of(delivery.url, body)
        except Exception as error:  # Refused, silent, not HTTP, unknown host, invalid certificate.
            self._no_reply(host, delivery, str(error) or type(error).__name__)
            return
        host.failures = 0
        if 200 <= status < 300:
            self._finish(host, delivery)
        elif status == HTTPStatus.GONE or self._is_late(delivery):
            self._give_up(host, delivery, f"status {status}")
        else:
            self._try_again(host, delivery)

    async def _status_of(self, url: str, body: bytes) -> int:
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Dte-Timestamp": timestamp}
        if self._secret:
            headers["X-Dte-Signature"] = signature(self._secret, timestamp, body)
        if self._client is None:
            options = {"max_clients": AT_A_TIME, "max_body_size": REPLY_BYTES_MAX}
            self._client = AsyncHTTPClient(force_instance=True, **options)
        request = HTTPRequest(
            url,
            method="POST",
            headers=headers,
            body=body,
            user_agent=f"dte/{__version__}",
            connect_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            follow_redirects=False,
            decompress_response=False,
            streaming_callback=lambda chunk: None,
        )
        fetching = asyncio.ensure_future(self._client.fetch(request, raise_error=False))
        fetching.add_done_callback(_look_at)
        # Tornado would log an error if a request that is cancelled fails later.
        return (await asyncio.shield(fetching)).code

    def _no_reply(self, host: _Host, delivery: _Delivery, reason: str) -> None:
        """Leave a host alone that does not reply: its deliveries wait."""
        host.waiting.append(delivery)
        late = {each for each in host.waiting if self._is_late(each)}
        if late:
            host.waiting = deque(each for each in host.waiting if each not in late)
            self._log(GIVEN_UP, "gave up %s webhooks to %s: %s", str(len(late)), host.name, reason)
            for each in late:
                self._finish(host, each)
        if host.resting:
            return  # Several deliveries were under way.
        host.failures += 1
        host.resting = True
        if host.failures == 1:
            self._log("pauses of receivers", "webhooks to %s are paused: %s", host.name, reason)
        self._pause(host, None, host.failures)

    def _try_again(self, host: _Host, delivery: _Delivery) -> None:
        delivery.failures += 1
        self._pause(host, delivery, delivery.failures)

    def _is_late(self, delivery: _Delivery) -> bool:
        return asyncio.get_running_loop().time() - delivery.since > self._for_s

    def _give_up(self, host: _Host, delivery: _Delivery, reason: str) -> None:
        # Without the whole URL, which may have secrets.
        text = "gave up the webhook of job %s to %s: %s"
        self._log(GIVEN_UP, text, str(delivery.number), host.name, reason)
        self._finish(host, delivery)

    def _log(self, kind: str, text: str, *values: str) -> None:
        shown = (one_line(value, REASON_CHARS_MAX) for value in values)
        self._limited.add(kind, logging.WARNING, text, *shown)

    def _finish(self, host: _Host, delivery: _Delivery) -> None:
        """A delivery was taken or given up: forget it."""
        self._count -= 1
        host.deliveries -= 1
        self._to_forget.append(delivery.number)
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget_all())

    async def _forget_all(self) -> None:
        while self._to_forget:
            try:
                await self._forget(self._to_forget[0])
                self._to_forget.popleft()
            except Unavailable:
                await asyncio.sleep(FORGET_AGAIN_S)
        self._forgetting = None

    # Pauses

    def _pause(self, host: _Host, delivery: _Delivery | None, failures: int) -> None:
        """Pause before a delivery is posted again, or, without one, before anything to a host."""
        pause_s = backoff_s(self._random, failures, self._pause_first_s, BACKOFF_MAX_S)
        asyncio.get_running_loop().call_later(pause_s, self._resume, host, delivery)

    def _resume(self, host: _Host, delivery: _Delivery | None) -> None:
        if delivery is None:
            host.resting = False
        else:
            host.waiting.append(delivery)
        self._after(host)
