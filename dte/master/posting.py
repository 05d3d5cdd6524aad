"""Posts one webhook: the check of its URL, its signature, and the request.

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
import time
from functools import lru_cache
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from dte import __version__
from dte.core.errors import InvalidRequest

URL_CHARS_MAX = 2_000
URLS_NOTED_MAX = 1_000
"""URLs that were checked last: many jobs of a request often have the same."""
TIMEOUT_S = 10.0
REPLY_BYTES_MAX = 10_000_000
"""A reply is thrown away; a longer one is not even read."""


@lru_cache(maxsize=URLS_NOTED_MAX)
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


class Poster:
    """Posts webhooks.

    Args:
        secret: signs them; "" for no signature.
        at_a_time: the most requests at a time.
        timeout_s: the time that a receiver has for its reply.
    """

    def __init__(self, secret: str, at_a_time: int, timeout_s: float = TIMEOUT_S) -> None:
        self._secret = secret
        self._at_a_time = at_a_time
        self._timeout_s = timeout_s
        self._client: AsyncHTTPClient | None = None

    async def post(self, url: str, body: bytes) -> int:
        """Post a body, and return the status of the reply.

        Raises:
            Exception: of any kind, if no reply comes.
        """
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Dte-Timestamp": timestamp}
        if self._secret:
            headers["X-Dte-Signature"] = signature(self._secret, timestamp, body)
        if self._client is None:
            options = {"max_clients": self._at_a_time, "max_body_size": REPLY_BYTES_MAX}
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
        await asyncio.wait((fetching,))
        return fetching.result().code

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _look_at(fetching: asyncio.Future[HTTPResponse]) -> None:
    """Take note of the error of a request, so that it is no news if nobody waits any more."""
    if not fetching.cancelled():
        fetching.exception()
