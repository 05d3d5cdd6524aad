"""Posts one webhook: its signatures, and the request.

A master that has a secret signs deliveries. Each signature is an HMAC-SHA256 with the secret as the
key, and covers the body byte by byte:

* ``X-Dte-Signature``, in hex after ``sha256=``: of ``X-Dte-Timestamp``, a full stop, and the body.
* ``X-Dte-Url-Signature``, written like that: of ``X-Dte-Timestamp``, a full stop, the URL as the
  job has it, a full stop, and the body. A client can have the master sign a job of its own for any
  URL, but for no other URL than the one to which it is posted.
* ``webhook-signature``, in Base64 after ``v1,``: of ``webhook-id``, a full stop,
  ``webhook-timestamp``, a full stop, and the body. This is the form of Standard Webhooks, whose key
  is what follows ``whsec_`` in a secret, decoded from Base64.

Each try has its own timestamp, so a delivery that is older than a few minutes is a replay.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.netutil import Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from dte import __version__
from dte.master.destinations import Destinations, SocketAddress

TIMEOUT_S = 10.0
REPLY_BYTES_MAX = 10_000_000
"""A reply is thrown away; a longer one is not even read."""
STANDARD_PREFIX = "whsec_"
"""Begins a secret that is written in the form of Standard Webhooks."""


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook for a receiver; its id is the same for each try."""

    id: str
    body: bytes


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The ``X-Dte-Signature`` of a body and a timestamp."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def url_signature(secret: str, timestamp: str, url: str, body: bytes) -> str:
    """The ``X-Dte-Url-Signature`` of a body that is posted to a URL."""
    return signature(secret, f"{timestamp}.{url}", body)


def standard_signature(secret: str, timestamp: str, message: Message) -> str:
    """The ``webhook-signature`` of a message."""
    signed = f"{message.id}.{timestamp}.".encode() + message.body
    digest = hmac.new(_standard_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _standard_key(secret: str) -> bytes:
    if secret.startswith(STANDARD_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


class Poster:
    """Posts webhooks.

    Args:
        secret: signs them; "" for no signature.
        destinations: decides where they may go.
        timeout_s: the time that a receiver has for its reply.
    """

    def __init__(
        self, secret: str, destinations: Destinations, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._secret = secret
        self._destinations = destinations
        self._timeout_s = timeout_s

    async def post(self, url: str, message: Message) -> int:
        """Post a message, and return the status of the reply.

        Raises:
            NotAllowed: nothing may be posted to the URL, or to the addresses of its host.
            Exception: of any kind, if no reply comes.
        """
        async with asyncio.timeout(self._timeout_s):
            addresses = await self._destinations.addresses(url)
            trusted = await asyncio.to_thread(trusted_by_system) if _is_https(url) else None
        request = HTTPRequest(
            url,
            method="POST",
            headers=self._headers(url, message),
            body=message.body,
            user_agent=f"dte/{__version__}",
            connect_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            follow_redirects=False,
            decompress_response=False,
            streaming_callback=lambda chunk: None,
            ssl_options=trusted,
        )
        # A client for each request, as each goes to addresses of its own.
        options = {"resolver": _Resolved(addresses), "max_body_size": REPLY_BYTES_MAX}
        client = SimpleAsyncHTTPClient(force_instance=True, **options)
        fetching = asyncio.ensure_future(client.fetch(request, raise_error=False))
        fetching.add_done_callback(_look_at)
        try:
            # Tornado would log an error if a request that is cancelled fails later.
            await asyncio.wait((fetching,))
        finally:
            client.close()
        return fetching.result().code

    def _headers(self, url: str, message: Message) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Dte-Timestamp": timestamp,
            "webhook-id": message.id,
            "webhook-timestamp": timestamp,
        }
        if self._secret:
            secret, body = self._secret, message.body
            headers["X-Dte-Signature"] = signature(secret, timestamp, body)
            headers["X-Dte-Url-Signature"] = url_signature(secret, timestamp, url, body)
            headers["webhook-signature"] = standard_signature(secret, timestamp, message)
        return headers


class _Resolved(Resolver):
    """Gives the addresses that were checked, so that the name is not resolved again."""

    def initialize(self, addresses: Sequence[SocketAddress]) -> None:
        self._addresses = list(addresses)

    async def resolve(self, *_name: Any, **_family: Any) -> list[SocketAddress]:
        return self._addresses


@cache
def trusted_by_system() -> ssl.SSLContext:
    """What the system trusts for certificates of servers. To read it takes long."""
    return ssl.create_default_context()


def _is_https(url: str) -> bool:
    return url[:6].lower() == "https:"


def _look_at(fetching: asyncio.Future[HTTPResponse]) -> None:
    """Take note of the error of a request, so that it is no news if nobody waits any more."""
    if not fetching.cancelled():
        fetching.exception()
