"""Retries of requests without a reply.

Masters restart and connections break. Every request can be repeated safely: queries change nothing,
and the master recognises a submission by its key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from dte.client.errors import TlsFailed, Unreachable
from dte.client.exchange import (
    LASTING,
    Attempt,
    Attempts,
    Exchange,
    NoReply,
    Request,
    Response,
    advised,
    error_of,
    is_gone,
)
from dte.core.errors import DteError, Unauthorized, Unavailable, WaitTooLong
from dte.wire.access import Access
from dte.wire.current_call import call_header

T = TypeVar("T")

log = logging.getLogger("dte.client")

PATIENCE_S = 30.0
"""The time to retry a master that has answered before; a restart with many jobs takes less."""
STRANGER_PATIENCE_S = 3.0
"""The time to retry a master that has never answered; its URL may be wrong."""
HELD_S = 1.0
"""A peer that holds a request for this long before the connection breaks counts as a master."""
PAUSE_S = 0.1
"""The first pause between attempts; each further one is twice as long."""
PAUSE_MAX_S = 3.0
RETRY_AFTER_MAX_S = 10.0
"""The longest pause that the client grants a master that asks for one."""
EXPLAINED_S = 2.0
"""The time after which a caller learns that a request is retried."""
EXPLAIN_EVERY_S = 10.0
SILENCE_S = 60.0
"""The longest silence of a master, in addition to the time that it holds a request."""
SILENCE_MIN_S = 5.0
"""The longest silence of a master for a caller with a short timeout."""


@dataclass(slots=True)
class Contact:
    """A client's experience with its master.

    Attributes:
        patience_s: the time to retry the master once it has answered.
        access: its URL, and what is sent with each request.
        answered: the master has answered before.
        explained_at: the time when it was logged last that the master is retried.
    """

    patience_s: float = PATIENCE_S
    access: Access | None = None
    answered: bool = False
    explained_at: float = float("-inf")

    def __post_init__(self) -> None:
        if not self.patience_s >= 0:
            raise ValueError(
                f"patience_s is {self.patience_s}; a number of seconds from 0 is expected"
            )

    @property
    def is_plain(self) -> bool:
        """True if requests are sent without TLS."""
        return self.access is not None and not self.access.address.is_secure

    def shown(self) -> Mapping[str, str]:
        """The headers with the token that is sent now."""
        return {} if self.access is None else self.access.headers()

    def may_ask_again(self, refusal: DteError, shown: Mapping[str, str]) -> bool:
        """True if the token that was shown is refused, and has been replaced since."""
        is_refused = isinstance(refusal, Unauthorized)
        return is_refused and self.access is not None and self.access.renew(shown)

    def explain(self, failure: NoReply | Unavailable, now: float, left_s: float) -> None:
        """Log that the master is retried, unless it was logged just now or it ends soon."""
        if left_s > EXPLAINED_S and now >= self.explained_at + EXPLAIN_EVERY_S:
            self.explained_at = now
            log.warning("retrying for up to %.0f s: %s", left_s, failure)


class Patience:
    """The time and the pauses for the attempts of one request.

    Args:
        contact: the client's experience with the master.
        deadline_at: the end of the caller's timeout, by the clock of `pause_s`.
    """

    def __init__(self, contact: Contact, deadline_at: float) -> None:
        self._contact = contact
        self._held = False
        self._deadline_at = deadline_at
        self._failed_at: float | None = None
        self._next_s = PAUSE_S

    @property
    def known(self) -> bool:
        """True if the URL is known to be that of a master."""
        return self._held or self._contact.answered

    def pause_s(self, failure: NoReply | Unavailable, now: float, took_s: float) -> float | None:
        """Return the pause after an attempt that failed now, after `took_s`; None to give up."""
        retry_after_s = 0.0
        if isinstance(failure, Unavailable):
            retry_after_s = min(failure.retry_after_s, RETRY_AFTER_MAX_S)
        elif failure.silent:
            return None  # Each further attempt would take a minute.
        elif failure.insecure and not self.known:
            return None
        elif failure.sent and took_s >= HELD_S:
            self._held = True
            self._failed_at = None  # The master was back, so earlier failures do not count.
        if self._failed_at is None:
            self._failed_at, self._next_s = now, PAUSE_S
        patience_s = self._contact.patience_s
        if not self.known:
            patience_s = min(patience_s, STRANGER_PATIENCE_S)
        end = min(self._failed_at + patience_s, self._deadline_at)
        if now >= end:
            return None
        pause_s = max(self._next_s, retry_after_s)
        self._next_s = min(2 * self._next_s, PAUSE_MAX_S)
        pause_s = min(pause_s, end - now)  # The last attempt happens at the very end.
        if now + pause_s >= self._failed_at + EXPLAINED_S:
            self._contact.explain(failure, now, end - now)
        return pause_s


def patiently(exchange: Exchange[T], contact: Contact) -> Attempts[T]:
    """Perform an exchange, with retries of its requests.

    Raises:
        Unreachable: the master did not reply for as long as the client retried.
        WaitTimeout: the caller's timeout ended while a request waited for the end of jobs.
    """
    try:
        request = next(exchange)
        while True:
            request = exchange.send((yield from _send(request, contact)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except Unauthorized as refusal:
        raise advised(refusal, contact.access) from None


def _send(request: Request, contact: Contact) -> Attempts[Response]:
    """Send a request until there is a final response."""
    patience = Patience(contact, request.deadline.at)
    hold_s, pause_s = request.hold_s, min(request.pause_s, request.deadline.left_s())
    arrived = False
    while True:
        sent_at = time.monotonic() + pause_s
        shown = contact.shown()
        failure: NoReply | Unavailable
        try:
            response = yield _attempt(request, hold_s, pause_s)
        except NoReply as error:
            failure, arrived = error, arrived or error.sent
            if error.insecure and contact.access is not None:
                contact.access.renew_tls()
        else:
            refusal = None if response.is_good else error_of(response)
            is_by_proxy = is_gone(response.status, refusal)
            contact.answered = contact.answered or not is_by_proxy
            if refusal is not None and contact.may_ask_again(refusal, shown):
                pause_s = 0.0
                continue
            if isinstance(refusal, WaitTooLong) and refusal.wait_max_s < hold_s:
                hold_s, pause_s = refusal.wait_max_s, 0.0  # This master holds requests for less.
                continue
            if is_by_proxy:
                failure, arrived = NoReply(f"no reply from a master: {refusal}", sent=True), True
            elif not isinstance(refusal, Unavailable) or isinstance(refusal, LASTING):
                return response
            else:
                failure = refusal
        now = time.monotonic()
        again_s = patience.pause_s(failure, now, now - sent_at)
        if again_s is None:
            raise _given_up(request, failure, contact, patience, arrived) from failure.__cause__
        pause_s = again_s


def _attempt(request: Request, hold_s: float, pause_s: float) -> Attempt:
    left_s = max(0.0, request.deadline.left_s() - pause_s)
    wait_s = min(hold_s, left_s)
    sign = "&" if "?" in request.path else "?"
    return Attempt(
        request.method,
        f"{request.path}{sign}wait={wait_s!r}" if wait_s else request.path,
        request.body,
        {**request.headers, **call_header()} if wait_s else request.headers,
        min(SILENCE_S, max(SILENCE_MIN_S, left_s)) + wait_s,
        pause_s,
    )


def _given_up(
    request: Request,
    failure: NoReply | Unavailable,
    contact: Contact,
    patience: Patience,
    arrived: bool,
) -> DteError:
    silent = isinstance(failure, NoReply) and failure.silent
    if request.jobs and patience.known and not silent and not request.deadline.left_s():
        return request.deadline.missed(request.jobs)
    if isinstance(failure, Unavailable):
        return failure
    if failure.insecure:
        return TlsFailed(str(failure))
    text = str(failure)
    if failure.sent and not silent and not patience.known and contact.is_plain:
        # Some servers with TLS close such a connection without a word.
        text += "; if that master has TLS, write https://"
    if arrived and request.method == "POST":
        text += "; the request may or may not have been accepted"
    return Unreachable(text)
