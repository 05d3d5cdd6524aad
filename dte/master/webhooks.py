"""Notices: telling a URL that a job has ended.

A notice is a POST of what ``GET /job/{id}`` gives. Any 2xx takes it, 410 Gone refuses it for good,
and all else, a redirect too, is tried again after growing pauses, for a day. It comes at least
once: the receiver should know by ``job_id`` what it has had already.

Where the master has a secret, a notice is signed. The receiver computes the HMAC-SHA256, with the
secret as the key, of what it received: the header ``X-Dte-Timestamp``, a full stop, and the body,
byte by byte. In hex, that is what ``X-Dte-Signature`` has after ``sha256=``::

    signed = request.headers["X-Dte-Timestamp"].encode() + b"." + request.body
    expected = "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()
    authentic = hmac.compare_digest(expected, request.headers["X-Dte-Signature"])
    recent = abs(time.time() - int(request.headers["X-Dte-Timestamp"])) < 300

Each try has a timestamp of its own, so one that is older than some minutes is a copy.
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
from heapq import heappop, heappush
from http import HTTPStatus
from itertools import count
from random import Random
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from dte import __version__
from dte.core.backoff import backoff_s
from dte.core.errors import Busy, InvalidRequest, NotFound, Unavailable

log = logging.getLogger("dte.master")

URL_CHARS_MAX = 2_000
NOTIFY_FOR_S = 86_400.0
NOTICES_MAX = 100_000
AT_A_TIME = 20
"""Notices that are being posted at a time."""
AT_A_TIME_TO_A_HOST = 4
"""How many of these go to one host. It gets one while half of all are under way, so that a few
hosts that are slow do not hold up the others, and while it does not reply."""
TIMEOUT_S = 10.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 600.0
FORGET_AGAIN_S = 1.0
"""How long after a failure the record is asked again to forget a notice."""
CLOSE_S = 1.0
"""How long notices that have been taken are forgotten before the end."""
REPLY_BYTES_MAX = 10_000_000
"""A reply is thrown away; a longer one is not even read."""


def check_notify(url: str) -> None:
    """Check that notices can be sent to a URL.

    Raises:
        InvalidRequest: it is none of ``http://host…`` or ``https://host…``, or is too long.
    """
    if len(url) > URL_CHARS_MAX:
        raise InvalidRequest(f"notify has {len(url)} characters; up to {URL_CHARS_MAX} are taken")
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
    """What ``X-Dte-Signature`` says of a body that is sent at a time."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""  # It has not been checked; that it is wrong will be told when it is posted.


@dataclass(slots=True, eq=False)
class _Notice:
    """That a job has ended, which somebody is to be told.

    Attributes:
        since: when it ended, on the core's clock.
        failures: how often it was answered, but not taken.
    """

    number: int
    url: str
    since: float
    failures: int = 0


@dataclass(slots=True, eq=False)
class _Host:
    """Where notices go to.

    Attributes:
        name: with its port.
        waiting: notices that can be posted.
        active: how many are being posted.
        failures: how often in a row there was no reply.
        resting: whether it is left alone for a while, because there was none.
        in_line: whether it is to be looked at.
        notices: how many of its notices there are.
    """

    name: str
    waiting: deque[_Notice] = field(default_factory=deque)
    active: int = 0
    failures: int = 0
    resting: bool = False
    in_line: bool = False
    notices: int = 0


class Notices:
    """Posts notices until they are taken.

    Args:
        body: gives what is posted for a job by its number: `NotFound` if nobody knows it any more,
            `Unavailable` if it cannot be read now.
        forget: called when a notice need not be known any more; may raise `Unavailable`.
        secret: signs notices; "" for none.
        notify_for_s: how long after its job's end a notice is tried again.
        notices_max: how many may wait.
        timeout_s: how long a receiver has for its reply.
        pause_first_s: the first pause after a failure.
        random: for the jitter of pauses.
    """

    def __init__(
        self,
        body: Callable[[int], Awaitable[bytes]],
        forget: Callable[[int], Awaitable[None]],
        *,
        secret: str = "",
        notify_for_s: float = NOTIFY_FOR_S,
        notices_max: int = NOTICES_MAX,
        timeout_s: float = TIMEOUT_S,
        pause_first_s: float = BACKOFF_FIRST_S,
        random: Random | None = None,
    ) -> None:
        self._body = body
        self._forget = forget
        self._secret = secret
        self._notify_for_s = notify_for_s
        self._notices_max = notices_max
        self._timeout_s = timeout_s
        self._pause_first_s = pause_first_s
        self._random = random or Random()
        self._client: AsyncHTTPClient | None = None
        self._count = 0
        self._hosts: dict[str, _Host] = {}
        self._line: deque[_Host] = deque()
        self._pausing: list[tuple[float, int, _Host, _Notice | None]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self._to_forget: deque[int] = deque()
        self._forgetting: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many have not been taken, nor given up."""
        return self._count

    def ensure_room(self) -> None:
        """Check that another job may be accepted that is to be told of.

        Raises:
            Busy: too many notices wait.
        """
        if self._count >= self._notices_max:
            raise Busy(
                f"{self._count} notices wait for their receivers to take them; there may be "
                f"{self._notices_max} (notices_max)"
            )

    def restore(self, notices: Iterable[tuple[int, str, float]]) -> None:
        """Take over the notices of a record: job, URL, and when the job ended."""
        for number, url, since in notices:
            self.add(number, url, since)

    def add(self, number: int, url: str, since: float) -> None:
        """Tell a URL that a job has ended.

        Args:
            number: the job's.
            since: when it ended, on the core's clock.
        """
        if self._closed:
            return
        name = _host_of(url)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name)
        self._count += 1
        host.notices += 1
        host.waiting.append(_Notice(number, url, since))
        self._look_at(host)

    async def close(self) -> None:
        """Stop; what has not been taken is posted again after the next start."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        posting = list(self._posting)
        for task in posting:
            task.cancel()
        await asyncio.gather(*posting, return_exceptions=True)
        forgetting = self._forgetting
        if forgetting is not None:
            await asyncio.wait((forgetting,), timeout=CLOSE_S)
            forgetting.cancel()
        if self._client is not None:
            self._client.close()

    # Whose turn it is

    def _look_at(self, host: _Host) -> None:
        if not host.in_line:
            host.in_line = True
            if not self._line:
                asyncio.get_running_loop().call_soon(self._begin)
            self._line.append(host)

    def _begin(self) -> None:
        """Post what may be posted now, of each host in line one after the other."""
        while self._line and len(self._posting) < AT_A_TIME and not self._closed:
            host = self._line.popleft()
            host.in_line = False
            if host.resting or not host.waiting or not self._may_have_more(host):
                continue  # It is looked at again when that changes.
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
        if not host.notices and not host.active and not host.resting:
            self._hosts.pop(host.name, None)
        else:
            self._look_at(host)
        self._begin()

    # Posting

    async def _post(self, host: _Host, notice: _Notice) -> None:
        """Post a notice, and see what follows from that."""
        try:
            await self._post_once(host, notice)
        except NotFound:
            self._give_up(host, notice, "the job is deleted")
        except Unavailable:  # The journal cannot be read.
            self._try_again(host, notice)
        finally:
            host.active -= 1
            asyncio.get_running_loop().call_soon(self._after, host)

    async def _post_once(self, host: _Host, notice: _Notice) -> None:
        body = await self._body(notice.number)
        try:
            status = await self._status_of(notice.url, body)
        except Exception as error:  # Refused, silent, no HTTP, no such name, no valid certificate.
            self._no_reply(host, notice, str(error) or type(error).__name__)
            return
        host.failures = 0
        if 200 <= status < 300:
            self._settle(host, notice)
        elif status == HTTPStatus.GONE or self._is_late(notice):
            self._give_up(host, notice, f"the answer is {status}")
        else:
            self._try_again(host, notice)

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
        response = await self._client.fetch(request, raise_error=False)
        return response.code

    def _no_reply(self, host: _Host, notice: _Notice, reason: str) -> None:
        """A host that does not reply is left alone, and all that is for it waits."""
        host.waiting.append(notice)
        late = {each for each in host.waiting if self._is_late(each)}
        if late:
            host.waiting = deque(each for each in host.waiting if each not in late)
            log.warning("%d notices for %s are given up: %s", len(late), host.name, reason)
            for each in late:
                self._settle(host, each)
        if host.resting:
            return  # Several were under way.
        host.failures += 1
        host.resting = True
        if host.failures == 1:
            log.warning("notices for %s wait: %s", host.name, reason)
        self._pause(host, None, host.failures)

    def _try_again(self, host: _Host, notice: _Notice) -> None:
        notice.failures += 1
        self._pause(host, notice, notice.failures)

    def _is_late(self, notice: _Notice) -> bool:
        return time.monotonic() - notice.since > self._notify_for_s

    def _give_up(self, host: _Host, notice: _Notice, reason: str) -> None:
        # Without the whole URL, which may have secrets.
        log.warning("the notice of job %d for %s is given up: %s", notice.number, host.name, reason)
        self._settle(host, notice)

    def _settle(self, host: _Host, notice: _Notice) -> None:
        """A notice has been taken, or given up."""
        self._count -= 1
        host.notices -= 1
        self._to_forget.append(notice.number)
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

    def _pause(self, host: _Host, notice: _Notice | None, failures: int) -> None:
        """Wait before a notice is posted again, or, without one, anything to a host."""
        pause = backoff_s(self._random, failures, self._pause_first_s, BACKOFF_MAX_S)
        moment = time.monotonic() + pause
        heappush(self._pausing, (moment, next(self._order), host, notice))
        self._set_timer()

    def _set_timer(self) -> None:
        if not self._pausing or self._closed:
            return
        moment = self._pausing[0][0]
        if self._timer is not None:
            if self._timer.when() <= moment:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(moment, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._pausing and self._pausing[0][0] <= now:
            _, _, host, notice = heappop(self._pausing)
            if notice is None:
                host.resting = False
            else:
                host.waiting.append(notice)
            self._after(host)
        self._set_timer()
