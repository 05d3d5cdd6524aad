"""What passes between a call and the shell that carries it.

A call yields each `Request` that it makes. `dte.client.patience` makes one or more `Attempt`s of
it, which a shell carries to the master. Back comes a `Response`, or a `NoReply` is thrown.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dte.client.errors import MasterFault, WaitTimeout
from dte.client.replies import ErrorReply
from dte.core.errors import (
    Busy,
    Conflict,
    DteError,
    FormulaError,
    InvalidRequest,
    NotFound,
    StorageFull,
    TooLarge,
    TryAgain,
    Unavailable,
    WaitTooLong,
)
from dte.wire.codec import Decoder, Malformed

T = TypeVar("T")

RETRY_AFTER_S = 1
"""When to try again, if the master does not say."""


class Deadline:
    """The end of the time that a caller gives.

    Args:
        timeout_s: seconds from now; None for no end.

    Attributes:
        at: by `time.monotonic`.

    Raises:
        ValueError: that is no number of seconds.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        self._timeout_s = float("inf") if timeout_s is None else timeout_s
        if not self._timeout_s >= 0:
            raise ValueError(f"timeout_s is {timeout_s}; a number of seconds from 0 is expected")
        self.at = time.monotonic() + self._timeout_s

    def left_s(self) -> float:
        """Seconds until then, from 0."""
        return max(0.0, self.at - time.monotonic())

    def missed(self, jobs: Sequence[int]) -> WaitTimeout:
        """The error that says that these jobs have not ended in time."""
        return WaitTimeout(list(jobs), self._timeout_s)


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks.

    Attributes:
        hold_s: for how long the master is to hold it, at most: until what it asks for has ended.
        deadline: when the caller's time is over. It is held until then at most, and not sent again.
        jobs: those whose end it waits for.
        pause_s: the time before it is sent.
    """

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hold_s: float = 0.0
    deadline: Deadline = field(default_factory=Deadline)
    jobs: Sequence[int] = ()
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What to send once.

    Attributes:
        timeout_s: silence after which there will be no response.
        pause_s: the time before it is sent.
    """

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    timeout_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether the master did what it was asked for."""
        return 200 <= self.status < 300


class NoReply(Exception):
    """What is thrown in the place of a response when none came. The text says why.

    Attributes:
        sent: there was a connection, so that the attempt may have arrived.
        silent: nobody hung up, but the attempt's time is over.
    """

    def __init__(self, text: str, *, sent: bool, silent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        self.silent = silent


Exchange = Generator[Request, Response, T]
Attempts = Generator[Attempt, Response, T]

_error: Decoder[ErrorReply] = Decoder(ErrorReply)

_ERRORS: dict[str, type[DteError]] = {
    error.code: error for error in (InvalidRequest, NotFound, Conflict, TooLarge)
}
_TRY_AGAIN: dict[str, type[TryAgain]] = {
    error.code: error for error in (Busy, Unavailable, StorageFull)
}


def read(decoder: Decoder[T], response: Response) -> T:
    """The value of a good response.

    Raises:
        DteError: what the master says is wrong.
    """
    if not response.is_good:
        raise error_of(response)
    try:
        return decoder.decode(response.body)
    except Malformed as error:
        raise MasterFault(f"not a reply of a dte master: {error}") from None


def error_of(response: Response) -> DteError:
    """What the master says is wrong."""
    try:
        reply = _error.decode(response.body)
    except Malformed:
        text = response.body[:200].decode(errors="replace").strip()
        return MasterFault(f"status {response.status}, not from a dte master: {text}")
    if reply.code == FormulaError.code:
        return FormulaError(reply.reason, reply.column, reply.caret, reply.index)
    if reply.code == WaitTooLong.code:
        return WaitTooLong("", reply.wait_max_s)
    if reply.code in _TRY_AGAIN:
        return _TRY_AGAIN[reply.code](reply.error, _retry_after_s(response))
    return _ERRORS.get(reply.code, MasterFault)(reply.error)


def _retry_after_s(response: Response) -> int:
    text = response.retry_after or ""
    return int(text) if text.isdecimal() and len(text) < 10 else RETRY_AFTER_S
