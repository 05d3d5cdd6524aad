"""The errors of requests, with their HTTP status.

    DteError
    ├── InvalidRequest        400  the request cannot be understood
    │   ├── FormulaError      400  the formula has a syntax error, at a column
    │   └── WaitTooLong       400  a request asks to wait for longer than the bound
    ├── Unauthorized          401  there is no token, or an unknown or expired one
    ├── Forbidden             403  the token does not allow the request
    ├── NotFound              404
    ├── Conflict              409  a key or a name is in use for something else
    ├── TooLarge              413  a bound on one request or one formula
    ├── Unsupported           415  the body is compressed, or not in UTF-8
    └── TryAgain
        ├── Busy              429  a bound on unfinished work
        └── Unavailable       503  the master cannot accept work now
            ├── JournalDamaged  because its journal is damaged
            └── StorageFull   507  because its disk is full

Arithmetic that fails is not here: it is the outcome of a job, not a mistake of the caller.
"""

from __future__ import annotations

from typing import Any

CARET_WINDOW = 30
"""Characters shown on either side of a caret."""


class DteError(Exception):
    """Base of everything that dte raises on purpose.

    Attributes:
        status: the HTTP status of the reply.
        code: the error for programs; the text is for people.
    """

    status = 500
    code = "internal"

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling would call `__init__` with the text alone.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[DteError], args: tuple[Any, ...], state: dict[str, Any]) -> DteError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(state)
    return error


class InvalidRequest(DteError):
    status = 400
    code = "invalid"


class FormulaError(InvalidRequest):
    """A formula with a syntax error.

    Attributes:
        reason: the error without its position.
        column: the position, in characters from 1.
        caret: two lines, the formula around the column and a ``^`` below it.
        index: the index of the formula in its batch; None if it was sent alone.
    """

    code = "syntax"

    def __init__(self, reason: str, column: int, caret: str, index: int | None = None) -> None:
        position = f"column {column}" if index is None else f"formula {index}, column {column}"
        super().__init__(f"{reason} ({position})")
        self.reason = reason
        self.column = column
        self.caret = caret
        self.index = index


class WaitTooLong(InvalidRequest):
    """A request asks to wait for longer than the master lets it.

    Attributes:
        wait_max_s: the bound.
    """

    code = "wait_too_long"

    def __init__(self, wait: str, wait_max_s: float) -> None:
        super().__init__(f"wait={wait}: expected 0 to {wait_max_s:g} seconds (wait_max_s)")
        self.wait = wait
        self.wait_max_s = wait_max_s


class Unauthorized(DteError):
    """The request has no token, or one that the master does not know or that has expired."""

    status = 401
    code = "unauthorized"


class Forbidden(DteError):
    """The token of the request does not allow it, or a browser sent it from another site."""

    status = 403
    code = "forbidden"


class NotFound(DteError):
    status = 404
    code = "not_found"


class Conflict(DteError):
    status = 409
    code = "conflict"


class TooLarge(DteError):
    status = 413
    code = "too_large"


class Unsupported(DteError):
    status = 415
    code = "unsupported"


class TryAgain(DteError):
    """Base of errors that will pass by themselves.

    Attributes:
        retry_after_s: seconds after which a retry makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Busy(TryAgain):
    """Too much work is unfinished."""

    status = 429
    code = "busy"


class Unavailable(TryAgain):
    """The master cannot accept work now: it is ending, or cannot write its journal."""

    status = 503
    code = "unavailable"


class JournalDamaged(Unavailable):
    """The master's journal is damaged, which does not pass: its operator must mend it."""

    code = "journal_damaged"


class StorageFull(Unavailable):
    status = 507
    code = "storage_full"


def caret_lines(text: str, column: int) -> str:
    """The part of `text` around `column` (from 1), and below it a ``^`` at the column.

    Characters that would move the caret (line ends, tabs, other controls) become spaces.
    """
    start = max(0, column - 1 - CARET_WINDOW)
    end = min(len(text), column + CARET_WINDOW)
    shown = "".join(char if char.isprintable() else " " for char in text[start:end])
    left = "…" if start else ""
    right = "…" if end < len(text) else ""
    return f"{left}{shown}{right}\n{' ' * (len(left) + column - 1 - start)}^"
