"""The messages between an exchange and the shell that performs it.

An exchange yields its `Request`s. `dte.client.patience` turns each into one or more `Attempt`s,
which a shell sends to the master. The shell passes back a `Response`, or throws a `NoReply`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dte.client.errors import MasterFault, TlsFailed, WaitTimeout
from dte.client.replies import ErrorReply
from dte.core import errors
from dte.wire.access import Access
from dte.wire.codec import Decoder, Malformed
from dte.wire.faults import plain
from dte.wire.misfits import explained

T = TypeVar("T")

BAD_GATEWAY, GATEWAY_TIMEOUT = 502, 504
REDIRECTED = (301, 302, 307, 308)
"""Statuses by which proxies lead to a URL with https; requests are not sent there by themselves."""
RETRY_AFTER_S = 1
"""The pause before a retry if the master gives none."""


class Deadline:
    """The end of a caller's timeout. It is given in seconds from now; None for no end.

    Attributes:
        at: the time of the end, by `time.monotonic`.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        self._timeout_s = float("inf") if timeout_s is None else timeout_s
        if not self._timeout_s >= 0:
            raise ValueError(f"timeout_s is {timeout_s}; a number of seconds from 0 is expected")
        self.at = time.monotonic() + self._timeout_s

    def left_s(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.at - time.monotonic())

    def missed(self, jobs: Sequence[int]) -> WaitTimeout:
        """Return the error for jobs that have not ended in time."""
        return WaitTimeout(list(jobs), self._timeout_s)


@dataclass(frozen=True, slots=True)
class Request:
    """A request of an exchange.

    Attributes:
        hold_s: the longest time that the master holds the request, until the jobs have ended.
        deadline: the end of the caller's timeout. The request is neither held nor repeated later.
        jobs: the jobs for whose end it waits.
        pause_s: the pause before it is sent.
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
    """A request to send once, after a pause. After a silence of `timeout_s` it has failed."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    timeout_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Response:
    """The master's reply to an attempt."""

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


class NoReply(Exception):
    """An attempt got no response. The text gives the reason.

    Attributes:
        sent: there was a connection, so the attempt may have arrived.
        silent: the connection is intact, but the attempt has timed out.
        insecure: there is no secure connection, and the next attempt will fail too.
    """

    def __init__(
        self, text: str, *, sent: bool, silent: bool = False, insecure: bool = False
    ) -> None:
        super().__init__(text)
        self.sent = sent
        self.silent = silent
        self.insecure = insecure


TOKEN_ADVICE = (
    "; a client takes its token from token=..., from DTE_TOKEN, or from the file that "
    "DTE_TOKEN_FILE names; the master's operator makes one: dte token new client NAME"
)

Exchange = Generator[Request, Response, T]
Attempts = Generator[Attempt, Response, T]

_error: Decoder[ErrorReply] = Decoder(ErrorReply)

_FINAL = (
    *(errors.InvalidRequest, errors.Unauthorized, errors.Forbidden, errors.NotFound),
    *(errors.Conflict, errors.TooLarge),
)
_ERRORS: dict[str, type[errors.DteError]] = {error.code: error for error in _FINAL}
_ERRORS["tls"] = TlsFailed  # The reply to plain HTTP of a port that speaks TLS.
_BY_PROXIES: dict[int, type[errors.DteError]] = {
    error.status: error for error in (errors.Unauthorized, errors.Forbidden, errors.TooLarge)
}
"""The errors that a proxy in front of a master gives in words of its own."""
LASTING = (errors.StorageFull, errors.JournalDamaged)
"""Errors of a master that a retry does not outlast."""
_TEMPORARY = (errors.Busy, errors.Unavailable, *LASTING)
_TRY_AGAIN: dict[str, type[errors.TryAgain]] = {error.code: error for error in _TEMPORARY}


def read(decoder: Decoder[T], response: Response) -> T:
    """Decode a response, or raise the error that it describes."""
    if not response.is_good:
        raise error_of(response)
    try:
        return decoder.decode(response.body)
    except Malformed as error:
        text = explained(response.body, decoder.shape) or plain(error)
        raise MasterFault(f"not a reply of a dte master: {text}") from None


def is_gone(status: int, error: errors.DteError | None) -> bool:
    """True for the reply of a proxy that does not reach its master, which may be restarting."""
    return isinstance(error, MasterFault) and status in (BAD_GATEWAY, GATEWAY_TIMEOUT)


def advised(refusal: errors.DteError, access: Access | None) -> errors.DteError:
    """Return the error of a refused token with the next step; any other error as it is."""
    if type(refusal) is not errors.Unauthorized:
        return refusal
    doubt = access.doubt() if access is not None else ""
    return errors.Unauthorized(f"{refusal}{doubt and '; '}{doubt}{TOKEN_ADVICE}")


def error_of(response: Response) -> errors.DteError:
    """Return the error that an error reply describes."""
    try:
        reply = _error.decode(response.body)
    except Malformed:
        text = response.body[:200].decode(errors="replace").strip()
        kind = _BY_PROXIES.get(response.status, MasterFault)
        advice = ""
        if response.status in REDIRECTED or b"HTTPS port" in response.body:
            advice = "; perhaps its URL begins with https://"
        return kind(f"status {response.status}, not from a dte master: {text}{advice}")
    if reply.code == errors.FormulaError.code:
        return errors.FormulaError(reply.reason, reply.column, reply.caret, reply.index)
    if reply.code == errors.WaitTooLong.code:
        return errors.WaitTooLong("", reply.wait_max_s)
    if reply.code in _TRY_AGAIN:
        text = response.retry_after or ""
        after_s = int(text) if text.isdecimal() and len(text) < 10 else RETRY_AFTER_S
        return _TRY_AGAIN[reply.code](reply.error, after_s)
    return _ERRORS.get(reply.code, MasterFault)(reply.error)
