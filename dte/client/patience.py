"""When a request is sent again, and for how long.

Masters restart, and connections break. Every request can be sent again: a question changes nothing,
and the master knows a submission by its key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar

from dte.client.errors import Unreachable
from dte.client.exchange import (
    Attempt,
    Attempts,
    Exchange,
    NoReply,
    Request,
    Response,
    error_of,
)
from dte.core.errors import DteError, StorageFull, Unavailable, WaitTooLong

T = TypeVar("T")

PATIENCE_S = 30.0
"""For how long a master that has answered before is tried: one with many jobs restarts in less."""
STRANGER_PATIENCE_S = 3.0
"""For how long one that has never answered is tried: its URL may be wrong."""
HELD_S = 1.0
"""Who keeps a request for so long before the connection breaks is no stranger."""
PAUSE_S = 0.1
"""The first pause before a request is sent again; each further one is twice as long."""
PAUSE_MAX_S = 3.0
RETRY_AFTER_MAX_S = 10.0
"""The longest pause that a master can ask for."""
SILENCE_S = 60.0
"""Silence after which there will be no response, besides the time that a request is held."""
SILENCE_MIN_S = 5.0
"""The same for those who have little time: they do not wait long for a master that has stopped."""


@dataclass(slots=True)
class Contact:
    """A client's standing with its master.

    Attributes:
        patience_s: for how long the master is tried once it has answered.
        answered: whether it has.
    """

    patience_s: float = PATIENCE_S
    answered: bool = False

    def __post_init__(self) -> None:
        if not self.patience_s >= 0:
            raise ValueError(
                f"patience_s is {self.patience_s}; a number of seconds from 0 is expected"
            )


class Patience:
    """For how long one request is tried, and with what pauses.

    Args:
        contact: whether the master has answered before, and what that is worth.
        deadline_at: when the caller's time is over, by the clock that `pause_s` is told.
    """

    def __init__(self, contact: Contact, deadline_at: float) -> None:
        self._contact = contact
        self._held = False
        self._deadline_at = deadline_at
        self._failed_at: float | None = None
        self._next_s = PAUSE_S

    @property
    def known(self) -> bool:
        """Whether a master is there, or was."""
        return self._held or self._contact.answered

    def pause_s(self, failure: NoReply | Unavailable, now: float, took_s: float) -> float | None:
        """The time to wait before the request is sent again; None when it is not.

        Args:
            failure: of the last attempt.
            now: when it failed.
            took_s: how long it took.
        """
        retry_after_s = 0.0
        if isinstance(failure, Unavailable):
            retry_after_s = min(failure.retry_after_s, RETRY_AFTER_MAX_S)
        elif failure.silent:
            return None  # Each time would take a minute.
        elif failure.sent and took_s >= HELD_S:
            self._held = True
            self._failed_at = None  # It was there again: what failed before is past.
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
        return min(pause_s, end - now)  # The last attempt is made at the very end.


def patiently(exchange: Exchange[T], contact: Contact) -> Attempts[T]:
    """A call with each of its requests sent as often as needed.

    Raises:
        Unreachable: no reply came for as long as the master is worth to be tried.
        WaitTimeout: the caller's time is over while a request waits for the end of jobs.
        DteError: what the call raises.
    """
    try:
        request = next(exchange)
        while True:
            request = exchange.send((yield from _send(request, contact)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _send(request: Request, contact: Contact) -> Attempts[Response]:
    """Send a request until there is a response that can be taken as it is."""
    patience = Patience(contact, request.deadline.at)
    hold_s, pause_s = request.hold_s, min(request.pause_s, request.deadline.left_s())
    arrived = False
    while True:
        sent_at = time.monotonic() + pause_s
        failure: NoReply | Unavailable
        try:
            response = yield _attempt(request, hold_s, pause_s)
        except NoReply as error:
            failure, arrived = error, arrived or error.sent
        else:
            contact.answered = True
            refusal = None if response.is_good else error_of(response)
            if isinstance(refusal, WaitTooLong) and refusal.wait_max_s < hold_s:
                hold_s, pause_s = refusal.wait_max_s, 0.0  # This master holds none for so long.
                continue
            # A full disk takes longer than anybody's patience.
            if not isinstance(refusal, Unavailable) or isinstance(refusal, StorageFull):
                return response
            failure = refusal
        now = time.monotonic()
        again_s = patience.pause_s(failure, now, now - sent_at)
        if again_s is None:
            raise _given_up(request, failure, patience.known, arrived) from failure.__cause__
        pause_s = again_s


def _attempt(request: Request, hold_s: float, pause_s: float) -> Attempt:
    left_s = max(0.0, request.deadline.left_s() - pause_s)
    wait_s = min(hold_s, left_s)
    sign = "&" if "?" in request.path else "?"
    return Attempt(
        request.method,
        f"{request.path}{sign}wait={wait_s!r}" if wait_s else request.path,
        request.body,
        request.headers,
        min(SILENCE_S, max(SILENCE_MIN_S, left_s)) + wait_s,
        pause_s,
    )


def _given_up(
    request: Request, failure: NoReply | Unavailable, known: bool, arrived: bool
) -> DteError:
    """What to raise when a request is not sent again."""
    silent = isinstance(failure, NoReply) and failure.silent
    if request.jobs and known and not silent and not request.deadline.left_s():
        return request.deadline.missed(request.jobs)
    if isinstance(failure, Unavailable):
        return failure
    doubt = "; whether it was accepted is not known" if arrived and request.method == "POST" else ""
    return Unreachable(f"{failure}{doubt}")
